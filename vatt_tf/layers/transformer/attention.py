"""Multi-head self-attention with one fused projection, and T5's relative position bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.fusion import fused
from vatt_tf.layers.masks import Kept, MaskKey, masked
from vatt_tf.layers.recompute import add_data_dependency, first_value, with_backward
from vatt_tf.layers.transformer.checkpointed_dense import checkpointed_dense, on_rows

# Attention weights that are there at a time, if one head has not more. With the larger number a
# step of Base towers is 1.05 times as fast; the other is for those who ask for little memory.
MOST_WEIGHTS, FEWER_WEIGHTS = 2**24, 2**23


@keras.saving.register_keras_serializable("vatt_tf")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention (docs/reference.md, Transformer blocks).

    Query, key and value come from one Dense of width ``3 * num_heads * d_kv``; its columns are
    [all query heads | all key heads | all value heads], i.e. the concatenation of the released
    code's three kernels along the last axis (biases likewise). Each third is initialised with the
    limits of a separate Dense. The softmax is float32 under every dtype policy.

    Attributes:
        most_weights: Attention weights that are there at a time in training, if one head has not
            more. Changes no result, is no part of the configuration, and may be set at any time.

    Args:
        num_heads: Number of heads.
        d_kv: Width of a head; the inner width ``num_heads * d_kv`` need not be the token width.
        dropout_rate: Dropout on the attention weights.
        use_bias: Whether the projections have biases.
        scale_scores: Whether scores are divided by sqrt(d_kv) (T5 does not).

    Call arguments:
        inputs: [B, N, d].
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_heads = num_heads
        self.d_kv = d_kv
        self.dropout_rate = dropout_rate
        self.use_bias = use_bias
        self.scale_scores = scale_scores
        self.most_weights = MOST_WEIGHTS

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

    def call(self, inputs: Any, bias: Any = None, training: bool = False) -> Any:
        return self.from_projected(self.qkv(inputs), bias, training)

    def from_projected(self, fused: Any, bias: Any = None, training: bool = False) -> Any:
        """The attention from the outputs of ``qkv``, [B, N, 3 * num_heads * d_kv]."""
        if not training:
            query, key, value = ops.unstack(self._heads(fused), 3, axis=0)
            return self._mixed(query, key, value, bias, training)
        rows, length, _ = ops.shape(fused)
        kept = self.dropout.keep_mask((self.num_heads, rows, length, length), training)
        heads = ops.transpose(self._split(fused), (2, 3, 0, 1, 4))
        outputs = attend(
            heads, bias, kept, self._query_scale, self.dropout.scale, self.most_weights
        )
        outputs = ops.reshape(outputs, (-1, ops.shape(outputs)[1], self.num_heads * self.d_kv))
        dense = self.output_projection
        return checkpointed_dense(outputs, dense.kernel, dense.bias)

    def attend_agg(
        self, query: Any, keys_and_values: Any, bias: Any = None, training: bool = False
    ) -> Any:
        """The attention of the first token alone, [B, 1, d].

        Args:
            query: The first token's columns of ``qkv``, [B, 1, num_heads * d_kv].
            keys_and_values: The others' columns, of all tokens, [B, N, 2 * num_heads * d_kv].
            bias: As in a call.
            training: Switches dropout on.
        """
        (query,) = ops.unstack(self._heads(query, 1), 1, axis=0)
        key, value = ops.unstack(self._heads(keys_and_values, 2), 2, axis=0)
        return self._mixed(query, key, value, None if bias is None else bias[:, :, :1], training)

    def _mixed(self, query: Any, key: Any, value: Any, bias: Any, training: bool) -> Any:
        """From [B, heads, queries or N, d_kv]; the weights are kept for the backward pass."""
        weights = self.dropout(self._weights(query, key, bias), training=training)
        outputs = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        outputs = ops.reshape(outputs, (-1, ops.shape(outputs)[1], self.num_heads * self.d_kv))
        return on_rows(self.output_projection, outputs)

    def attention_weights(self, inputs: Any, bias: Any = None) -> Any:
        """Attention weights [B, heads, N, N] without dropout, to look at."""
        query, key, _ = ops.unstack(self._heads(self.qkv(inputs)), 3, axis=0)
        return self._weights(query, key, bias)

    def _weights(self, query: Any, key: Any, bias: Any) -> Any:
        return _softmax_weights(query * self._query_scale, key, bias)

    @property
    def _query_scale(self) -> float:
        return 1.0 / math.sqrt(self.d_kv) if self.scale_scores else 1.0

    def _heads(self, fused: Any, parts: int = 3) -> Any:
        """Query, key and value, or some of them, [parts, B, heads, N, d_kv]."""
        return ops.transpose(self._split(fused, parts), (2, 0, 3, 1, 4))

    def _split(self, fused: Any, parts: int = 3) -> Any:
        """The outputs of ``qkv`` as [B, N, parts, heads, d_kv]."""
        return ops.reshape(fused, (-1, ops.shape(fused)[1], parts, self.num_heads, self.d_kv))

    def compute_output_shape(self, inputs_shape: Any, bias_shape: Any = None) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_heads": self.num_heads,
            "d_kv": self.d_kv,
            "dropout_rate": self.dropout_rate,
            "use_bias": self.use_bias,
            "scale_scores": self.scale_scores,
        }
        return {**super().get_config(), **config}


def attend(
    heads: Any,
    bias: Any = None,
    kept: Kept = None,
    query_scale: float = 1.0,
    scale: float = 1.0,
    most_weights: int = MOST_WEIGHTS,
) -> Any:
    """``scale * (softmax(query_scale * query keyᵀ + bias) * kept) value`` of all heads.

    The weights, [B, heads, N, N], are most of what a Transformer would keep for its backward
    pass. Nothing of their size is kept here but the mask, where it is drawn: the backward pass
    computes them once more, which costs a few percent of its time. Long sequences are computed some
    heads at a time, so that the weights of all are never there together; heads come first, so that
    some of them lie side by side. The softmax is float32 under every policy.

    Args:
        heads: Query, key and value, [3, heads, B, N, d_kv].
        bias: Broadcastable to [B, heads, N, N], or None.
        kept: What dropout keeps of the weights, [heads, B, N, N].
        query_scale: Factor of the scores.
        scale: Factor of the outputs: what dropout multiplies the kept weights by.
        most_weights: Weights that are there at a time, if one head has not more.

    Returns:
        [B, N, heads, d_kv].
    """
    parts = _parts(ops.shape(heads), most_weights) if bias is None else [slice(None)]

    def forward(heads: Any, *bias: Any) -> Any:
        outputs: list[Any] = []
        tensors = ops.unstack(heads, 3, axis=0)
        for part in parts:
            query, key, value = (_part_of(tensor, part) for tensor in tensors)
            query = _scaled(query, query_scale, tuple(first_value(one) for one in outputs[-1:]))
            weights = _softmax_weights(query, key, *bias)
            weights = _kept_weights(weights, _mask_of(kept, part, heads), scale)
            outputs.append(ops.matmul(weights, value))
        return ops.transpose(_joined(outputs), (1, 2, 0, 3))

    def backward(upstream: Any, outputs: Any, heads: Any, *bias: Any) -> tuple[Any, ...]:
        # Softmax: w * (dw - sum of w * dw), a sum that is also that of upstream * outputs.
        sums = ops.sum(_float32(upstream) * _float32(outputs), axis=-1, keepdims=True)
        sums = ops.transpose(sums, (2, 0, 1, 3))
        upstream = ops.transpose(upstream, (2, 0, 1, 3))
        tensors = ops.unstack(heads, 3, axis=0)
        grads: list[list[Any]] = [[], [], []]
        first: tuple[Any, ...] = (first_value(upstream),)
        for part in parts:
            query, key, value = (_part_of(tensor, part) for tensor in tensors)
            grad_outputs = _scaled(_part_of(upstream, part), scale, first)
            mask = _mask_of(kept, part, heads)
            weights = _softmax_weights(_scaled(query, query_scale, first), key, *bias)
            grad_value = ops.matmul(_swap(_kept_weights(weights, mask)), grad_outputs)
            grad_weights = ops.matmul(grad_outputs, _swap(value))
            part_sums = _part_of(sums, part)
            grad_scores = _grad_scores(weights, mask, grad_weights, part_sums, query_scale)
            grad_bias = [_reduced_to(one, grad_scores / query_scale) for one in bias]
            grad_scores = ops.cast(grad_scores, query.dtype)
            grad_query = ops.matmul(grad_scores, key)
            grad_key = ops.matmul(_swap(grad_scores), query)
            for found, one in zip(grads, (grad_query, grad_key, grad_value), strict=True):
                found.append(one)
            first = (first_value(grad_query), first_value(grad_key))
        grad_heads = ops.concatenate([one for found in grads for one in found], axis=0)
        return (ops.reshape(grad_heads, ops.shape(heads)), *grad_bias)

    if bias is None:
        return with_backward(forward, backward)(heads)
    return with_backward(forward, backward)(heads, ops.transpose(bias, (1, 0, 2, 3)))


def _parts(shape: Sequence[Any], most_weights: int) -> list[slice]:
    """The heads that are computed together; all if they are few or their number is unknown."""
    _, count, rows, length, _ = shape
    if not all(isinstance(size, int) for size in shape):
        return [slice(None)]
    together = max(most_weights // (rows * length * length), 1)
    while count % together:  # Equal parts, of which chains of operations are compiled once.
        together -= 1
    if together == count:
        return [slice(None)]
    return [slice(start, start + together) for start in range(0, count, together)]


def _part_of(values: Any, part: slice) -> Any:
    """Some heads of [heads, ...]."""
    return values if part == slice(None) else values[part]


def _mask_of(kept: Kept, part: slice, heads: Any) -> Kept:
    """What dropout keeps of the weights of some heads."""
    if kept is None or part == slice(None):
        return kept
    if not isinstance(kept, MaskKey):
        return kept[part]
    _, _, rows, length, _ = heads.shape
    return kept.behind(part.start * rows * length * length)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=0)


@fused
def _scaled(query: Any, scale: float, first: tuple[Any, ...]) -> Any:
    return (add_data_dependency(first, query) if first else query) * scale


@fused
def _kept_weights(weights: Any, kept: Kept, scale: float = 1.0) -> Any:
    return scale * masked(weights, kept)


@fused
def _grad_scores(weights: Any, kept: Kept, grad_weights: Any, sums: Any, scale: float) -> Any:
    """Gradient of the scores, float32, through dropout and softmax; times ``scale``."""
    return scale * _float32(weights) * (masked(_float32(grad_weights), kept) - sums)


def _softmax_weights(query: Any, key: Any, bias: Any = None) -> Any:
    scores = _float32(ops.matmul(query, _swap(key)))
    if bias is not None:
        scores = scores + _float32(bias)
    return ops.cast(ops.softmax(scores, axis=-1), query.dtype)


def _swap(values: Any) -> Any:
    """Swaps the last two axes."""
    return ops.transpose(values, (0, 1, 3, 2))


def _float32(values: Any) -> Any:
    return ops.cast(values, "float32")


def _reduced_to(like: Any, gradient: Any) -> Any:
    """Sums a gradient over the axes along which ``like`` was broadcast."""
    axes = [axis for axis, size in enumerate(like.shape) if size == 1]
    return ops.cast(ops.sum(gradient, axis=axes, keepdims=True), like.dtype) if axes else gradient


def relative_buckets(length: int, buckets: int = 32, max_distance: int = 64) -> np.ndarray:
    """T5's bidirectional bucket of every (query, key) pair, int32 [length, length].

    Half of the buckets is for keys behind the query. In each half the first half holds exact
    distances, the rest grows with the logarithm up to ``max_distance``
    (docs/reference.md, Text tower).
    """
    position = np.arange(length)
    relative = position[None, :] - position[:, None]
    half = buckets // 2
    exact = half // 2
    distance = np.abs(relative)
    # float32 as in the released code: it decides on which side of a boundary a distance falls.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    ratio /= np.float32(math.log(max_distance / exact))
    coarse = exact + (ratio * np.float32(half - exact)).astype(np.int32)
    bucket = np.where(distance < exact, distance, np.minimum(coarse, half - 1))
    return (bucket + np.where(relative > 0, half, 0)).astype(np.int32)


@keras.saving.register_keras_serializable("vatt_tf")
class RelativePositionBias(keras.layers.Layer):
    """Learned bias of the attention scores by bucketed distance (VATT, section 3.2; T5).

    Args:
        num_heads: Number of heads.
        buckets: Number of buckets, half for each direction.
        max_distance: Distance from which on all share the last bucket.

    Call arguments:
        tokens: [B, N, ...]; only the static N is read.

    Returns:
        float32 [1, heads, N, N].
    """

    def __init__(
        self, num_heads: int, buckets: int = 32, max_distance: int = 64, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_heads = num_heads
        self.buckets = buckets
        self.max_distance = max_distance

    def build(self, tokens_shape: Any) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.buckets, self.num_heads),
            initializer="random_uniform",
            autocast=False,
        )

    def call(self, tokens: Any) -> Any:
        length = tokens.shape[1]
        buckets = relative_buckets(length, self.buckets, self.max_distance)
        bias = ops.take(self.embeddings, ops.convert_to_tensor(buckets.reshape(-1)), axis=0)
        bias = ops.reshape(ops.cast(bias, "float32"), (length, length, self.num_heads))
        return ops.transpose(bias, (2, 0, 1))[None]

    def compute_output_shape(self, tokens_shape: Any) -> Any:
        return (1, self.num_heads, tokens_shape[1], tokens_shape[1])

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_heads": self.num_heads,
            "buckets": self.buckets,
            "max_distance": self.max_distance,
        }
        return {**super().get_config(), **config}
