"""Synthetic inputs for the parity check of an export and for warm-up requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from vatt_tf.data.schema import ClipSpec

CAPTIONS = ("a red circle moves left", "someone plays the piano")


def frames(count: int, size: Sequence[int]) -> np.ndarray:
    """Frames of moving coloured waves, uint8 [count, frames, height, width, 3]."""
    time, height, width = (np.linspace(0.0, 1.0, n, endpoint=False) for n in size)
    phase = np.arange(3) / 3 + np.arange(count)[:, None] / 7
    waves = (
        time[None, :, None, None, None] * 1.5
        + height[None, None, :, None, None] * 2.5
        + width[None, None, None, :, None] ** 2 * 3.5
        + phase[:, None, None, None, :]
    )
    return (127.5 + 127.0 * np.sin(2 * np.pi * waves)).astype(np.uint8)


def sound(count: int, samples: int) -> np.ndarray:
    """Rising tones with a little noise, float32 [count, samples] in [-1, 1]."""
    time = np.linspace(0.0, 1.0, samples, endpoint=False)
    pitch = 40.0 * (1.0 + np.arange(count)[:, None])
    tone = 0.5 * np.sin(2 * np.pi * pitch * time * (1.0 + time))
    noise = np.random.default_rng(0).normal(0.0, 0.05, (count, samples))
    return np.clip(tone + noise, -1.0, 1.0).astype(np.float32)


def encode_frames(clips: np.ndarray) -> np.ndarray:
    """Encodes each frame as JPEG: uint8 [b, t, h, w, 3] to bytes [b, t] (dtype object)."""
    return np.array(
        [[tf.io.encode_jpeg(frame).numpy() for frame in clip] for clip in clips], dtype=object
    )


def encode_sounds(sounds: np.ndarray, sample_rate: int) -> np.ndarray:
    """Encodes samples as stereo WAV with different channels: [b, samples] to bytes [b]."""
    return np.array(
        [
            tf.audio.encode_wav(np.stack([row, row[::-1]], axis=1), sample_rate).numpy()
            for row in sounds
        ],
        dtype=object,
    )


def captions(count: int) -> np.ndarray:
    """Captions as UTF-8 strings [count] (dtype object)."""
    return np.array([CAPTIONS[i % len(CAPTIONS)].encode() for i in range(count)], dtype=object)


def request(name: str, clip: ClipSpec, count: int) -> np.ndarray:
    """Returns an example of an input, of the size of the training clips.

    Encoded inputs have other sizes, as in practice: frames are larger and of another aspect ratio,
    audio is half as long as a clip.

    Args:
        name: ``frames``, ``frames_bytes``, ``waveform``, ``audio_bytes``, ``text`` or ``query``.
        clip: Shape of the clips.
        count: Rows.
    """
    if name == "frames":
        return frames(count, (clip.frames, clip.height, clip.width))
    if name == "frames_bytes":
        size = (clip.frames, clip.height + clip.height // 2, 2 * clip.width)
        return encode_frames(frames(count, size))
    if name == "waveform":
        return sound(count, clip.samples)
    if name == "audio_bytes":
        return encode_sounds(sound(count, -(-clip.samples // 2)), clip.sample_rate)
    return captions(count)
