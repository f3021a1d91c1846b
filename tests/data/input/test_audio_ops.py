"""Log-mel against an independent NumPy float64 implementation; noise."""

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.data.input import audio_ops
from vatt_tf.data.schema import ClipSpec


def numpy_log_mel(signal, spec):
    """The formula of docs/reference.md, Audio, frame by frame, in float64."""
    rows = []
    padded = np.concatenate([signal, np.zeros(spec.stft_window)])
    n = np.arange(spec.stft_window)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / spec.stft_window)
    for frame in range(-(-len(signal) // spec.stft_step)):
        begin = frame * spec.stft_step
        rows.append(np.abs(np.fft.rfft(padded[begin : begin + spec.stft_window] * window)))

    def to_mel(hertz):
        return 1127.0 * np.log(1 + hertz / 700.0)

    edges = np.linspace(to_mel(80.0), to_mel(7600.0), spec.mel_bins + 2)
    mels = to_mel(np.arange(spec.stft_window // 2 + 1) * spec.sample_rate / spec.stft_window)
    bands = np.zeros((len(mels), spec.mel_bins))
    for b in range(spec.mel_bins):
        low, mid, high = edges[b : b + 3]
        bands[:, b] = np.maximum(
            0, np.minimum((mels - low) / (mid - low), (high - mels) / (high - mid))
        )
    bands[0] = 0.0  # the constant part belongs to no band
    mel = np.log(1 + 10000 * np.stack(rows) @ bands)
    if spec.mel_scaling == "fixed":
        return (mel - 8) / 4
    return (mel - mel.min()) / (mel.max() - mel.min())


@pytest.mark.parametrize("samples", [48_000, 10_000])
def test_log_mel_of_the_paper(samples):
    spec = ClipSpec(audio="log_mel", samples=samples)
    random = np.random.default_rng(0)
    time = np.arange(samples) / spec.sample_rate
    signal = 0.5 * np.sin(2 * np.pi * 440 * time * (1 + time)) + 0.01 * random.normal(size=samples)
    mel = audio_ops.log_mel(tf.constant(signal, tf.float32), spec).numpy()
    assert mel.shape == (spec.mel_frames, 80) and mel.min() == 0 and mel.max() == 1
    np.testing.assert_allclose(mel, numpy_log_mel(signal, spec), atol=2e-5)


def test_fixed_scaling_keeps_loud_and_soft_apart():
    spec = ClipSpec(audio="log_mel", samples=8_000, mel_scaling="fixed")
    signals = np.random.default_rng(0).normal(size=(2, 8_000)) * [[0.3], [0.003]]
    loud, soft = audio_ops.log_mel(tf.constant(signals, tf.float32), spec).numpy()
    np.testing.assert_allclose(loud, numpy_log_mel(signals[0], spec), atol=2e-5)
    np.testing.assert_allclose(soft, numpy_log_mel(signals[1], spec), atol=2e-5)
    assert loud.mean() - soft.mean() > 0.9  # log(100) / 4, less what the 1 in the log takes


def test_waveforms_of_one_loudness():
    signals = np.random.default_rng(0).normal(size=(2, 500)) * [[0.5], [0.02]]
    signals = signals.astype("float32")
    spec = ClipSpec(samples=500, waveform_scaling="deviation")
    scaled = audio_ops.audio_frontend(tf.constant(signals), spec).numpy()
    np.testing.assert_allclose(scaled, signals / signals.std(1, keepdims=True), rtol=1e-5)
    assert not audio_ops.audio_frontend(tf.zeros([500]), spec).numpy().any()
    as_it_is = audio_ops.audio_frontend(tf.constant(signals), ClipSpec(samples=500))
    np.testing.assert_array_equal(as_it_is, signals)


def test_log_mel_of_a_batch_is_per_clip():
    spec = ClipSpec(
        audio="log_mel",
        samples=4000,
        sample_rate=16000,
        stft_window=512,
        stft_step=256,
        mel_bins=20,
    )
    signals = np.random.default_rng(0).normal(size=(2, 3, 4000)).astype(np.float32)
    signals[1] *= 0.01
    mel = tf.function(lambda x: audio_ops.log_mel(x, spec))(tf.constant(signals)).numpy()
    assert mel.shape == (2, 3, 16, 20)
    np.testing.assert_allclose(mel[1, 2], audio_ops.log_mel(signals[1, 2], spec), atol=1e-5)
    assert (mel.min((2, 3)) == 0).all() and (mel.max((2, 3)) == 1).all()


def test_paper_clip_has_150_frames_and_silence_is_zero():
    spec = ClipSpec(audio="log_mel")
    assert (spec.mel_frames, spec.audio_shape) == (150, (150, 80, 1))
    small = ClipSpec(audio="log_mel", samples=4096)
    assert not audio_ops.log_mel(tf.zeros([4096]), small).numpy().any()


def test_noise_follows_the_loudest_sample():
    signal = np.zeros(20_000, np.float32)
    signal[7] = -0.5
    noise = audio_ops.add_noise(tf.constant(signal), [1, 2]).numpy() - signal
    assert abs(noise.std() / 0.005 - 1) < 0.02 and abs(noise.mean()) < 2e-4
    again = audio_ops.add_noise(tf.constant(signal), [1, 2]).numpy() - signal
    np.testing.assert_array_equal(noise, again)
    assert not audio_ops.add_noise(tf.zeros([10]), [1, 2]).numpy().any()


def test_rolled_turns_round():
    signal = tf.range(100, dtype=tf.float32)
    turned = [audio_ops.rolled(signal, tf.constant([1, n], tf.int64)).numpy() for n in range(4)]
    for values in turned:
        np.testing.assert_array_equal(np.roll(values, -int(np.argmin(values))), signal)
    assert len({values[0] for values in turned}) > 1


@pytest.mark.parametrize("shape", [(200,), (200, 3)])
def test_masked_sets_two_spans_to_zero(shape):
    shares = []
    for number in range(30):
        key = tf.constant([number, 7], tf.int64)
        values = audio_ops.masked(tf.ones(shape), key, 0.2).numpy().reshape(200, -1)
        assert (values == values[:, :1]).all()  # whole rows
        gone = values[:, 0] == 0
        assert np.count_nonzero(np.diff(gone.astype(int)) == 1) <= 2
        shares.append(gone.mean())
    assert max(shares) <= 0.4 and 0.1 < np.mean(shares) < 0.25
    again = audio_ops.masked(tf.ones(shape), key, 0.2).numpy()
    np.testing.assert_array_equal(again.reshape(200, -1), values)
