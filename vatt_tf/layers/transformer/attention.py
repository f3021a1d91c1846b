"""Multi-head self-attention with one fused projection, and what it knows of positions."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.fusion import MaskKey, softmax_dropped
from vatt_tf.layers.recompute import recompute


@keras.saving.register_keras_serializable("vatt_tf")
class SelfAttention(ConfiguredLayer):
    """Multi-head self-attention (docs/reference.md, Transformer blocks).

    Query, key and value come from one Dense of width ``3 * num_heads * d_kv``; its columns are
    [all query heads | all key heads | all value heads], i.e. the concatenation of the released
    code's three kernels along the last axis (biases likewise). Each third is initialised with the
    limits of a separate Dense. The softmax is float32 under every dtype policy.

    With ``relative_distance`` k it has relative keys and values: Shaw, Uszkoreit, Vaswani,
    Self-Attention with Relative Position Representations (2018), equations 3 and 4. With the
    distance r = clip(j - i, -k, k) of key j from query i::

        score_ij = q_i (k_j + aK_r)        (times 1 / sqrt(d_kv) when scores are scaled)
        z_i      = sum over j of softmax(score)_ij (v_j + aV_r)

    The vectors aK and aV are as wide as a head and shared by the heads; each layer has its own.

    Args:
        num_heads: Number of heads.
        d_kv: Width of a head; the inner width ``num_heads * d_kv`` need not be the token width.
        dropout_rate: Dropout on the attention weights.
        use_bias: Whether the projections have biases.
        scale_scores: Whether scores are divided by sqrt(d_kv) (T5 does not).
        relative_distance: Distance k from which on all tokens of a side share a vector (paper: 16);
            None for no relative keys and values.

    Call arguments:
        inputs: [B, N, d]; N static with relative keys and values.
        bias: Added to the scores, broadcastable to [B, heads, N, N]; None for none.

    Returns:
        [B, N, d].
    """

    def __init__(
        self,
        num_heads: int,
        d_kv: int,
        dropout_rate: float = 0.0,
        use_bias: bool = True,
        scale_scores: bool = True,
        relative_distance: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_heads = num_heads
        self.d_kv = d_kv
        self.dropout_rate = dropout_rate
        self.use_bias = use_bias
        self.scale_scores = scale_scores
        self.relative_distance = relative_distance

        # === Layers ===
        self.dropout = Dropout(dropout_rate, dtype=self.dtype_policy, name="dropout")

    def build(self, inputs_shape: Any) -> None:
        width, inner = inputs_shape[-1], self.num_heads * self.d_kv
        # Glorot limits of a [width, inner] kernel, not of the three times wider fused one.
        thirds = keras.initializers.VarianceScaling(
            scale=(width + 3 * inner) / (width + inner), mode="fan_avg", distribution="uniform"
        )
        self.qkv = keras.layers.Dense(
            3 * inner,
            use_bias=self.use_bias,
            kernel_initializer=thirds,
            dtype=self.dtype_policy,
            name="qkv",
        )
        self.output_projection = keras.layers.Dense(
            width, use_bias=self.use_bias, dtype=self.dtype_policy, name="output"
        )
        self.qkv.build(inputs_shape)
        self.dropout.build((inputs_shape[0], self.num_heads, inputs_shape[1], inputs_shape[1]))
        self.output_projection.build((*inputs_shape[:-1], inner))
        if self.relative_distance is not None:
            shape = (2 * self.relative_distance + 1, self.d_kv)
            self.relative_keys, self.relative_values = (
                self.add_weight(name=f"relative_{name}", shape=shape, initializer="glorot_uniform")
                for name in ("keys", "values")
            )

    def call(self, inputs: Any, bias: Any = None, training: bool = False) -> Any:
        batch, length, _ = ops.shape(inputs)
        kept = self.draw_kept(batch, length, training)
        mix = functools.partial(self.mix, kept=kept)
        mixed = recompute(mix, self.qkv(inputs), bias, training=training)
        return self.output_projection(mixed)

    def draw_kept(self, batch: Any, length: Any, training: bool, agg_only: bool = False) -> Any:
        """Draws what dropout keeps of the weights, [B, heads, N or 1, N]; None for all."""
        shape = (batch, self.num_heads, 1 if agg_only else length, length)
        kept = self.dropout.draw(shape, training, may_be_key=True)
        # The order of the first runs, which go on with their masks.
        return kept._replace(heads_first=not agg_only) if isinstance(kept, MaskKey) else kept

    def mix(
        self, projected: Any, bias: Any = None, kept: Any = None, agg_only: bool = False
    ) -> Any:
        """Mixes the values of all tokens by their weights.

        Args:
            projected: Outputs of ``qkv``, [B, N, 3 * num_heads * d_kv].
            bias: As in a call.
            kept: What dropout keeps of the weights, [B, heads, N or 1, N]; None for all.
            agg_only: Whether the first token's mixture is all that is asked for.

        Returns:
            [B, N or 1, num_heads * d_kv], the heads side by side.
        """
        query, key, value = self._heads(projected)
        if agg_only:
            query, bias = query[:, :, :1], None if bias is None else bias[:, :, :1]
        weights = softmax_dropped(self._scores(query, key, bias), kept, value.dtype)
        mixed = ops.matmul(weights, value)
        if self.relative_distance is not None:
            table = self._relative(self.relative_values, weights)
            mixed = mixed + ops.einsum("bhij,ije->bhie", weights, table)
        if kept is not None:
            mixed = mixed * self.dropout.scale  # Fewer numbers than there are weights.
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        return ops.reshape(mixed, (-1, ops.shape(mixed)[1], self.num_heads * self.d_kv))

    def attention_weights(self, inputs: Any, bias: Any = None) -> Any:
        """Attention weights [B, heads, N, N] without dropout, to look at."""
        query, key, _ = self._heads(self.qkv(inputs))
        return softmax_dropped(self._scores(query, key, bias), None, query.dtype)

    def _heads(self, projected: Any) -> list[Any]:
        """Query, key and value, [B, heads, N, d_kv] each; queries with the factor of the scores."""
        shape = (-1, ops.shape(projected)[1], 3, self.num_heads, self.d_kv)
        heads = ops.transpose(ops.reshape(projected, shape), (2, 0, 3, 1, 4))
        query, key, value = ops.unstack(heads, 3, axis=0)
        return [query / math.sqrt(self.d_kv) if self.scale_scores else query, key, value]

    def _scores(self, query: Any, key: Any, bias: Any) -> Any:
        """Biased scores [B, heads, N or 1, N] in float32."""
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
        if self.relative_distance is not None:
            table = self._relative(self.relative_keys, scores)
            scores = scores + ops.einsum("bhie,ije->bhij", query, table)
        scores = ops.cast(scores, "float32")
        return scores if bias is None else scores + ops.cast(bias, "float32")

    def _relative(self, table: Any, scores: Any) -> Any:
        """Vector of every (query, key), [queries, N, d_kv]; queries are of the first tokens."""
        queries, length = scores.shape[2:]
        farthest = table.shape[0] // 2
        rows = np.clip(_distances(length), -farthest, farthest)[:queries] + farthest
        return ops.take(ops.cast(table, scores.dtype), ops.convert_to_tensor(rows), axis=0)


def _distances(length: int) -> np.ndarray:
    """Distance j - i for every (query i, key j), int32 [length, length]."""
    position = np.arange(length, dtype=np.int32)
    return position[None, :] - position[:, None]


def relative_buckets(length: int, buckets: int = 32, max_distance: int = 64) -> np.ndarray:
    """T5's bidirectional bucket of every (query, key) pair, int32 [length, length].

    Half of the buckets is for keys behind the query. In each half the first half holds exact
    distances, the rest grows with the logarithm up to ``max_distance``
    (docs/reference.md, Text tower).
    """
    relative = _distances(length)
    half = buckets // 2
    exact = half // 2
    distance = np.abs(relative)
    # float32 as in the released code: it decides on which side of a boundary a distance falls.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    ratio /= np.float32(math.log(max_distance / exact))
    coarse = exact + (ratio * np.float32(half - exact)).astype(np.int32)
    bucket = np.where(distance < exact, distance, np.minimum(coarse, half - 1))
    return (bucket + np.where(relative > 0, half, 0)).astype(np.int32)
