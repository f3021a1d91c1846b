"""A tone that the clip cannot hold: 15 kHz stored at 48 kHz, read at 24 kHz, on every path."""

import wave

import numpy as np
import pytest
import tensorflow as tf

from tests.data.records import example, spec, write_shards
from vatt_tf.data.input import sampling
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.pipeline import evaluation_dataset, training_dataset
from vatt_tf.data.media.resampling import MOST_STEP, reduced
from vatt_tf.data.media.windows import Span, audio_inputs
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.errors import UserError

STORED, RATE = 48_000, 24_000
AS_STORED = Augmentation(audio_noise=0.0)


def clip(resampling, samples=4096, **changes):
    sizes = {"frames": 0, "samples": samples, "sample_rate": RATE}
    return spec(audio_resampling=resampling, **{**sizes, **changes})


def tone(hertz, seconds=0.5):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(seconds * STORED) / STORED)).astype(
        "float32"
    )


def write_sound(folder, signal):
    return str(write_shards(folder, [example(frames=0, waveform=signal, sample_rate=STORED)]))


def in_training(folder, signal, spec):
    dataset = training_dataset(write_sound(folder, signal), spec, None, AS_STORED, batch_size=1)
    return next(iter(dataset))["audio"].numpy()[0, :, 0]


def in_evaluation(folder, signal, spec):
    dataset = evaluation_dataset(write_sound(folder, signal), spec, None, batch_size=1)
    return next(iter(dataset))["audio"].numpy()[0, 0, :, 0]


def from_samples(folder, signal, spec):
    (windows,) = audio_inputs(signal, spec, Span(windows=1), STORED).clips
    return next(windows)


def from_a_file(folder, signal, spec):
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(STORED)
        file.writeframes((signal * 32767).round().astype("<i2").tobytes())
    (windows,) = audio_inputs(folder / "tone.wav", spec, Span(windows=1), None).clips
    return next(windows)


def level(samples, hertz):
    """Amplitude of a frequency in a clip."""
    window = np.hanning(len(samples))
    turned = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / RATE)
    return 2 * abs(np.sum(window * samples * turned)) / window.sum()


PATHS = [in_training, in_evaluation, from_samples, from_a_file]


@pytest.mark.parametrize("read", PATHS)
def test_tone_above_the_clip(tmp_path, read):
    strided = read(tmp_path, tone(15_000), clip("strided"))
    assert level(strided, 9_000) == pytest.approx(0.5, rel=0.01)
    filtered = read(tmp_path, tone(15_000), clip("filtered"))
    assert np.abs(filtered).max() < 0.5 * 10 ** (-40 / 20)
    kept = read(tmp_path, tone(9_000), clip("filtered"))
    assert level(kept, 9_000) == pytest.approx(0.5, rel=0.001)


@pytest.mark.parametrize("resampling", ["filtered", "strided"])
def test_embedders_read_what_evaluation_reads(tmp_path, resampling):
    time = np.arange(24_000) / STORED
    chirp = (0.5 * np.sin(2 * np.pi * (50 * time + 24_000 * time**2))).astype("float32")
    expected = in_evaluation(tmp_path, chirp, clip(resampling))
    np.testing.assert_allclose(from_samples(None, chirp, clip(resampling)), expected, atol=1e-6)
    # 16 bits
    np.testing.assert_allclose(from_a_file(tmp_path, chirp, clip(resampling)), expected, atol=1e-4)


def cut(signal, start, samples, step, period=0):
    start, step, period = (tf.constant(x, tf.int64) for x in (start, step, period))
    found = sampling.audio_window(tf.constant(signal), start, samples, step, period, "filtered")
    return found[0].numpy(), int(found[1])


@pytest.mark.parametrize("step", [2, 3, MOST_STEP])
def test_windows_are_cut_out_of_the_filtered_signal(step):
    signal = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    whole = reduced(signal, 0, -(-2000 // step), step, "filtered")
    for first, samples in ((0, 20), (30, 40)):
        found, count = cut(signal, first * step, samples, step)
        expected = np.pad(whole[first : first + samples], (0, samples))[:samples]
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert count == len(whole[first : first + samples])
    # Behind the end there is nothing, though the filter still hears the end.
    found, count = cut(signal, 2000, 5, step)
    assert not found.any() and count == 0
    # A video that repeats after 600 samples takes its sound with it.
    found, count = cut(signal, 0, 700 // step, step, period=600 // step * step)
    again = np.concatenate([whole[: 600 // step], whole])[: 700 // step]
    np.testing.assert_allclose(found, again, atol=2e-6)
    assert count == 700 // step


def test_equal_rates_are_read_as_they_are():
    signal = np.arange(10, dtype=np.float32)
    assert cut(signal, 2, 4, 1)[0].tolist() == [2, 3, 4, 5]
    assert cut(signal, 8, 4, 1, period=10)[0].tolist() == [8, 9, 0, 1]


def test_too_many_stored_samples_are_refused(tmp_path):
    small = clip("filtered", samples=64, sample_rate=STORED // (MOST_STEP + 1))
    assert STORED % (MOST_STEP + 1) == 0
    with pytest.raises(UserError, match=f"has more than {MOST_STEP} times the sample rate of 1920"):
        with read_errors(str(tmp_path / "train")):
            in_training(tmp_path, tone(100), small)
