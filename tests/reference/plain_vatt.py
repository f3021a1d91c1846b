"""VATT and its training step in the most direct way, to compare results and speed with.

Plain TensorFlow in float32: one projection each for query, key, value and output, einsums, every
patch projected before DropToken picks some, every dropout mask a float tensor, Adam. Nothing is
shared with the package but the names of the weights, so that both can start from the same ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from vatt_tf.layers.transformer.attention import relative_buckets
from vatt_tf.models.config.vatt import VattConfig

Weights = Mapping[str, np.ndarray]


class PlainVATT:
    """Waveform, video and T5-style text towers with the FAC head.

    Args:
        config: A model of separate towers.
        weights: Values by path, as in ``{weight.path: ...}`` of ``vatt_tf``'s VATT.

    Raises:
        ValueError: If the configuration asks for anything else.
    """

    def __init__(self, config: VattConfig, weights: Weights) -> None:
        text = (config.text.kind, config.text.positions)
        plain = (config.kind, config.audio.input, *text, config.head.kind)
        if plain != ("specific", "waveform", "t5", "t5", "fac"):
            raise ValueError(
                "the plain reference is written for separate towers, waveforms, a T5 Transformer "
                f"for text and the fac head, not for {plain}"
            )
        self.config = config
        self._variables: dict[str, tf.Variable] = {}
        for path, value in weights.items():
            self._add(path.removeprefix("vatt/"), value)

    def _add(self, path: str, value: np.ndarray) -> None:
        for third, name in enumerate(("query", "key", "value") if "/qkv/" in path else ()):
            part = np.split(value, 3, axis=-1)[third]
            self._variables[path.replace("qkv", name)] = tf.Variable(part)
        if "/qkv/" not in path:
            trained = "moving_" not in path
            if path == "text/word_embedding/embeddings":
                trained = self.config.text.trainable_words
            self._variables[path] = tf.Variable(value, trainable=trained)

    @property
    def trainable_variables(self) -> dict[str, tf.Variable]:
        """By path."""
        return {path: value for path, value in self._variables.items() if value.trainable}

    def __call__(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, Any]:
        """The embeddings of the spaces ``va`` and ``vt``."""
        return self.head(self.encode(inputs, training), training)

    def encode(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> dict[str, tf.Tensor]:
        """The AGG outputs of the towers."""
        words = inputs["text"]
        texts = self.text(tf.reshape(words, (-1, words.shape[-1])), training)
        return {
            "video": self.video(inputs["video"], training),
            "audio": self.audio(inputs["audio"], training),
            "text": tf.reshape(texts, (*words.shape[:-1], -1)),
        }

    # --- Towers ---
    def video(self, frames: tf.Tensor, training: bool = False) -> tf.Tensor:
        """uint8 [B, T, H, W, 3] -> [B, d]."""
        config = self.config.video
        frames = tf.cast(frames, tf.float32) / 127.5 - 1.0
        kernel, bias = self._pair("video/patch_embedding")
        strides = (1, *config.patch, 1)
        tokens = tf.nn.conv3d(frames, kernel, strides, "VALID") + bias
        tables = [
            self._variables[f"video/positions/{axis}_embeddings"]
            for axis in ("temporal", "vertical", "horizontal")
        ]
        time, height, width = tables
        positions = time[:, None, None] + height[None, :, None] + width[None, None, :]
        return self._patches("video", tokens, positions, config, training)

    def audio(self, samples: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [B, samples, 1] -> [B, d]."""
        config = self.config.audio
        kernel, bias = self._pair("audio/patch_embedding")
        tokens = tf.nn.conv1d(samples, kernel, config.patch, "VALID") + bias
        positions = self._variables["audio/positions/temporal_embeddings"]
        return self._patches("audio", tokens, tf.identity(positions), config, training)

    def _patches(self, tower, tokens, positions, config, training):
        width = tokens.shape[-1]
        positions = self._layer_norm(f"{tower}/positions/layer_norm", positions)
        tokens = tf.reshape(tokens + positions, (tokens.shape[0], -1, width))
        if training:
            tokens = dropout(tokens, config.position_dropout_rate)
            kept = int((1.0 - config.drop_token_rate) * tokens.shape[1])
            order = tf.random.shuffle(tf.range(tokens.shape[1]))
            if config.drop_token_rate:
                tokens = tf.gather(tokens, order[:kept], axis=1)
        agg = tf.tile(
            self._variables[f"{tower}/agg_token/embedding"][None, None], (tokens.shape[0], 1, 1)
        )
        tokens = tf.concat([agg, tokens], axis=1)
        tokens = self._transformer(tower, tokens, config, None, training)
        return tokens[:, 0]

    def text(self, words: tf.Tensor, training: bool = False) -> tf.Tensor:
        """int32 [B, L] -> [B, d]."""
        config = self.config.text
        tokens = tf.gather(self._variables["text/word_embedding/embeddings"], words)
        agg = tf.tile(
            self._variables["text/agg_token/embedding"][None, None], (words.shape[0], 1, 1)
        )
        tokens = tf.concat([agg, tokens], axis=1)
        tokens = tf.nn.gelu(tokens @ self._variables["text/pre_projection/kernel"])
        if training:
            tokens = dropout(tokens, config.dropout_rate)
        length = words.shape[1] + 1
        table = self._variables["text/transformer/position_bias/embeddings"]
        bias = tf.transpose(tf.gather(table, relative_buckets(length)), (2, 0, 1))[None]
        padding = tf.pad(tf.cast(words == 0, tf.float32), [[0, 0], [1, 0]]) * -1e9
        bias = bias + padding[:, None, None, :]
        return self._transformer("text", tokens, config, bias, training)[:, 0]

    # --- Transformer ---
    def _transformer(self, tower, tokens, config, bias, training):
        size = config.transformer_size()
        rate = config.dropout_rate if training else 0.0
        for number in range(size.num_layers):
            block = f"{tower}/transformer/block_{number}"
            hidden = self._norm(f"{block}/attention_norm", tokens)
            hidden = self._attention(f"{block}/attention", hidden, size, bias, rate)
            tokens = tokens + dropout(hidden, rate)
            hidden = self._layer_norm(f"{block}/mlp_norm", tokens)
            hidden = dropout(tf.nn.gelu(self._dense(f"{block}/mlp_hidden", hidden)), rate)
            tokens = tokens + dropout(self._dense(f"{block}/mlp_output", hidden), rate)
        return dropout(self._norm(f"{tower}/transformer/final_norm", tokens), rate)

    def _attention(self, path, tokens, size, bias, rate):
        def heads(name):
            projected = self._dense(f"{path}/{name}", tokens)
            return tf.reshape(projected, (*tokens.shape[:2], size.num_heads, size.d_kv))

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = tf.einsum("bnhk,bmhk->bhnm", query, key)
        # T5 does not scale, and has a bias instead.
        scores = scores / size.d_kv**0.5 if bias is None else scores + bias
        weights = dropout(tf.nn.softmax(scores), rate)
        mixed = tf.einsum("bhnm,bmhk->bnhk", weights, value)
        mixed = tf.reshape(mixed, (*tokens.shape[:2], size.num_heads * size.d_kv))
        return self._dense(f"{path}/output", mixed)

    def _norm(self, path, tokens):
        if f"{path}/gamma" in self._variables:
            return self._layer_norm(path, tokens)
        mean_square = tf.reduce_mean(tf.square(tokens), axis=-1, keepdims=True)
        return tokens * tf.math.rsqrt(mean_square + 1e-6) * self._variables[f"{path}/scale"]

    def _layer_norm(self, path, tokens):
        mean, variance = tf.nn.moments(tokens, axes=-1, keepdims=True)
        gamma, beta = self._variables[f"{path}/gamma"], self._variables[f"{path}/beta"]
        return tf.nn.batch_normalization(tokens, mean, variance, beta, gamma, 1e-6)

    def _dense(self, path, tokens):
        outputs = tf.tensordot(tokens, self._variables[f"{path}/kernel"], 1)
        bias = self._variables.get(f"{path}/bias")
        return outputs if bias is None else outputs + bias

    def _pair(self, path):
        return self._variables[f"{path}/kernel"], self._variables[f"{path}/bias"]

    # --- Head and loss ---
    def head(self, features: Mapping[str, tf.Tensor], training: bool = False) -> dict[str, Any]:
        """From the towers' features to the embeddings."""
        hidden = self._dense("head/video_to_va/hidden", features["video"])
        hidden = tf.nn.relu(self._batch_norm("head/video_to_va/hidden_norm", hidden, training))
        video = self._dense("head/video_to_va/projection", hidden)
        video = self._batch_norm("head/video_to_va/norm", video, training)
        coarse = self._dense("head/va_to_vt/projection", tf.nn.relu(video))
        return {
            "va": {"video": video, "audio": self._dense("head/audio_to_va", features["audio"])},
            "vt": {
                "video": self._batch_norm("head/va_to_vt/norm", coarse, training),
                "text": self._dense("head/text_to_vt", features["text"]),
            },
        }

    def _batch_norm(self, path, rows, training):
        mean, variance = (self._variables[f"{path}/moving_{what}"] for what in ("mean", "variance"))
        if training:
            batch_mean, batch_variance = tf.nn.moments(rows, axes=0)
            mean.assign(0.9 * mean + 0.1 * batch_mean)
            variance.assign(0.9 * variance + 0.1 * batch_variance)
            mean, variance = batch_mean, batch_variance
        gamma, beta = self._variables[f"{path}/gamma"], self._variables[f"{path}/beta"]
        return tf.nn.batch_normalization(rows, mean, variance, beta, gamma, 1e-5)


