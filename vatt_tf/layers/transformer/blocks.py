"""The Transformer encoder that all towers share, and the switches that turn it into T5's."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.random import seed_scope
from vatt_tf.layers.recompute import add_data_dependency
from vatt_tf.layers.transformer.attention import (
    FEWER_WEIGHTS,
    MOST_WEIGHTS,
    RelativePositionBias,
    SelfAttention,
)
from vatt_tf.layers.transformer.checkpointed_dense import dense_of, gelu_dense, norm_dense, on_rows
from vatt_tf.layers.transformer.shaw_attention import ShawAttention

NORMS = ("layer_norm", "rms_norm")


def _make_norm(kind: str, policy: keras.DTypePolicy, name: str) -> keras.layers.Layer:
    """A layer norm or T5's RMS norm (scale only); both keep their statistics in float32."""
    if kind == "layer_norm":
        return keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name=name)
    if kind == "rms_norm":
        return keras.layers.RMSNormalization(epsilon=1e-6, dtype=policy, name=name)
    raise ValueError(f"norm must be one of {NORMS}, got {kind!r}")


def _norm_then_dense(
    norm: keras.layers.Layer, dense: keras.layers.Dense, inputs: Any, training: bool
) -> Any:
    """``dense(norm(inputs))``; outside training from stock layers."""
    if training and isinstance(norm, keras.layers.LayerNormalization):
        return norm_dense(inputs, norm.gamma, norm.beta, dense.kernel, dense.bias, norm.epsilon)
    return on_rows(dense, norm(inputs))


def _columns_of_normed(
    norm: keras.layers.Layer,
    dense: keras.layers.Dense,
    columns: slice,
    inputs: Any,
    training: bool,
) -> Any:
    """Some columns of ``dense(norm(inputs))``."""
    kernel = dense.kernel[:, columns]
    bias = None if dense.bias is None else dense.bias[columns]
    if training and isinstance(norm, keras.layers.LayerNormalization):
        return norm_dense(inputs, norm.gamma, norm.beta, kernel, bias, norm.epsilon)
    return dense_of(norm(inputs), kernel, bias)


