"""Signatures' inputs and their preprocessing inside of the graph.

TensorFlow Serving checks neither shapes nor values, so the graph does: a request that cannot work
ends with INVALID_ARGUMENT and a message with the found and the expected value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from vatt_tf.data.input import audio_ops, video_ops
from vatt_tf.data.schema import ClipSpec

DEFAULT = "serving_default"
# Largest clip of a tower that accepts any size, as multiple of its training patches (or this many
# patches, where it was trained with few): the memory of attention grows with their square.
PATCH_FACTOR, PATCH_FLOOR = 4, 2048
# Most pixels of an encoded frame, a little over 7680 x 4320: a header of a few bytes can announce
# gigabytes.
MOST_PIXELS = 1 << 25
# Most pixels of the scans of a clip's frames, on average a frame: a progressive JPEG has about ten
# scans, one of a few kilobytes can have hundreds, and each goes over all pixels.
MOST_SCANNED = 10 * MOST_PIXELS
# Largest sample: resampling and lossy decoding overshoot 1.0 a little, integers as floats by far.
LARGEST_SAMPLE = 4.0


@dataclasses.dataclass(frozen=True)
class Signature:
    """Form in which clients send a modality.

    Attributes:
        name: Name of the signature.
        input: Name, dtype and shape of the modality's input.
        prepare: Maps the input, inside the graph, to what the model reads.
    """

    name: str
    input: tf.TensorSpec
    prepare: Callable[[tf.Tensor], tf.Tensor]


def signatures(
    towers: Mapping[str, Any], clip: ClipSpec, tokenizer: Callable[[tf.Tensor], tf.Tensor] | None
) -> dict[str, dict[str, Signature]]:
    """Signatures of a model of one or several modalities.

    Args:
        towers: Modality -> tower.
        clip: Shape of the clips that the model was trained with.
        tokenizer: Of the text; None where none is read.

    Returns:
        Signature -> modality -> its input. Text has one form, which all signatures take.
    """
    found: dict[str, dict[str, Signature]] = {}
    for modality, tower in towers.items():
        if modality == "video":
            forms = video_signatures(clip, tower)
        elif modality == "audio":
            forms = audio_signatures(clip, tower)
        else:
            assert tokenizer is not None
            forms = text_signatures(tokenizer)
        found[modality] = {form.name: form for form in forms}
    names = dict.fromkeys(name for forms in found.values() for name in forms)
    return {
        name: {modality: forms.get(name, forms[DEFAULT]) for modality, forms in found.items()}
        for name in names
    }


def with_equal_rows(names: Sequence[str], values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the inputs of a signature, with a check that all have as many rows."""
    if len(values) == 1:
        return list(values)
    rows = tf.stack([tf.shape(value)[0] for value in values])
    message = f"{', '.join(names)}: {{}} rows, expected equal numbers"
    equal = _require(tf.reduce_all(rows == rows[0]), message, rows)
    return [_after(value, equal) for value in values]


def video_signatures(clip: ClipSpec, tower: Any) -> tuple[Signature, ...]:
    """Signatures of a model that reads video.

    Args:
        clip: Shape of the clips that the model was trained with.
        tower: The video tower.

    Returns:
        ``serving_default`` (frames uint8 [b, t, h, w, 3]) and ``encoded`` (frames_bytes string
        [b, t], JPEG of any size).
    """
    size = (None,) * 3 if tower.any_size else (clip.frames, clip.height, clip.width)

    def raw(frames: tf.Tensor) -> tf.Tensor:
        frames = tf.ensure_shape(frames, [None, None, None, None, 3])
        shape = tf.shape(frames)
        fits = _fits("frames", shape[1:4], clip, tower)
        frames = _after(frames, _not_empty("frames", shape), *fits)
        return tf.ensure_shape(frames, [None, *size, 3])

    def encoded(frames: tf.Tensor) -> tf.Tensor:
        frames = tf.ensure_shape(frames, [None, None])
        shape = tf.shape(frames)
        fits = _fits("frames_bytes", tf.stack([shape[1], clip.height, clip.width]), clip, tower)
        frames = _after(frames, _not_empty("frames_bytes", shape), *fits)
        frames = tf.ensure_shape(_after(frames, _is_jpeg(frames)), [None, size[0]])
        return decode_frames(frames, clip)

    return (
        _signature(DEFAULT, "frames", [None, None, None, None, 3], tf.uint8, raw),
        _signature("encoded", "frames_bytes", [None, None], tf.string, encoded),
    )


