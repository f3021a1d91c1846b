"""The filter in front of a lower rate: its response, its sums, and beside FFmpeg's."""

import av
import numpy as np
import pytest

from vatt_tf.data.media import resampling
from vatt_tf.data.media.resampling import MOST_STEP, REACH, low_pass, read_rate, reduced


@pytest.mark.parametrize("step", [2, 3, 6, MOST_STEP])
def test_response(step):
    response = np.abs(np.fft.rfft(low_pass(step), 1 << 16))
    frequency = np.linspace(0, step, len(response))  # 1: half the lower rate
    decibels = 20 * np.log10(response + 1e-12)
    assert np.abs(decibels[frequency < 0.86]).max() < 0.01
    assert decibels[frequency > 1.04].max() < -89
    assert abs(response[0] - 1) < 1e-12


def test_sums_equal_those_of_the_whole_signal():
    signal = np.random.default_rng(0).normal(size=997).astype(np.float32)
    for step in (2, 5):
        whole = np.convolve(signal.astype(np.float64), low_pass(step))[REACH * step :]
        for first, count in ((0, 100), (300, 40), (980, 3)):
            expected = whole[first::step][:count]
            found = reduced(signal, first, count, step, "filtered")
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=2e-6)


def test_strided_takes_samples_as_they_are():
    signal = np.arange(10, dtype=np.float32)
    assert reduced(signal, 1, 4, 3, "strided").tolist() == [1, 4, 7, 0]
    assert reduced(signal, -2, 3, 1, "filtered").tolist() == [0, 0, 0]
    assert reduced(signal, 8, 4, 1, "filtered").tolist() == [8, 9, 0, 0]


def test_chirp_as_ffmpeg_resamples_it():
    time = np.arange(48_000) / 48_000
    chirp = 0.5 * np.sin(2 * np.pi * (100 * time + 4950 * time**2)).astype(np.float32)  # to 10 kHz
    frame = av.AudioFrame.from_ndarray(chirp[None, :], format="flt", layout="mono")
    frame.sample_rate = 48_000
    resampler = av.AudioResampler(format="flt", layout="mono", rate=24_000)
    blocks = [block.to_ndarray()[0] for f in (frame, None) for block in resampler.resample(f)]
    expected = np.concatenate(blocks)[200:23_800]
    found = reduced(chirp, 0, 24_000, 2, "filtered")[200:23_800]
    assert np.abs(found - expected).max() < 0.01  # 2 % of full level


def test_rate_at_which_a_file_is_read(monkeypatch):
    assert [read_rate(rate) for rate in (48_000, 24_000, 16_000)] == [48_000] * 3
    # No fraction of the stored rate, above it, or too small a fraction: FFmpeg alone.
    assert [read_rate(rate) for rate in (44_100, 96_000, 800)] == [44_100, 96_000, 800]
    monkeypatch.setattr(resampling, "STORED_RATE", 32_000)
    assert read_rate(16_000) == 32_000
