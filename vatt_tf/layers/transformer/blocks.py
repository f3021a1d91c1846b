"""The Transformer encoder that all towers share, and the switches that turn it into T5's."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.fusion import gelu_dropped
from vatt_tf.layers.random import seed_scope
from vatt_tf.layers.recompute import recompute
from vatt_tf.layers.transformer.attention import SelfAttention, relative_buckets
from vatt_tf.layers.transformer.positions import float32_of

# Positions that the bias of T5 tells apart.
BUCKETS = 32
NORMS = {
    "layer_norm": keras.layers.LayerNormalization,
    "rms_norm": keras.layers.RMSNormalization,
}


def _make_norm(kind: str, policy: keras.DTypePolicy, name: str) -> keras.layers.Layer:
    """A layer norm or T5's RMS norm (scale only); both keep their statistics in float32."""
    if kind not in NORMS:
        raise ValueError(f"norm must be one of {tuple(NORMS)}, got {kind!r}")
    return NORMS[kind](epsilon=1e-6, dtype=policy, name=name)


@keras.saving.register_keras_serializable("vatt_tf")
class TransformerBlock(ConfiguredLayer):
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
        remat: See :class:`Transformer`.

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
        self.attention = SelfAttention(
            num_heads,
            d_kv,
            dropout_rate,
            use_bias,
            scale_scores,
            relative_distance,
            dtype=policy,
            name="attention",
        )
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
        attention = (self.attention_norm, self.attention, self.attention_dropout)
        for layer in (*attention, self.mlp_norm, self.mlp_hidden):
            layer.build(inputs_shape)
        self.mlp_hidden_dropout.build(hidden_shape)
        self.mlp_output.build(hidden_shape)
        self.mlp_dropout.build(inputs_shape)

    def call(
        self,
        inputs: Any,
        bias: Any = None,
        training: bool = False,
        agg_only: bool = False,
        remat: bool = False,
    ) -> Any:
        # Drawn outside of what is computed again, which would draw anew.
        masks = self._draw_masks(inputs, training, agg_only)
        body = functools.partial(self._body, masks=masks, training=training, agg_only=agg_only)
        return recompute(body, inputs, bias, training=training and remat)

    def _body(self, tokens: Any, bias: Any, masks: Any, training: bool, agg_only: bool) -> Any:
        # The backward pass keeps what stands between these lines, and computes the rest again.
        region = functools.partial(recompute, training=training)
        kept_weights, kept_mixed, kept_hidden, kept_outputs = masks
        mix = functools.partial(self.attention.mix, kept=kept_weights, agg_only=agg_only)
        mixed = region(mix, region(self._project, tokens), bias)
        mixed = self.attention.output_projection(mixed)
        tokens = tokens[:, :1] if agg_only else tokens
        tokens = tokens + self.attention_dropout.apply(mixed, kept_mixed)
        hidden = region(self._mlp_hidden, tokens)
        outputs = region(functools.partial(self._mlp_output, kept=kept_hidden), hidden)
        return tokens + self.mlp_dropout.apply(outputs, kept_outputs)

    def _draw_masks(self, inputs: Any, training: bool, agg_only: bool) -> tuple[Any, ...]:
        """What the dropouts keep of weights, their mixture, the hidden layer and the outputs."""
        if not training or not self.dropout_rate:
            return (None,) * 4
        batch, length, width = ops.shape(inputs)
        queries = 1 if agg_only else length
        tokens, hidden = (batch, queries, width), (batch, queries, self.d_ff)
        with seed_scope(self.attention_dropout.seed_stream.next()):  # A key for each block.
            return (
                self.attention.draw_kept(batch, length, training, agg_only),
                self.attention_dropout.draw(tokens, training),
                self.mlp_hidden_dropout.draw(hidden, training, may_be_key=True),
                self.mlp_dropout.draw(tokens, training),
            )

    def _project(self, tokens: Any) -> Any:
        return self.attention.qkv(self.attention_norm(tokens))

    def _mlp_hidden(self, tokens: Any) -> Any:
        return self.mlp_hidden(self.mlp_norm(tokens))

    def _mlp_output(self, hidden: Any, kept: Any) -> Any:
        scale = 1.0 if kept is None else self.mlp_hidden_dropout.scale
        return self.mlp_output(gelu_dropped(hidden, kept, scale))


@keras.saving.register_keras_serializable("vatt_tf")
class Transformer(ConfiguredLayer):
    """Stack of :class:`TransformerBlock` with a final norm and dropout.

    The defaults are the video, audio and agnostic encoder (ViT style). The text tower's T5 style is
    ``use_bias=False, norm="rms_norm", scale_scores=False, relative_bias=True``, or with
    ``relative_distance=16`` in place of ``relative_bias``.

    Attributes:
        remat: Whether the backward pass computes each block once more and keeps only the tokens
            between the blocks: much less memory for one more forward pass. Changes no result, is no
            part of the configuration, and may be set at any time.

    Args:
        num_layers: Number of blocks.
        relative_bias: Whether a relative position bias is learned; one table, used by all blocks.
        name: Of the layer.
        dtype: Dtype policy.
        trainable: Whether the variables are trained.
        **block: Arguments of each :class:`TransformerBlock`, whose norm and dropout also end the
            stack.

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
        relative_bias: bool = False,
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        **block: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, trainable=trainable)

        # === Config ===
        self.num_layers = num_layers
        self.relative_bias = relative_bias

        # === Layers ===
        policy = self.dtype_policy
        # A tuple: TensorFlow checkpoints silently skip layers kept in lists or dicts.
        self.blocks = tuple(
            TransformerBlock(**block, dtype=policy, name=f"block_{index}")
            for index in range(num_layers)
        )
        first = self.blocks[0]
        if relative_bias:
            self.position_bias = keras.layers.Embedding(
                BUCKETS, first.num_heads, dtype=float32_of(policy), name="position_bias"
            )
        self.final_norm = _make_norm(first.norm, policy, "final_norm")
        self.final_dropout = Dropout(first.dropout_rate, dtype=policy, name="final_dropout")
        self.remat = False

    def build(self, tokens_shape: Any) -> None:
        for layer in (*self.blocks, self.final_norm, self.final_dropout):
            layer.build(tokens_shape)
        if self.relative_bias:
            self.position_bias.build(tokens_shape)

    def call(
        self,
        tokens: Any,
        attention_mask: Any = None,
        training: bool = False,
        agg_only: bool = False,
    ) -> Any:
        bias = self.attention_bias(tokens, attention_mask)
        arguments = {"bias": bias, "training": training, "remat": self.remat}
        for block in self.blocks[:-1]:
            tokens = block(tokens, **arguments)
        tokens = self.blocks[-1](tokens, agg_only=agg_only, **arguments)
        return self.final_dropout(self.final_norm(tokens), training=training)

    def attention_bias(self, tokens: Any, attention_mask: Any = None) -> Any:
        """Relative bias plus -1e9 where the mask is 0; float32 [B or 1, heads or 1, N or 1, N]."""
        bias = None
        if self.relative_bias:
            bias = self.position_bias(relative_buckets(tokens.shape[1], BUCKETS))
            bias = ops.transpose(bias, (2, 0, 1))[None]
        if attention_mask is not None:
            dtype = "float32" if bias is None else bias.dtype
            padding = (1.0 - ops.cast(attention_mask, dtype))[:, None, None, :] * -1e9
            bias = padding if bias is None else bias + padding
        return bias

    def get_config(self) -> dict[str, Any]:
        return {**self.blocks[0].get_config(), **super().get_config()}