def audio_signatures(clip: ClipSpec, tower: Any) -> tuple[Signature, ...]:
    """Signatures of a model that reads sound.

    Args:
        clip: Shape of the clips that the model was trained with.
        tower: The audio tower.

    Returns:
        ``serving_default`` (waveform float32 [b, samples] in [-1, 1]) and ``encoded`` (audio_bytes
        string [b], WAV).
    """
    low, high = sample_limits(clip, tower)

    def raw(waveform: tf.Tensor) -> tf.Tensor:
        waveform = tf.ensure_shape(waveform, [None, None])
        shape = tf.shape(waveform)
        expected = f"{low}" if low == high else f"{low} to {high}"
        fits = _require(
            (shape[1] >= low) & (shape[1] <= high),
            f"waveform: clips of {{}} samples, expected {expected}",
            shape[1],
        )
        waveform = _after(waveform, _not_empty("waveform", shape), fits)
        waveform = tf.ensure_shape(waveform, [None, low if low == high else None])
        return tower_audio(_checked_sound(waveform), clip)

    def encoded(sounds: tf.Tensor) -> tf.Tensor:
        sounds = tf.ensure_shape(sounds, [None])
        sounds = _after(sounds, _not_empty("audio_bytes", tf.shape(sounds)))
        return tower_audio(decode_sounds(sounds, clip), clip)

    return (
        _signature(DEFAULT, "waveform", [None, None], tf.float32, raw),
        _signature("encoded", "audio_bytes", [None], tf.string, encoded),
    )


def text_signatures(tokenizer: Callable[[tf.Tensor], tf.Tensor]) -> tuple[Signature, ...]:
    """``serving_default`` (text string [b]) of a model that reads text; it holds the tokenizer."""

    def raw(text: tf.Tensor) -> tf.Tensor:
        text = tf.ensure_shape(text, [None])
        return tokenizer(_after(text, _not_empty("text", tf.shape(text))))

    return (_signature(DEFAULT, "text", [None], tf.string, raw),)


def patch_limit(tower: Any) -> int:
    """Largest number of patches of a clip."""
    return max(PATCH_FACTOR * math.prod(tower.configured_grid), PATCH_FLOOR)


def sample_limits(clip: ClipSpec, tower: Any) -> tuple[int, int]:
    """Smallest and largest number of samples of a clip; equal when only one size works."""
    if not tower.any_size:
        return clip.samples, clip.samples
    if clip.audio == "waveform":
        return tower.patch[0], tower.patch[0] * patch_limit(tower)
    steps, bands = tower.patch
    # The last STFT window may be zero-padded, so that one more sample gives one more time step.
    most = patch_limit(tower) // (clip.mel_bins // bands)
    return (steps - 1) * clip.stft_step + 1, most * steps * clip.stft_step


def decode_frames(frames: tf.Tensor, clip: ClipSpec) -> tf.Tensor:
    """Decodes JPEG [b, t] to uint8 [b, t, height, width, 3], centre-cropped as in evaluation."""
    target = (clip.height, clip.width)

    def one(encoded: tf.Tensor) -> tf.Tensor:
        size = video_ops.frame_size(encoded[0])
        pixels = tf.reduce_prod(tf.cast(size, tf.int64))
        allowed = _require(
            pixels <= MOST_PIXELS,
            f"frames_bytes: a frame of {{}} pixels (height, width), at most {MOST_PIXELS} in all",
            size,
        )
        scans = _scans(encoded)
        few_scans = _require(
            scans * pixels <= MOST_SCANNED * tf.size(encoded, tf.int64),
            f"frames_bytes: {{}} scans in {{}} frames of {{}} pixels (height, width), at most "
            f"{MOST_SCANNED} pixels of scans a frame; save them as baseline JPEG",
            scans,
            tf.size(encoded),
            size,
        )
        encoded = _after(encoded, allowed, few_scans)
        box = video_ops.fitting_box(size, target)
        return video_ops.decode_clip(encoded, size, box, target)

    spec = tf.TensorSpec([frames.shape[1], *target, 3], tf.uint8)
    return tf.map_fn(one, frames, fn_output_signature=spec)


