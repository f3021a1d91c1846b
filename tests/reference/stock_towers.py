"""VATT's towers of stock Keras layers, in the most direct way: row (a) of the benchmark's ablation.

Every patch is projected before DropToken picks some, attention has three projections, all tokens
go through the last block, dropout is Keras's own.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.tower import Tower
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.layers.dropout import kept_tokens
from vatt_tf.layers.transformer.attention import relative_buckets


class T5Attention(layers.Layer):
    """Self-attention with a bias and unscaled scores, which ``MultiHeadAttention`` has not."""

    def __init__(self, heads: int, d_kv: int, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.query, self.key, self.value = (
            layers.EinsumDense("bnd,dhk->bnhk", (None, heads, d_kv), name=name)
            for name in ("query", "key", "value")
        )
        self.dropout = layers.Dropout(rate)

    def build(self, shape: Any) -> None:
        self.output_projection = layers.EinsumDense(
            "bnhk,hkd->bnd", (None, shape[-1]), name="attention_output"
        )

    def call(self, tokens: Any, bias: Any, training: bool = False) -> Any:
        scores = ops.einsum("bnhk,bmhk->bhnm", self.query(tokens), self.key(tokens))
        weights = ops.softmax(scores + ops.cast(bias, scores.dtype))
        weights = self.dropout(weights, training=training)
        mixed = ops.einsum("bhnm,bmhk->bnhk", weights, self.value(tokens))
        return self.output_projection(mixed)


class Block(layers.Layer):
    """Pre-norm block, of T5's style for text."""

    def __init__(self, size: Any, rate: float, text: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if text:
            self.attention_norm = layers.RMSNormalization(epsilon=1e-6, name="attention_norm")
            self.attention = T5Attention(size.num_heads, size.d_kv, rate, name="attention")
        else:
            self.attention_norm = layers.LayerNormalization(epsilon=1e-6, name="attention_norm")
            self.attention = layers.MultiHeadAttention(
                size.num_heads, size.d_kv, dropout=rate, name="attention"
            )
        self.mlp_norm = layers.LayerNormalization(epsilon=1e-6, name="mlp_norm")
        dense = {"use_bias": not text}
        self.mlp_hidden = layers.Dense(size.d_ff, activation="gelu", name="mlp_hidden", **dense)
        self.mlp_output = layers.Dense(size.d_model, name="mlp_output", **dense)
        self.dropout = layers.Dropout(rate)

    def call(self, tokens: Any, bias: Any = None, training: bool = False) -> Any:
        hidden = self.attention_norm(tokens)
        second = hidden if bias is None else bias
        hidden = self.attention(hidden, second, training=training)
        tokens = tokens + self.dropout(hidden, training=training)
        hidden = self.mlp_hidden(self.mlp_norm(tokens))
        hidden = self.mlp_output(self.dropout(hidden, training=training))
        return tokens + self.dropout(hidden, training=training)


class TransformerTower(Tower):
    """What the towers share: AGG in front, blocks, the last norm."""

    def __init__(self, config: Any, text: bool = False, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        size = config.transformer_size()
        self.blocks = [
            Block(size, config.dropout_rate, text, name=f"block_{number}")
            for number in range(size.num_layers)
        ]
        norm = layers.RMSNormalization if text else layers.LayerNormalization
        self.final_norm = norm(epsilon=1e-6, name="final_norm")
        self.dropout = layers.Dropout(config.dropout_rate)

    def build(self, shape: Any) -> None:
        self.agg = self.add_weight(name="agg_token", shape=(self.agg_width,))
        # Builds what is called.
        self.compute_output_spec(keras.KerasTensor((1, *shape[1:]), "float32"))

    def with_agg(self, tokens: Any) -> Any:
        agg = ops.broadcast_to(self.agg, (ops.shape(tokens)[0], 1, self.agg_width))
        return ops.concatenate([ops.cast(agg, tokens.dtype), tokens], axis=1)

    def transform(self, tokens: Any, bias: Any, training: bool) -> dict[str, Any]:
        for block in self.blocks:
            tokens = block(tokens, bias, training=training)
        tokens = self.dropout(self.final_norm(tokens), training=training)
        return {"features": tokens[:, 1:], "features_pooled": tokens[:, 0]}


class PatchTower(TransformerTower):
    """Video frames or waveform to features."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        patch = config.patch if isinstance(config.patch, tuple) else (config.patch,)
        self.agg_width = config.transformer_size().d_model
        convolution = layers.Conv3D if len(patch) == 3 else layers.Conv1D
        self.patches = convolution(self.agg_width, patch, strides=patch, name="patch_embedding")
        self.grid = [n // p for n, p in zip(config.input_shape, patch, strict=False)]
        self.position_norm = layers.LayerNormalization(epsilon=1e-6, name="position_norm")
        self.position_dropout = layers.Dropout(config.position_dropout_rate)
        self.seed = keras.random.SeedGenerator()

    def build(self, shape: Any) -> None:
        self.tables = [
            self.add_weight(name=f"axis_{axis}", shape=(size, self.agg_width))
            for axis, size in enumerate(self.grid)
        ]
        super().build(shape)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        if len(self.grid) == 3:  # frames of 0 to 255
            inputs = ops.cast(inputs, self.compute_dtype) / 127.5 - 1.0
        tokens = self.patches(inputs) + self.position_norm(self.positions())
        tokens = ops.reshape(tokens, (-1, math.prod(self.grid), self.agg_width))
        tokens = self.position_dropout(tokens, training=training)
        if training and self.config.drop_token_rate:
            count = tokens.shape[1]
            kept = kept_tokens(count, self.config.drop_token_rate)
            order = keras.random.shuffle(ops.arange(count), seed=self.seed)
            tokens = ops.take(tokens, order[:kept], axis=1)
        return self.transform(self.with_agg(tokens), None, training)

    def positions(self) -> Any:
        """[*grid, d]."""
        total = 0.0
        for axis, table in enumerate(self.tables):
            shape = [1] * len(self.grid)
            shape[axis] = -1
            total = total + ops.reshape(table, (*shape, self.agg_width))
        return total


class TextTower(TransformerTower):
    """Word ids to features, with T5's relative position bias."""

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, text=True, **kwargs)
        size, self.agg_width = config.transformer_size(), config.embedding_dim
        self.words = layers.Embedding(
            config.vocab_size,
            config.embedding_dim,
            trainable=config.trainable_words,
            name="word_embedding",
        )
        self.pre_projection = layers.Dense(
            size.d_model, activation="gelu", use_bias=False, name="pre_projection"
        )
        self.bias_table = layers.Embedding(32, size.num_heads, name="position_bias")

    def call(self, words: Any, training: bool = False) -> dict[str, Any]:
        tokens = self.pre_projection(self.with_agg(self.words(words)))
        tokens = self.dropout(tokens, training=training)
        buckets = ops.convert_to_tensor(relative_buckets(words.shape[1] + 1))
        bias = ops.transpose(self.bias_table(buckets), (2, 0, 1))[None]
        padding = ops.pad(ops.cast(ops.equal(words, 0), bias.dtype), [[0, 0], [1, 0]]) * -1e9
        return self.transform(tokens, bias + padding[:, None, None, :], training)


TOWERS = {
    VideoTowerConfig: PatchTower,
    AudioTowerConfig: PatchTower,
    TextTowerConfig: TextTower,
}
