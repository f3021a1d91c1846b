"""Towers, a head and layers as ordinary Keras objects, trained with a hand-written loop.

Two made-up classes of clips, each with its own brightness pattern and tone: a tiny video tower and
a tiny waveform tower learn, by NCE between the two, which sound belongs to which picture.

    python examples/build_and_train_by_hand.py
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from vatt_tf.encoders.audio import AudioTowerConfig, WaveformEncoder
from vatt_tf.encoders.video import VideoEncoder, VideoTowerConfig
from vatt_tf.layers.random import seed_scope

FRAMES, SIDE, SAMPLES = 4, 16, 512
TINY = {
    "d_model": 32,
    "num_layers": 2,
    "num_heads": 2,
    "d_ff": 64,
    "d_kv": 16,
    "drop_token_rate": 0.25,
    "dropout_rate": 0.0,
    "position_dropout_rate": 0.0,
}


class TwoTowers(keras.Model):
    """A video and an audio tower with one linear map each into a common space."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        video = VideoTowerConfig(frames=FRAMES, image_size=SIDE, patch=(2, 8, 8), **TINY)
        self.video = VideoEncoder(video, name="video")
        audio = AudioTowerConfig(samples=SAMPLES, patch=32, **TINY)
        self.audio = WaveformEncoder(audio, name="audio")
        self.video_projection = keras.layers.Dense(dim)
        self.audio_projection = keras.layers.Dense(dim)

    def call(self, inputs: dict, training: bool = False) -> tuple:
        """Returns the normalised embeddings of the pictures and of the sounds, each [B, dim]."""
        video = self.video(inputs["video"], training=training)["features_pooled"]
        audio = self.audio(inputs["audio"], training=training)["features_pooled"]
        return (
            ops.normalize(self.video_projection(video)),
            ops.normalize(self.audio_projection(audio)),
        )


def make_batch(generator: np.random.Generator, clips: int = 16) -> dict[str, np.ndarray]:
    """Clips whose brightness and whose pitch go together; uint8 video and float32 waveform."""
    level = generator.uniform(0.1, 0.9, clips)
    noise = generator.normal(0, 8, (clips, FRAMES, SIDE, SIDE, 3))
    video = level[:, None, None, None, None] * 255 + noise
    cycles = 2 + 30 * level[:, None]
    time = np.arange(SAMPLES) / SAMPLES
    audio = np.sin(2 * np.pi * (cycles * time + generator.uniform(size=(clips, 1))))
    return {
        "video": np.clip(video, 0, 255).astype("uint8"),
        "audio": audio[..., None].astype("float32"),
    }


def nce(video: tf.Tensor, audio: tf.Tensor, temperature: float = 0.1) -> tf.Tensor:
    """Every picture must find its own sound in the batch, and every sound its picture."""
    scores = ops.matmul(video, ops.transpose(audio)) / temperature
    target = ops.arange(scores.shape[0])
    return ops.mean(
        keras.losses.sparse_categorical_crossentropy(target, scores, from_logits=True)
        + keras.losses.sparse_categorical_crossentropy(
            target, ops.transpose(scores), from_logits=True
        )
    )


def main() -> None:
    """Trains for some steps and prints the loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps

    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    model = TwoTowers()
    model(make_batch(generator))
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    print(f"{model.count_params():,} parameters")

    @tf.function
    def train_step(batch: dict, step: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape, seed_scope(tf.stack([step, 0])):
            loss = nce(*model(batch, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        return loss

    losses = []
    for step in range(steps):
        batch = {name: tf.constant(value) for name, value in make_batch(generator).items()}
        losses.append(float(train_step(batch, tf.constant(step))))
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {losses[-1]:.3f}")

    video, audio = model(make_batch(generator, clips=32))
    ranks = ops.sum(
        ops.matmul(video, ops.transpose(audio)) > ops.sum(video * audio, -1, keepdims=True), -1
    )
    print(f"median rank of the right sound among 32: {np.median(ranks) + 1:.1f} (chance 16.5)")
    print(f"loss {np.mean(losses[:5]):.3f} -> {np.mean(losses[-5:]):.3f}")


if __name__ == "__main__":
    main()
