"""Fits an image network to the video network that it was deflated from (docs/reference.md, MMV).

Only the scales and offsets of BatchNorm are trained: by the L1 distance between the features of an
image and those of the video network for that image repeated as a static clip. No label is read.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vatt_tf.models.deflation import normalisations

# Batch size of inference.
_BATCH = 16
# A time is the shortest of at least so many rounds over at least so many seconds.
_FEWEST_ROUNDS, _TIMED_SECONDS = 5, 1.0


@dataclasses.dataclass(frozen=True)
class Fit:
    """Result of a fit.

    Attributes:
        naive: L1 distance on held-out images before the fit.
        learned: The same after it.
        scale: Mean absolute value of the video network's features, to judge the distances by.
        losses: Loss of every step.
    """

    naive: float
    learned: float
    scale: float
    losses: list[float]


def still_features(tower: Any, images: np.ndarray, frames: int) -> np.ndarray:
    """Features of images as static clips, one frame repeated ("inflated input").

    Args:
        tower: Video tower.
        images: uint8 [N, H, W, 3].
        frames: Frames of a clip.

    Returns:
        float32 [N, d].
    """

    @tf.function(autograph=False)
    def features(batch: tf.Tensor) -> tf.Tensor:
        clips = tf.repeat(batch[:, tf.newaxis], frames, axis=1)
        return tf.cast(tower(clips, training=False)["features_pooled"], tf.float32)

    parts = [images[first : first + _BATCH] for first in range(0, len(images), _BATCH)]
    return np.concatenate([features(tf.constant(part)).numpy() for part in parts])


def fit(
    tower: Any,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    held_out: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Fit:
    """Trains the scales and offsets of the tower's BatchNorm; without BatchNorm nothing.

    Args:
        tower: Image network.
        images: uint8 [N, H, W, 3].
        targets: Features of the video network, float32 [N, d].
        held_out: The last so many images are not trained on.
        steps: Steps of Adam; the rate falls along half a cosine.
        batch_size: Images of a step.
        learning_rate: First learning rate.
        seed: Of the order of the images.
        on_step: Called with the step and its loss.

    Returns:
        Distances before and after.
    """
    count = len(images) - held_out
    naive = _distance(tower, images[count:], targets[count:])
    variables = normalisations(tower)
    losses: list[float] = []
    if variables and steps:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        optimizer = keras.optimizers.Adam(schedule)
        optimizer.build(variables)

        @tf.function(autograph=False)
        def step(batch: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                features = tower(batch[:, tf.newaxis], training=False)["features_pooled"]
                loss = tf.reduce_mean(tf.abs(tf.cast(features, tf.float32) - wanted))
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            optimizer.apply(gradients, variables)
            return loss

        order = _order(count, steps * batch_size, seed).reshape(steps, batch_size)
        for number, rows in enumerate(order):
            losses.append(float(step(tf.constant(images[rows]), tf.constant(targets[rows]))))
            on_step(number + 1, losses[-1])
    learned = _distance(tower, images[count:], targets[count:]) if losses else naive
    return Fit(naive, learned, float(np.abs(targets).mean()), losses)


def seconds_per_image(
    networks: Mapping[str, tuple[Any, int]], images: np.ndarray, together: int
) -> dict[str, float]:
    """Shortest time of an image in each network.

    The networks take turns, so that other load on the machine affects all of them.

    Args:
        networks: By name, tower and number of frames for which it is shown an image.
        images: uint8 [N, H, W, 3].
        together: Images at a time, at most as many as there are.
    """

    def timed(tower: Any, frames: int) -> Callable[[], float]:
        @tf.function(autograph=False)
        def features(clips: tf.Tensor) -> tf.Tensor:
            return tower(clips, training=False)["features_pooled"]

        clips = tf.repeat(tf.constant(images[:together])[:, tf.newaxis], frames, axis=1)

        def seconds() -> float:
            start = time.perf_counter()
            features(clips).numpy()
            return time.perf_counter() - start

        seconds()  # traces
        return seconds

    calls = {name: timed(*network) for name, network in networks.items()}
    rounds: list[dict[str, float]] = []
    start = time.perf_counter()
    while len(rounds) < _FEWEST_ROUNDS or time.perf_counter() - start < _TIMED_SECONDS:
        rounds.append({name: call() for name, call in calls.items()})
    return {name: min(times[name] for times in rounds) / together for name in networks}


def _distance(tower: Any, images: np.ndarray, targets: np.ndarray) -> float:
    return float(np.abs(still_features(tower, images, frames=1) - targets).mean())


def _order(count: int, length: int, seed: int) -> np.ndarray:
    """Yields the indices below ``count`` without end, shuffled anew in every epoch."""
    rounds = -(-length // count)
    orders = [np.random.default_rng((seed, number)).permutation(count) for number in range(rounds)]
    return np.concatenate(orders)[:length]
