"""Exported models inside Keras apps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export import tiny
from vatt_tf.export import examples

CLIP = tiny.CLIP


def test_functional_app_of_a_layer(exported_models, models):
    """As docs/export.md shows it: similarity of a clip and a sentence."""
    frames = keras.Input((CLIP.frames, CLIP.height, CLIP.width, 3), dtype="uint8")
    text = keras.Input((), dtype="string")
    video = keras.layers.TFSMLayer(
        str(exported_models / "video/1"), call_endpoint="serving_default", trainable=False
    )
    words = models.text.layer()
    outputs = keras.layers.Dot(axes=1)([video(frames)["embedding_vt"], words(text)["embedding"]])
    app = keras.Model([frames, text], outputs)
    sent = examples.request("frames", CLIP, 2), examples.captions(2)
    found = app([tf.constant(sent[0]), tf.constant(sent[1])])[:, 0]
    expected = models.similarity(
        models.embed_video(sent[0]), models.embed_text([s.decode() for s in sent[1]])
    )
    np.testing.assert_allclose(found, np.diag(expected), atol=1e-5)


def test_fine_tuning_on_frozen_features(models):
    """A linear layer on the features learns which of two patterns it sees."""
    keras.utils.set_random_seed(0)
    frames = examples.request("frames", CLIP, 16)
    labels = (frames[:, 0, 0, 0, 0] > 127).astype("int32")
    assert 0 < labels.sum() < 16
    inputs = keras.Input(frames.shape[1:], dtype="uint8")
    tower = models.video.layer()
    outputs = keras.layers.Dense(2, name="classes")(tower(inputs)["features"])
    model = keras.Model(inputs, outputs)
    assert [weight.path for weight in model.trainable_weights] == ["classes/kernel", "classes/bias"]
    model.compile(
        keras.optimizers.Adam(0.3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    start = model.evaluate(frames, labels, verbose=0)
    before = [np.asarray(weight) for weight in tower.weights]
    model.fit(frames, labels, epochs=12, batch_size=16, verbose=0)
    assert model.evaluate(frames, labels, verbose=0) < 0.5 * start
    for weight, value in zip(tower.weights, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), value)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_layers_in_an_app_of_mixed_precision(models, policy):
    sent = examples.request("waveform", CLIP, 2)
    expected = models.audio({"waveform": sent})["embedding"]
    keras.config.set_dtype_policy(policy)
    try:
        sound = keras.Input(sent.shape[1:])
        app = keras.Model(sound, models.audio.layer()(sound)["embedding"])
        found = app(sent)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_float_frames_are_refused(models):
    """A signature takes one dtype: frames are never embedded as something else."""
    sent = examples.request("frames", CLIP, 2)
    frames = keras.Input(sent.shape[1:])
    app = keras.Model(frames, models.video.layer()(frames)["features"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected to be a uint8 tensor"):
        app(sent.astype("float32"))


def test_saved_app(models, tmp_path):
    text = keras.Input((), dtype="string")
    app = keras.Model(text, models.text.layer()(text)["embedding"])
    app.save(tmp_path / "app.keras")
    with pytest.raises(ValueError, match="safe_mode"):
        keras.saving.load_model(tmp_path / "app.keras")
    again = keras.saving.load_model(tmp_path / "app.keras", safe_mode=False)
    sent = tf.constant(examples.captions(2))
    np.testing.assert_allclose(again(sent), app(sent), atol=1e-6)
