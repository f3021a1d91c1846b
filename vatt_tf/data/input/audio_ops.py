"""Sound of a clip: training noise and the log-mel spectrogram (docs/reference.md, Audio)."""

from __future__ import annotations

import tensorflow as tf

from vatt_tf.data.schema import ClipSpec

MEL_LOW_HZ = 80.0
MEL_HIGH_HZ = 7600.0
# log(1 + 10000 * mel): the released code's compression.
LOG_SCALE = 10_000.0
# "fixed" scaling: mean and standard deviation of log(1 + 10000 * mel) over the sounds of ESC-10.
LOG_MEAN, LOG_DEVIATION = 8.0, 4.0
# Standard deviation below which a waveform is no louder for being scaled.
SILENCE = 1e-4


def add_noise(waveform: tf.Tensor, key: tf.Tensor, level: float = 0.01) -> tf.Tensor:
    """Adds Gaussian noise of standard deviation ``level * max|x|`` (docs/reference.md, Audio).

    Args:
        waveform: float32 ``[samples]``.
        key: int64 ``[2]`` seed.
        level: Share of the largest magnitude.
    """
    noise = tf.random.stateless_normal(tf.shape(waveform), key, alg="philox")
    return waveform + level * tf.reduce_max(tf.abs(waveform)) * noise


def rolled(waveform: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Turns a signal round by a random share of its length: its end comes before its beginning."""
    length = tf.size(waveform)
    return tf.roll(waveform, _uniform_whole(key, length), axis=0)


def masked(values: tf.Tensor, key: tf.Tensor, share: float) -> tf.Tensor:
    """Sets two random spans along the first axis to 0 (SpecAugment, Park et al. 2019).

    Args:
        values: float32 ``[n, ...]``.
        key: int64 ``[2]`` seed.
        share: A span is between nothing and this share of the axis.
    """
    length = tf.shape(values)[0]
    places = tf.range(length)
    kept = tf.ones([length], tf.bool)
    longest = tf.cast(tf.round(share * tf.cast(length, tf.float32)), tf.int32)
    for span_key in tf.unstack(tf.random.split(key, 2, alg="philox")):
        size_key, place_key = tf.unstack(tf.random.split(span_key, 2, alg="philox"))
        size = _uniform_whole(size_key, longest + 1)
        begin = _uniform_whole(place_key, length - size + 1)
        kept &= (places < begin) | (places >= begin + size)
    shape = tf.concat([[length], tf.ones([tf.rank(values) - 1], tf.int32)], 0)
    return values * tf.reshape(tf.cast(kept, values.dtype), shape)


def _uniform_whole(key: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    """A whole number in [0, limit), int32."""
    return tf.random.stateless_uniform([], key, 0, limit, tf.int32, alg="philox")


def audio_frontend(waveform: tf.Tensor, spec: ClipSpec) -> tf.Tensor:
    """What the audio tower reads of a sound, but for its last axis.

    A waveform is left as it is (``waveform_scaling="none"``, released code) or divided by its
    standard deviation (``"deviation"``): soft sounds hardly move a tower whose position
    embeddings have unit scale, and small data sets then take a thousand steps to begin learning.

    Args:
        waveform: float32 ``[..., samples]`` in [-1, 1].
        spec: Says which.

    Returns:
        float32 ``[..., samples]`` or ``[..., mel_frames, mel_bins]``.
    """
    if spec.audio == "log_mel":
        return log_mel(waveform, spec)
    if spec.waveform_scaling == "deviation":
        deviation = tf.math.reduce_std(waveform, axis=-1, keepdims=True)
        return waveform / tf.maximum(deviation, SILENCE)
    return waveform


def log_mel(waveform: tf.Tensor, spec: ClipSpec) -> tf.Tensor:
    """Log-mel spectrogram of a waveform.

    Magnitude STFT with a periodic Hann window (the last frames run into zeros), HTK mel bands
    from 80 to 7600 Hz, ``log(1 + 10000 * mel)``, then one of two scalings:

    * ``"min_max"`` (released code): over the clip to [0, 1]. A silent clip, whose smallest and
      largest value are the same, gives zeros. What is soft is made as large as what is loud.
    * ``"fixed"``: all clips by the same mean and deviation, about -2 (silence) to 2.

    Args:
        waveform: float32 ``[..., samples]`` in [-1, 1].
        spec: Gives sample rate, window, step (samples), number of bands and the scaling.

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
    if spec.mel_scaling == "fixed":
        return (mel - LOG_MEAN) / LOG_DEVIATION
    low = tf.reduce_min(mel, axis=[-2, -1], keepdims=True)
    high = tf.reduce_max(mel, axis=[-2, -1], keepdims=True)
    return tf.math.divide_no_nan(mel - low, high - low)
