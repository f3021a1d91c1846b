"""Files, frames, samples and strings as windows of the clip shape, for embedders and clients.

NumPy and PyAV only: a serving client loads no TensorFlow. The frames come out as evaluation makes
them: scaled to cover the clip, centre crop, bilinear (antialiased where a side shrinks to less than
half).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np

from vatt_tf import paths as paths_lib
from vatt_tf.data import media
from vatt_tf.data.media import resampling
from vatt_tf.data.media.info import MediaInfo
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError, value_text

PathLike = str | os.PathLike
Windows = Iterator[np.ndarray]
# An array of samples with no more columns is one recording, [n, channels], as soundfile and SciPy
# give it, if it has at least so many rows: 0.1 s of speech.
MOST_CHANNELS, FEWEST_SAMPLES = 8, 800


@dataclasses.dataclass(frozen=True)
class Span:
    """Which part of an input is read, and in how many windows.

    Attributes:
        start: Seconds.
        end: Seconds; None for the end.
        windows: Evenly spaced windows of an input that is longer than a clip.
    """

    start: float = 0.0
    end: float | None = None
    windows: int = 4

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (_is_real(value) or (value is None and name == "end")):
                raise UserError(f"{name} is {value_text(value)}, expected seconds")
        if not isinstance(self.windows, numbers.Integral):
            raise UserError(f"windows is {value_text(self.windows)}, expected a whole number")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UserError(
                f"expected 0 <= start < end in seconds, found start={self.start}, end={self.end}"
            )
        if self.windows < 1:
            raise UserError(f"windows must be at least 1, found {self.windows}")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """One or more inputs of a modality, each a series of windows.

    Attributes:
        single: Whether the caller gave one input rather than a batch.
        count: Inputs.
        clips: The windows of each input, made while they are read.
    """

    single: bool
    count: int
    clips: Iterator[Windows]


def video_inputs(source: Any, clip: ClipSpec, span: Span, frame_rate: float | None) -> Inputs:
    """Windows uint8 [frames, height, width, 3] of video files or arrays of frames.

    Raises:
        UserError: If a file is not there or the array holds no frames.
    """
    if is_paths(source):
        if frame_rate is not None:
            raise UserError("frame_rate is for arrays of frames; files carry their own")
        paths, single = _as_paths(source)
        return Inputs(single, len(paths), (_file_windows(path, clip, span) for path in paths))
    frames = _check_frames(source)
    single = frames.ndim == 4
    batch = frames[None] if single else frames
    rate = float(_rate("frame_rate", clip.frame_rate if frame_rate is None else frame_rate))
    return Inputs(single, len(batch), (_frame_windows(item, rate, clip, span) for item in batch))


def audio_inputs(source: Any, clip: ClipSpec, span: Span, sample_rate: int | None) -> Inputs:
    """Windows float32 [samples] of sound or video files or arrays of samples.

    Raises:
        UserError: If a file is not there or the array holds no samples.
    """
    if is_paths(source):
        if sample_rate is not None:
            raise UserError("sample_rate is for arrays of samples; files carry their own")
        paths, single = _as_paths(source)
        rate = resampling.read_rate(clip.sample_rate)
        read = functools.partial(media.read_audio, sample_rate=rate)
        clips = (_sample_windows(read(path), rate, clip, span, str(path)) for path in paths)
        return Inputs(single, len(paths), clips)
    samples = _check_samples(source)
    single = samples.ndim == 1
    batch = samples[None] if single else samples
    rate = int(_rate("sample_rate", 48_000 if sample_rate is None else sample_rate))
    step, rest = divmod(rate, clip.sample_rate)
    # What is no multiple takes the way of a file.
    fits = rest == 0 and step <= resampling.MOST_STEP
    read_at = rate if fits else resampling.read_rate(clip.sample_rate)
    clips = (
        _sample_windows(_resample(item, rate, read_at), read_at, clip, span, f"item {i}")
        for i, item in enumerate(batch)
    )
    return Inputs(single, len(batch), clips)


def text_inputs(strings: str | Sequence[str]) -> Inputs:
    """Strings as arrays of one ``bytes`` object.

    Raises:
        UserError: If something is not a string or is empty.
    """
    single = isinstance(strings, str)
    if not single and (isinstance(strings, bytes) or not isinstance(strings, Iterable)):
        raise UserError(
            f"embed_text takes a string or a list of strings, found {value_text(strings)}"
        )
    values: list[str] = [strings] if isinstance(strings, str) else list(strings)
    if not values:
        raise UserError("embed_text needs at least one string, found an empty list")
    for i, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"embed_text: string {i} is {value!r}, expected words")
        if not paths_lib.is_utf8(value):
            raise UserError(
                f"embed_text: '{paths_lib.shown(value)}' is not valid UTF-8; write it in UTF-8"
            )
    clips = (iter([np.array(value.encode(), np.object_)]) for value in values)
    return Inputs(single, len(values), clips)


def _file_windows(path: pathlib.Path, clip: ClipSpec, span: Span) -> Windows:
    """Decodes the windows of a file one at a time (a long file never lies in memory)."""
    info = media.probe(path)
    if not info.has_video:
        raise UserError(f"{path}: has no video; embed_audio embeds its sound")
    length = clip.frames / clip.frame_rate
    # A length in the header is that of the longest stream, or none. Without any stamp: one window.
    duration = media.end_of(path, "video") or span.start + length
    end = duration if span.end is None else min(span.end, duration)
    if span.start >= end:
        raise UserError(f"{path}: start={span.start} s is not before its end, {end:.3f} s")
    begins = span.start + _window_starts(end - span.start, length, span.windows)
    # Half a frame more than a window, so that rounding never costs its last frame.
    extent = length + 0.5 / clip.frame_rate
    pieces = media.iter_clips(
        path,
        [(float(begin), min(end, float(begin) + extent)) for begin in begins],
        frame_rate=clip.frame_rate,
        short_side=covering_side(info, clip),
        sample_rate=0,
    )
    found = False
    for piece in pieces:
        found = True
        yield fit_frames(repeat(piece.frames, clip.frames), (clip.height, clip.width))
    if not found:
        raise UserError(f"{path}: no usable frame between {span.start:.2f} s and {end:.2f} s")


def covering_side(info: MediaInfo, clip: ClipSpec) -> int:
    """Short side at which a file's frames just cover the clip; the decoder scales to it."""
    scale = max(clip.height / info.height, clip.width / info.width)
    return max(1, math.ceil(min(info.height, info.width) * scale))


