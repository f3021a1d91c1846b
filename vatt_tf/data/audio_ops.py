"""Sound of a clip: training noise and the log-mel spectrogram (facts A.6)."""

from __future__ import annotations

import tensorflow as tf

from vatt_tf.data.schema import ClipSpec

MEL_LOW_HZ = 80.0
MEL_HIGH_HZ = 7600.0
# log(1 + 10000 * mel): the released code's compression.
LOG_SCALE = 10_000.0


def add_noise(waveform: tf.Tensor, key: tf.Tensor, level: float = 0.01) -> tf.Tensor:
    """Adds Gaussian noise of standard deviation ``level * max|x|`` (facts, table 1 row 23).

    Args:
        waveform: float32 ``[samples]``.
        key: int64 ``[2]`` seed.
        level: Share of the largest magnitude.
    """
    noise = tf.random.stateless_normal(tf.shape(waveform), key, alg="philox")
    return waveform + level * tf.reduce_max(tf.abs(waveform)) * noise


def log_mel(waveform: tf.Tensor, spec: ClipSpec) -> tf.Tensor:
    """Log-mel spectrogram of a waveform, scaled to [0, 1] for each clip.

    Magnitude STFT with a periodic Hann window (the last frames run into zeros), HTK mel bands
    from 80 to 7600 Hz, ``log(1 + 10000 * mel)``, then min-max over the clip. A silent clip, whose
    smallest and largest value are the same, gives zeros.

    Args:
        waveform: float32 ``[..., samples]`` in [-1, 1].
        spec: Gives sample rate, window, step (samples) and number of bands.

    Returns:
        float32 ``[..., mel_frames, mel_bins]``.
    """
    magnitude = tf.abs(
        tf.signal.stft(
            waveform,
            frame_length=spec.stft_window,
            frame_step=spec.stft_step,
            fft_length=spec.stft_window,
            window_fn=tf.signal.hann_window,
            pad_end=True,
        )
    )
    bands = tf.signal.linear_to_mel_weight_matrix(
        num_mel_bins=spec.mel_bins,
        num_spectrogram_bins=spec.stft_window // 2 + 1,
        sample_rate=spec.sample_rate,
        lower_edge_hertz=MEL_LOW_HZ,
        upper_edge_hertz=min(MEL_HIGH_HZ, spec.sample_rate / 2),
    )
    mel = tf.math.log1p(LOG_SCALE * tf.matmul(magnitude, bands))
    low = tf.reduce_min(mel, axis=[-2, -1], keepdims=True)
    high = tf.reduce_max(mel, axis=[-2, -1], keepdims=True)
    return tf.math.divide_no_nan(mel - low, high - low)