@keras.saving.register_keras_serializable("vatt_tf")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm block: x + attention(norm(x)), then x + MLP(layer_norm(x)).

    Source: docs/reference.md, Transformer blocks.

    The MLP's norm is a layer norm with offset also in the T5 variant, as in the released code.

    Args:
        num_heads: Number of attention heads.
        d_kv: Width of a head.
        d_ff: Width of the MLP's hidden layer (exact GELU).
        dropout_rate: Rate of all four dropouts (weights, attention output, hidden, MLP output).
        use_bias: Whether the six projections have biases.
        norm: Norm before the attention, ``"layer_norm"`` or ``"rms_norm"``.
        scale_scores: Whether scores are divided by sqrt(d_kv).
        relative_distance: Largest distance of Shaw's relative keys and values; None for none.

    Call arguments:
        inputs: [B, N, d].
        bias: Bias of the attention scores, broadcastable to [B, heads, N, N], or None.
        agg_only: Whether the first token's output is all that is asked for. It needs the keys and
            values of all tokens and nothing else of the others: a sixth of the products.

    Returns:
        [B, N, d]; [B, 1, d] of the first token only.
    """

    def __init__(
        self,
        *,
        num_heads: int,
        d_kv: int,
        d_ff: int,
        dropout_rate: float = 0.0,
        use_bias: bool = True,
        norm: str = "layer_norm",
        scale_scores: bool = True,
        relative_distance: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_heads = num_heads
        self.d_kv = d_kv
        self.d_ff = d_ff
        self.dropout_rate = dropout_rate
        self.use_bias = use_bias
        self.norm = norm
        self.scale_scores = scale_scores
        self.relative_distance = relative_distance

        # === Layers ===
        policy = self.dtype_policy
        self.attention_norm = _make_norm(norm, policy, "attention_norm")
        attention = {
            "num_heads": num_heads,
            "d_kv": d_kv,
            "dropout_rate": dropout_rate,
            "use_bias": use_bias,
            "scale_scores": scale_scores,
            "dtype": policy,
            "name": "attention",
        }
        if relative_distance is None:
            self.attention = SelfAttention(**attention)
        else:
            self.attention = ShawAttention(**attention, max_distance=relative_distance)
        self.attention_dropout = Dropout(dropout_rate, dtype=policy, name="attention_dropout")
        self.mlp_norm = _make_norm("layer_norm", policy, "mlp_norm")
        self.mlp_hidden = keras.layers.Dense(
            d_ff, use_bias=use_bias, dtype=policy, name="mlp_hidden"
        )
        self.mlp_hidden_dropout = Dropout(dropout_rate, dtype=policy, name="mlp_hidden_dropout")
        self.mlp_dropout = Dropout(dropout_rate, dtype=policy, name="mlp_dropout")

    def build(self, inputs_shape: Any) -> None:
        hidden_shape = (*inputs_shape[:-1], self.d_ff)
        # Its width is that of the tokens, which only the input tells.
        self.mlp_output = keras.layers.Dense(
            inputs_shape[-1], use_bias=self.use_bias, dtype=self.dtype_policy, name="mlp_output"
        )
        self.attention_norm.build(inputs_shape)
        self.attention.build(inputs_shape)
        self.attention_dropout.build(inputs_shape)
        self.mlp_norm.build(inputs_shape)
        self.mlp_hidden.build(inputs_shape)
        self.mlp_hidden_dropout.build(hidden_shape)
        self.mlp_output.build(hidden_shape)
        self.mlp_dropout.build(inputs_shape)

    def call(
        self, inputs: Any, bias: Any = None, training: bool = False, agg_only: bool = False
    ) -> Any:
        if agg_only:
            hidden = self._attend_agg(inputs, bias, training)
            inputs = inputs[:, :1]
        else:
            hidden = _norm_then_dense(self.attention_norm, self.attention.qkv, inputs, training)
            hidden = self.attention.from_projected(hidden, bias, training)
        inputs = self.attention_dropout.add_to(inputs, hidden, training)
        if not training:
            return inputs + on_rows(self._mlp, self.mlp_norm(inputs))
        hidden = _norm_then_dense(self.mlp_norm, self.mlp_hidden, inputs, training)
        dropout, dense = self.mlp_hidden_dropout, self.mlp_output
        kept = dropout.keep_mask(ops.shape(hidden), training)
        hidden = gelu_dense(hidden, dense.kernel, dense.bias, kept, dropout.scale)
        return self.mlp_dropout.add_to(inputs, hidden, training)

    def _attend_agg(self, inputs: Any, bias: Any, training: bool) -> Any:
        inner = self.num_heads * self.d_kv
        normed = functools.partial(_columns_of_normed, self.attention_norm, self.attention.qkv)
        query = normed(slice(None, inner), inputs[:, :1], training)
        keys_and_values = normed(slice(inner, None), inputs, training)
        return self.attention.attend_agg(query, keys_and_values, bias, training)

    def _mlp(self, rows: Any) -> Any:
        return self.mlp_output(ops.gelu(self.mlp_hidden(rows), approximate=False))

    def draw_key(self) -> Any:
        """A random key for all draws of one call, integer [2]; None when there are none."""
        return self.attention_dropout.seed_stream.next() if self.dropout_rate else None

    def compute_output_shape(self, inputs_shape: Any, bias_shape: Any = None) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_heads": self.num_heads,
            "d_kv": self.d_kv,
            "d_ff": self.d_ff,
            "dropout_rate": self.dropout_rate,
            "use_bias": self.use_bias,
            "norm": self.norm,
            "scale_scores": self.scale_scores,
            "relative_distance": self.relative_distance,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("vatt_tf")
class Transformer(keras.layers.Layer):
    """Stack of :class:`TransformerBlock` with a final norm and dropout.

    The defaults are the video, audio and agnostic encoder (ViT style). The text tower's T5 style is
    ``use_bias=False, norm="rms_norm", scale_scores=False, relative_bias=True``, or with
    ``relative_distance=16`` in place of ``relative_bias``.

    Attributes:
        remat: Whether the backward pass computes each block once more and keeps only the tokens
            between the blocks: much less memory for one more forward pass. Attention then has
            fewer weights at a time, too. Changes no result, is no part of the configuration, and
            may be set at any time.

    Args:
        num_layers: Number of blocks.
        num_heads: Number of attention heads.
        d_kv: Width of a head.
        d_ff: Width of the MLPs.
        dropout_rate: Rate of every dropout.
        use_bias: Whether the projections have biases.
        norm: Norm before each attention and at the end.
        scale_scores: Whether attention scores are divided by sqrt(d_kv).
        relative_bias: Whether a relative position bias is learned; one table, used by all blocks.
        relative_distance: Largest distance of Shaw's relative keys and values, which each block has
            for itself; None for none.

    Call arguments:
        tokens: [B, N, d].
        attention_mask: [B, N], 1 (or True) for tokens that may be attended to; None for all.
        agg_only: Whether the first token's output is all that is asked for: the last block then
            computes no other.

    Returns:
        [B, N, d]; [B, 1, d] of the first token only.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_heads: int,
        d_kv: int,
        d_ff: int,
        dropout_rate: float = 0.0,
        use_bias: bool = True,
        norm: str = "layer_norm",
        scale_scores: bool = True,
        relative_bias: bool = False,
        relative_distance: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.d_kv = d_kv
        self.d_ff = d_ff
        self.dropout_rate = dropout_rate
        self.use_bias = use_bias
        self.norm = norm
        self.scale_scores = scale_scores
        self.relative_bias = relative_bias
        self.relative_distance = relative_distance
        # === Layers ===
        policy = self.dtype_policy
        # A tuple: TensorFlow checkpoints silently skip layers kept in lists or dicts.
        self.blocks = tuple(
            TransformerBlock(
                num_heads=num_heads,
                d_kv=d_kv,
                d_ff=d_ff,
                dropout_rate=dropout_rate,
                use_bias=use_bias,
                norm=norm,
                scale_scores=scale_scores,
                relative_distance=relative_distance,
                dtype=policy,
                name=f"block_{index}",
            )
            for index in range(num_layers)
        )
        if relative_bias:
            self.position_bias = RelativePositionBias(num_heads, dtype=policy, name="position_bias")
        self.final_norm = _make_norm(norm, policy, "final_norm")
        self.final_dropout = Dropout(dropout_rate, dtype=policy, name="final_dropout")
        self.remat = False

    @property
    def remat(self) -> bool:
        """See the attributes of the class."""
        return self._remat

    @remat.setter
    def remat(self, remat: bool) -> None:
        self._remat = remat
        for block in self.blocks:
            block.attention.most_weights = FEWER_WEIGHTS if remat else MOST_WEIGHTS

    def build(self, tokens_shape: Any) -> None:
        for block in self.blocks:
            block.build(tokens_shape)
        if self.relative_bias:
            self.position_bias.build(tokens_shape)
        self.final_norm.build(tokens_shape)
        self.final_dropout.build(tokens_shape)

    def call(
        self,
        tokens: Any,
        attention_mask: Any = None,
        training: bool = False,
        agg_only: bool = False,
    ) -> Any:
        bias = self.attention_bias(tokens, attention_mask)
        for block in self.blocks:
            is_last = block is self.blocks[-1]
            tokens = self._through(block, tokens, bias, training, agg_only and is_last)
        return self.final_dropout(self.final_norm(tokens), training=training)

    def _through(
        self, block: TransformerBlock, tokens: Any, bias: Any, training: bool, agg_only: bool
    ) -> Any:
        if not training:
            return block(tokens, bias=bias, agg_only=agg_only)
        key = block.draw_key()

        def run(tokens: Any, *bias: Any) -> Any:
            # A block draws from a key of its own: computed once more, it draws the same. A graph
            # would draw the masks of all blocks at its very begin, and hold them.
            late = None if key is None else add_data_dependency(tokens, key)
            with contextlib.nullcontext() if late is None else seed_scope(late):
                bias_or_none = bias[0] if bias else None
                return block(tokens, bias=bias_or_none, training=True, agg_only=agg_only)

        if self.remat:
            run = keras.remat(run)
        return run(tokens, *(() if bias is None else (bias,)))

    def attention_bias(self, tokens: Any, attention_mask: Any = None) -> Any:
        """Relative bias plus -1e9 where the mask is 0; float32 [B or 1, heads or 1, N or 1, N]."""
        bias = self.position_bias(tokens) if self.relative_bias else None
        if attention_mask is not None:
            padding = (1.0 - ops.cast(attention_mask, "float32"))[:, None, None, :] * -1e9
            bias = padding if bias is None else bias + padding
        return bias

    def compute_output_shape(self, tokens_shape: Any, attention_mask_shape: Any = None) -> Any:
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "d_kv": self.d_kv,
            "d_ff": self.d_ff,
            "dropout_rate": self.dropout_rate,
            "use_bias": self.use_bias,
            "norm": self.norm,
            "scale_scores": self.scale_scores,
            "relative_bias": self.relative_bias,
            "relative_distance": self.relative_distance,
        }
        return {**super().get_config(), **config}