def dropout(values: tf.Tensor, rate: float) -> tf.Tensor:
    """A float mask of the size of the values."""
    if not rate:
        return values
    mask = tf.cast(tf.random.uniform(values.shape) >= rate, tf.float32)
    return values * mask / (1.0 - rate)


def loss(spaces: Mapping[str, Any], temperature: float = 0.07) -> tf.Tensor:
    """NCE plus MIL-NCE over a batch in which nothing is missing (paper, equations 4 to 6)."""
    audio = spaces["va"]["audio"][:, tf.newaxis]
    return _mil_nce(spaces["va"]["video"], audio, temperature) + _mil_nce(
        spaces["vt"]["video"], spaces["vt"]["text"], temperature
    )


def _mil_nce(anchors: tf.Tensor, candidates: tf.Tensor, temperature: float) -> tf.Tensor:
    anchors, candidates = tf.nn.l2_normalize(anchors, -1), tf.nn.l2_normalize(candidates, -1)
    scores = tf.exp(tf.einsum("id,jpd->ijp", anchors, candidates) / temperature)
    scores = tf.reduce_sum(scores, axis=-1)
    positive = tf.linalg.diag_part(scores)
    everything = tf.reduce_sum(scores, axis=0) + tf.reduce_sum(scores, axis=1) - positive
    return tf.reduce_mean(tf.math.log(everything) - tf.math.log(positive))


class PlainStep:
    """One training step: gradients of everything at once, then Adam.

    Args:
        model: What is trained.
        learning_rate: Adam's.
    """

    def __init__(self, model: PlainVATT, learning_rate: float = 1e-4) -> None:
        self._model = model
        self._variables = list(model.trainable_variables.values())
        self._optimizer = tf_keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._variables)

    @tf.function
    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(self._model(inputs, training=True))
        gradients = tape.gradient(value, self._variables)
        self._optimizer.apply_gradients(zip(gradients, self._variables, strict=True))
        return value


def seeded_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Values that are a function of path and shape alone, of the size that initialisers give."""
    values = {}
    for path, shape in shapes.items():
        random = np.random.default_rng(zlib.crc32(path.encode()))
        value = random.standard_normal(shape, np.float32)
        name = path.rsplit("/", 1)[-1]
        if name in ("gamma", "scale", "moving_variance"):
            value = 1.0 + 0.1 * np.abs(value)
        elif name in ("bias", "beta", "moving_mean"):
            value *= 0.02
        elif name == "kernel":
            value *= np.prod(shape[:-1]) ** -0.5
        else:
            value *= shape[-1] ** -0.5
        values[path] = value.astype(np.float32)
    return values