def _frame_windows(frames: np.ndarray, rate: float, clip: ClipSpec, span: Span) -> Windows:
    """Windows of frames in memory, resampled in time by taking the nearest frame."""
    seconds = len(frames) / rate
    end = seconds if span.end is None else min(span.end, seconds)
    if span.start >= end:
        raise UserError(f"start={span.start} s is not before the end of the frames, {end:.3f} s")
    count = max(1, round((end - span.start) * clip.frame_rate))
    moments = span.start + np.arange(count) / clip.frame_rate
    index = np.clip(np.floor(moments * rate + 0.5).astype(int), 0, len(frames) - 1)
    for first in _window_starts(count, clip.frames, span.windows):
        chosen = index[int(first) : int(first) + clip.frames]
        yield fit_frames(frames[repeat(chosen, clip.frames)], (clip.height, clip.width))


def _sample_windows(
    samples: np.ndarray, read_at: int, clip: ClipSpec, span: Span, name: str
) -> Windows:
    """Windows of samples in memory, whose rate is a multiple of that of the clip."""
    rate, step = clip.sample_rate, read_at // clip.sample_rate
    stop = -(-len(samples) // step)
    stop = stop if span.end is None else min(stop, round(span.end * rate))
    start = round(span.start * rate)
    if stop <= start:
        raise UserError(f"{name}: no sound between {span.start} s and {stop / rate:.3f} s")
    for first in _window_starts(stop - start, clip.samples, span.windows):
        at = start + int(first)
        count = min(stop - at, clip.samples)
        piece = resampling.reduced(samples, at * step, count, step, clip.audio_resampling)
        yield repeat(piece, clip.samples).astype(np.float32)


def _window_starts(length: float, window: float, windows: int) -> np.ndarray:
    """Starts of evenly spaced windows over ``length``; a single one when it is no longer."""
    if length <= window:
        return np.zeros(1)
    if windows == 1:
        return np.array([(length - window) / 2.0])
    return np.linspace(0.0, length - window, windows)


def repeat(values: np.ndarray, length: int) -> np.ndarray:
    """Repeats cyclically, or cuts, to ``length`` along the first axis."""
    return values[np.arange(length) % len(values)]


def fit_frames(frames: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """Scales frames to cover the target and cuts the centre.

    Args:
        frames: uint8 [T, H, W, 3].
        target: Height and width.

    Returns:
        uint8 [T, height, width, 3].
    """
    size = frames.shape[1:3]
    if size == target:
        return frames
    # In float32 and in this order, as video_ops.fitting_box: a half must round the same way.
    goal, stored = np.asarray(target, np.float32), np.asarray(size, np.float32)
    box = np.clip(np.round(goal / np.max(goal / stored)), 1.0, stored)
    corner = np.minimum(np.floor((stored - box) * 0.5 + 0.5), stored - box)
    (top, left), (height, width) = corner.astype(int), box.astype(int)
    cut = frames[:, top : top + height, left : left + width]
    if cut.shape[1:3] == target:
        return cut
    antialias = height > 2 * target[0] or width > 2 * target[1]
    rows = _resize_matrix(int(height), target[0], bool(antialias))
    columns = _resize_matrix(int(width), target[1], bool(antialias))
    result = np.empty((len(frames), *target, 3), np.uint8)
    for frame, out in zip(cut, result, strict=True):
        # Rows, then columns: two matrix products.
        low = rows @ frame.reshape(height, -1).astype(np.float32)
        low = low.reshape(target[0], width, 3).swapaxes(0, 1).reshape(width, -1)
        small = (columns @ low).reshape(target[1], target[0], 3).swapaxes(0, 1)
        out[...] = small + 0.5  # rounds: the values are not negative
    return result


@functools.lru_cache(maxsize=64)
def _resize_matrix(source: int, target: int, antialias: bool) -> np.ndarray:
    """Weights float32 [target, source] of a bilinear resize with pixel centres at halves."""
    scale = source / target
    reach = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(target) + 0.5) * scale
    if not antialias:
        # Beyond the outermost pixel centres the edge is continued.
        centres = np.clip(centres, 0.5, source - 0.5)
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(1.0 - distance, 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resamples float32 [n] with a low-pass filter (FFmpeg's resampler)."""
    if rate == wanted:
        return samples
    import av

    frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    blocks = [block.to_ndarray()[0] for f in (frame, None) for block in resampler.resample(f)]
    return np.concatenate(blocks) if blocks else samples[:0]


def is_paths(source: Any) -> TypeGuard[PathLike | Sequence[PathLike]]:
    """Whether an input is one path or several, not an array."""
    if isinstance(source, str | os.PathLike):
        return True
    return (
        isinstance(source, Sequence)
        and len(source) > 0
        and all(isinstance(item, str | os.PathLike) for item in source)
    )


def _as_paths(source: PathLike | Sequence[PathLike]) -> tuple[list[pathlib.Path], bool]:
    single = isinstance(source, str | os.PathLike)
    items = [source] if isinstance(source, str | os.PathLike) else source
    paths = [pathlib.Path(paths_lib.expand(item)) for item in items]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    return paths, single


def _is_real(value: Any) -> TypeGuard[float]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _rate(name: str, value: Any) -> Any:
    """A rate that is a positive number, of samples a whole one."""
    good = _is_real(value) and 0 < value < math.inf
    if not good or (name == "sample_rate" and value != int(value)):
        unit = "a whole number of samples" if name == "sample_rate" else "frames"
        raise UserError(f"{name} must be positive, {unit} a second, found {value!r}")
    return value


def _as_array(source: Any, what: str, expected: str) -> np.ndarray:
    try:
        array = np.asarray(source)
    except ValueError as error:
        shapes = ", ".join(str(np.shape(item)) for item in list(source)[:4])
        raise UserError(
            f"{what} are a list of arrays of different shapes ({shapes}), expected {expected}; "
            "embed one after the other"
        ) from error
    return array


def _check_frames(source: Any) -> np.ndarray:
    frames = _as_array(source, "frames", "[T, H, W, 3] or [N, T, H, W, 3]")
    if frames.ndim not in (4, 5) or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(
            f"frames have shape {frames.shape}, expected [T, H, W, 3] or [N, T, H, W, 3]; give "
            "files as a path or a list of paths"
        )
    if frames.dtype != np.uint8:
        raise UserError(f"frames are {frames.dtype}, expected uint8 RGB values 0..255")
    return frames


def _check_samples(source: Any) -> np.ndarray:
    """Samples float32, mono [n] or a batch [N, n]; the channels of a recording are averaged."""
    expected = "mono [n], a recording [n, channels] or a batch [N, n]"
    samples = _as_array(source, "samples", expected)
    if samples.ndim not in (1, 2) or 0 in samples.shape:
        raise UserError(
            f"samples have shape {samples.shape}, expected {expected}; give files as a path or a "
            "list of paths"
        )
    recording = samples.ndim == 2 and samples.shape[1] <= MOST_CHANNELS
    if recording and len(samples) < FEWEST_SAMPLES:
        raise UserError(
            f"samples have shape {samples.shape}: neither a recording [n, channels] of at least "
            f"{FEWEST_SAMPLES} samples nor a batch [N, n] of more than {MOST_CHANNELS}; give one "
            "recording as mono [n], samples.mean(axis=1), or one item of a batch at a time"
        )
    values = _check_values(samples)
    return values.mean(axis=1) if recording else values


def _check_values(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / 32768.0
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"samples are {samples.dtype}, expected floats in [-1, 1] or int16")
    if not np.isfinite(samples).all():
        raise UserError("samples hold NaN or infinity")
    peak = float(np.abs(samples).max())
    # Resampling and lossy decoding overshoot 1.0 a little; integers stored as floats by far.
    if peak > 4.0:
        raise UserError(f"samples reach {peak:g}, expected [-1, 1]: divide int16 values by 32768")
    return samples.astype(np.float32)