def _scans(encoded: tf.Tensor) -> tf.Tensor:
    """Number of scans of JPEGs [frames] together: markers ff da, which no data of a scan holds."""
    content = tf.io.decode_raw(tf.strings.reduce_join(encoded), tf.uint8)
    marker = tf.logical_and(content[:-1] == 0xFF, content[1:] == 0xDA)
    return tf.math.count_nonzero(marker)


def decode_sounds(sounds: tf.Tensor, clip: ClipSpec) -> tf.Tensor:
    """Decodes WAV [b] to float32 [b, samples]: mono, cut or repeated from the start to a clip."""

    def one(encoded: tf.Tensor) -> tf.Tensor:
        sound, rate = tf.audio.decode_wav(encoded)
        right_rate = _require(
            tf.equal(rate, clip.sample_rate),
            f"audio_bytes: {{}} samples per second, expected {clip.sample_rate}; resample it",
            rate,
        )
        not_empty = _require(tf.shape(sound)[0] > 0, "audio_bytes: the WAV holds no samples")
        mono = tf.reduce_mean(_after(sound, right_rate, not_empty), axis=1)
        return tf.gather(mono, tf.range(clip.samples) % tf.shape(mono)[0])

    return tf.map_fn(one, sounds, fn_output_signature=tf.TensorSpec([clip.samples], tf.float32))


def tower_audio(waveform: tf.Tensor, clip: ClipSpec) -> tf.Tensor:
    """Audio frontend: [b, samples, 1] or log-mel [b, mel_frames, mel_bins, 1]."""
    return audio_ops.audio_frontend(waveform, clip)[..., tf.newaxis]


def _signature(name: str, key: str, shape: list, dtype: tf.DType, prepare: Callable) -> Signature:
    return Signature(name, tf.TensorSpec(shape, dtype, name=key), prepare)


def _require(condition: tf.Tensor, message: str, *values: tf.Tensor) -> Any:
    """Assertion whose failure ends the request with the message, its ``{}`` filled."""
    text = tf.strings.format(message, values) if values else message
    return tf.debugging.Assert(condition, [text])


def _after(value: tf.Tensor, *checks: Any) -> tf.Tensor:
    """Adds a control dependency of the value on the checks, so that their error comes first."""
    with tf.control_dependencies(checks):
        return tf.identity(value)


def _not_empty(name: str, shape: tf.Tensor) -> Any:
    return _require(shape[0] > 0, f"{name}: the batch is empty, expected at least one row")


def _fits(name: str, size: tf.Tensor, clip: ClipSpec, tower: Any) -> list[Any]:
    """Checks int32 [3] frames, height and width of clips."""
    if not tower.any_size:
        expected = [clip.frames, clip.height, clip.width]
        message = f"{name}: clips of {{}} (frames, height, width), expected {expected}"
        return [_require(tf.reduce_all(size == expected), message, size)]
    patch, most = list(tower.patch), patch_limit(tower)
    patches = tf.reduce_prod(tf.cast(size // patch, tf.int64))
    found = f"{name}: clips of {{}} (frames, height, width)"
    return [
        _require(
            tf.reduce_all(size >= patch), f"{found}, expected at least a patch, {patch}", size
        ),
        _require(
            patches <= most, f"{found} have {{}} patches, expected at most {most}", size, patches
        ),
    ]


def _is_jpeg(frames: tf.Tensor) -> Any:
    """Checks the first bytes; the decoder finds other damage."""
    good = tf.strings.substr(frames, 0, 3) == b"\xff\xd8\xff"
    return _require(
        tf.reduce_all(good),
        "frames_bytes: no JPEG at {} (clip, frame)",
        tf.reshape(tf.where(~good)[:1], [-1]),
    )


def _checked_sound(waveform: tf.Tensor) -> tf.Tensor:
    finite = tf.reduce_all(tf.math.is_finite(waveform))
    waveform = _after(waveform, _require(finite, "waveform: holds NaN or infinity"))
    peak = tf.reduce_max(tf.abs(waveform))
    message = "waveform: values up to {}, expected [-1, 1]; divide int16 values by 32768"
    return _after(waveform, _require(peak <= LARGEST_SAMPLE, message, peak))
