"""Steps of towers whose BatchNorm sees one micro-batch at a time."""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.test_convolutional import mmv
from vatt_tf.data.input.pipeline import DataSource
from vatt_tf.errors import UserError
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.models.vatt import build_vatt
from vatt_tf.training.gradients.contrastive import PretrainStep
from vatt_tf.training.tasks.config import TrainConfig

MODALITIES = ("video", "audio", "text")


def batch(clips=4):
    generator = np.random.default_rng(0)
    values = {
        "video": generator.integers(0, 256, (clips, 4, 32, 48, 3)).astype("uint8"),
        "audio": generator.uniform(size=(clips, 40, 16, 1)).astype("float32"),
        "text": generator.integers(0, 32, (clips, 2, 6)).astype("int32"),
        "video_mask": np.ones(clips, "float32"),
        "audio_mask": np.ones(clips, "float32"),
        "text_mask": np.ones((clips, 2), "float32"),
    }
    return {name: tf.constant(value) for name, value in values.items()}


def model(**changes):
    keras.utils.set_random_seed(0)
    return build_vatt(mmv(**changes))


def statistics(of):
    return {v.path: np.array(v) for v in of.variables if "moving" in v.path}


def run(of, clips, micro, config=None, jit_compile=False):
    step = PretrainStep(of, config or ObjectiveConfig(), micro, jit_compile=jit_compile)
    gradients, metrics = tf.function(step)(clips, tf.constant([1, 2]))
    return [np.array(gradient) for gradient in gradients], float(metrics["loss"])


@functools.cache
def by_hand():
    """Loss, gradients and statistics of two micro-batches, each passed through on its own."""
    clips, plain = batch(), model()
    with tf.GradientTape() as tape:
        parts = [
            plain.encode({name: clips[name][rows] for name in MODALITIES}, training=True)
            for rows in (slice(0, 2), slice(2, 4))
        ]
        features = {name: tf.concat([part[name] for part in parts], 0) for name in MODALITIES}
        spaces = plain.project(features, training=True)
        masks = {name: clips[f"{name}_mask"] for name in features}
        loss, _ = objective(spaces, spaces, masks, masks, ObjectiveConfig())
    variables = [v.value for v in plain.tower_variables + plain.head_variables]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    gradients = [np.array(tf.convert_to_tensor(gradient)) for gradient in found]
    return float(loss), gradients, statistics(plain)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.check)])
def test_micro_batches_count_once_and_their_gradients_are_exact(jit_compile):
    two_pass = model()
    gradients, loss = run(two_pass, batch(), 2, jit_compile=jit_compile)
    expected_loss, expected, plain = by_hand()
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    scale = max(np.abs(gradient).max() for gradient in expected)
    for left, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4 * scale)
    # Each micro-batch was seen twice and counted once.
    for path, value in plain.items():
        np.testing.assert_allclose(statistics(two_pass)[path], value, atol=1e-5, err_msg=path)


def test_micro_batches_of_several_replicas_are_refused():
    """BatchNorm would have to average over replicas inside of a loop; TensorFlow cannot."""
    config = TrainConfig(mmv(), (DataSource("none"),), 10, batch_size=8, micro_batch_size=2)
    assert config.sizes(1) == (8, 2)
    assert dataclasses.replace(config, micro_batch_size=None).sizes(2) == (8, 4)
    with pytest.raises(UserError, match="micro_batch_size=2 .* BatchNorm .* over 2 replicas"):
        config.sizes(2)


@pytest.mark.parametrize("micro", [None, pytest.param(2, marks=pytest.mark.check)])
def test_two_modalities(micro):
    config = ObjectiveConfig(video_audio=0.0)
    gradients, loss = run(model(modalities=("video", "text")), batch(), micro, config)
    assert np.isfinite(loss) and all(np.isfinite(gradient).all() for gradient in gradients)
