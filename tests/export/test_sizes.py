"""Clips of other sizes than the training ones: positions interpolated inside the graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.export import tiny
from vatt_tf.errors import UserError
from vatt_tf.export import examples, inputs
from vatt_tf.layers.transformer.positions import interpolate, interpolation_matrix
from vatt_tf.models import io

CLIP = tiny.CLIP


@pytest.fixture(scope="module")
def trained(weights_folder):
    return io.load_pretrained(str(weights_folder))[0]


@pytest.mark.parametrize("src", [1, 2, 8, 14, 1200])
def test_interpolation_in_the_graph_is_that_of_numpy(src):
    table = np.random.default_rng(0).normal(size=(src, 3)).astype(np.float32)
    function = tf.function(
        lambda count: interpolate(tf.constant(table), count),
        input_signature=[tf.TensorSpec([], tf.int32)],
    )
    for count in (1, 2, 5, 20, src, 2 * src):
        found = function(tf.constant(count)).numpy()
        expected = interpolation_matrix(src, count) @ table
        np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=f"{src} -> {count}")
        if count == src:
            np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize("size", [(2, 16, 24), (6, 16, 24), (4, 40, 24), (5, 19, 41), (2, 8, 8)])
def test_video(trained, models, size):
    sent = examples.frames(2, size)
    expected = trained({"video": sent})
    found = models.video({"frames": sent})
    for space in ("va", "vt"):
        unit = tf.math.l2_normalize(expected[space]["video"], axis=-1)
        np.testing.assert_allclose(found[f"embedding_{space}"], unit, atol=1e-5)


@pytest.mark.parametrize("samples", [32, 500, 512, 2000])
def test_audio(trained, models, samples):
    sent = examples.sound(2, samples)
    expected = tf.math.l2_normalize(trained({"audio": sent[..., None]})["va"]["audio"], axis=-1)
    np.testing.assert_allclose(models.audio({"waveform": sent})["embedding"], expected, atol=1e-5)


def test_encoded_clips_of_another_length(models):
    raw = examples.frames(1, (6, CLIP.height, CLIP.width))
    encoded = models.video({"frames_bytes": examples.encode_frames(raw)}, signature="encoded")
    decoded = np.stack(
        [[tf.io.decode_jpeg(jpeg).numpy() for jpeg in examples.encode_frames(raw)[0]]]
    )
    expected = models.video({"frames": decoded})
    np.testing.assert_allclose(encoded["embedding_vt"], expected["embedding_vt"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 16, 24), r"clips of \[1 16 24\] .*, expected at least a patch, \[2, 8, 8\]"),
        ((4, 16, 7), r"clips of \[4 16 7\] .*, expected at least a patch, \[2, 8, 8\]"),
        ((64, 64, 72), r"have 2304 patches, expected at most 2048"),
    ],
)
def test_sizes_that_cannot_work(models, size, message):
    with pytest.raises(UserError, match=message):
        models.video({"frames": np.zeros((1, *size, 3), np.uint8)})


def test_sound_that_cannot_work(models):
    for samples in (31, 2048 * 32 + 1):
        with pytest.raises(UserError, match=f"clips of {samples} samples, expected 32 to 65536"):
            models.audio({"waveform": np.zeros((1, samples), np.float32)})


def test_limits_of_log_mel():
    """At the limits the tower still finds a patch, and no more than allowed."""
    from vatt_tf.data.schema import ClipSpec
    from vatt_tf.encoders.audio import AudioTowerConfig

    clip = ClipSpec(audio="log_mel", samples=2048, mel_bins=8, stft_window=64, stft_step=32)
    tower = AudioTowerConfig(
        input="log_mel",
        mel_frames=clip.mel_frames,
        mel_bins=8,
        patch=(4, 4),
        d_model=8,
        num_layers=1,
        num_heads=1,
    ).build()
    low, high = inputs.sample_limits(clip, tower)
    for samples, patches in ((low - 1, 0), (low, 2), (high, 2048), (high + 4 * 32, 2050)):
        shape = inputs.tower_audio(tf.zeros([1, samples]), clip).shape
        assert (shape[1] // 4) * (shape[2] // 4) == patches
