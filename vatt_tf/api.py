"""The Python API for notebooks and apps: ``vatt_tf.load(path)`` gives a :class:`VattEmbedder`.

Example::

    embedder = vatt_tf.load("runs/quickstart")
    clips = embedder.embed_video(["a.mp4", "b.mp4"])  # [2, d], in the space shared with text
    query = embedder.embed_text("a red circle moves left")  # [d]
    embedder.similarity(query, clips)  # [2] cosines
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np

from vatt_tf.data import media
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import NO_VOCABULARY, UserError
from vatt_tf.evaluation import embeddings as embeddings_lib
from vatt_tf.evaluation import metrics

PathLike = str | os.PathLike

# The modality whose common space is meant when the caller does not say.
_DEFAULT_PARTNER = {"video": "text", "audio": "video", "text": "video"}


def load(path: str, *, batch_size: int = 8) -> VattEmbedder:
    """Loads a trained model for embedding.

    Args:
        path: Run directory (its newest checkpoint is taken) or weights folder.
        batch_size: Windows that go through the model at once.

    Returns:
        The embedder.

    Raises:
        UserError: If there is no usable model at ``path``.
    """
    from vatt_tf.models import io

    if not pathlib.Path(path).is_dir():
        raise UserError(f"{path}: no such folder; give a run directory or a weights folder")
    model, clip, tokenizer = io.load_pretrained(path)
    return VattEmbedder(model, clip, tokenizer, batch_size=batch_size)


class VattEmbedder:
    """Embeds videos, sounds and strings, and compares them.

    A model has one or more common spaces. With the paper's FAC head these are ``vt`` (video and
    text) and ``va`` (video and audio), so a video has one embedding in each. ``space`` says which
    is meant, best by the modality to compare with: ``embed_video(x, space="audio")`` is comparable
    with ``embed_audio(y)``. Defaults: video -> the space shared with text, audio and text -> the
    space shared with video. The exact space name ("va") works too, and ``space="all"`` gives a
    dict of all.

    Every result is float32 and has length 1 along the last axis. One input gives a vector [d], a
    list or a batch gives a matrix [n, d]. Inputs longer than the clip of the model are covered by
    ``windows`` evenly spaced windows whose embeddings are averaged (mean, then L2 norm); shorter
    ones are repeated from the start.
    """

    def __init__(
        self,
        model: Any,
        clip: ClipSpec,
        tokenizer: Callable[[Any], Any] | None,
        *,
        batch_size: int = 8,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, found {batch_size}")
        self.model = model
        self.clip = clip
        self.tokenizer = tokenizer
        self._batch_size = batch_size
        self._embed = embeddings_lib.embedding_function(model)
        self._spaces = _read_spaces(model, clip)

    @property
    def config(self) -> Any:
        """The ``VattConfig`` that the model was built from."""
        return self.model.config

    @property
    def spaces(self) -> dict[str, tuple[str, ...]]:
        """Common spaces and the modalities in them, e.g. ``{"va": ("video", "audio"), ...}``."""
        return {name: tuple(parts) for name, parts in self.dimensions.items()}

    @property
    def dimensions(self) -> dict[str, dict[str, int]]:
        """Embedding dimension per space and modality."""
        return self._spaces

    def embed_video(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        start: float = 0.0,
        end: float | None = None,
        frame_rate: float | None = None,
        windows: int = 4,
        space: str | None = None,
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Embeds video files or frames.

        Args:
            source: A path, a list of paths, frames uint8 [T, H, W, 3] (RGB), or a batch uint8
                [N, T, H, W, 3].
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            frame_rate: Frames per second of the given frames; the model's own rate by default.
                Files know theirs.
            windows: Windows averaged when the input is longer than a clip.
            space: See the class.

        Raises:
            UserError: If a file cannot be decoded or the array is not such frames.
        """
        self._require("video")
        _check_span(start, end, windows)
        if _is_paths(source):
            if frame_rate is not None:
                raise UserError("frame_rate is for arrays of frames; files carry their own")
            paths, single = _as_paths(source)
            clips = (self._file_windows(path, start, end, windows) for path in paths)
            return self._run("video", clips, len(paths), single, space)
        frames = _check_frames(source)
        single = frames.ndim == 4
        batch = frames[None] if single else frames
        rate = self.clip.frame_rate if frame_rate is None else float(frame_rate)
        if rate <= 0:
            raise UserError(f"frame_rate must be positive, found {frame_rate}")
        clips = (self._frame_windows(item, rate, start, end, windows) for item in batch)
        return self._run("video", clips, len(batch), single, space)

    def embed_audio(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        sample_rate: int | None = None,
        start: float = 0.0,
        end: float | None = None,
        windows: int = 4,
        space: str | None = None,
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Embeds sound files (or the sound of video files) or samples.

        Args:
            source: A path, a list of paths, mono samples [n], or a batch [N, n]: floats in [-1, 1]
                or int16.
            sample_rate: Samples per second of the given samples, 48000 by default. Files know
                theirs.
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            windows: Windows averaged when the input is longer than a clip.
            space: See the class.

        Raises:
            UserError: If a file has no sound or the array is not such samples.
        """
        self._require("audio")
        _check_span(start, end, windows)
        if _is_paths(source):
            if sample_rate is not None:
                raise UserError("sample_rate is for arrays of samples; files carry their own")
            paths, single = _as_paths(source)
            clips = (
                self._sample_windows(
                    media.read_audio(path, sample_rate=self.clip.sample_rate),
                    start,
                    end,
                    windows,
                    str(path),
                )
                for path in paths
            )
            return self._run("audio", clips, len(paths), single, space)
        samples = _check_samples(source)
        single = samples.ndim == 1
        batch = samples[None] if single else samples
        rate = 48_000 if sample_rate is None else sample_rate
        if rate <= 0:
            raise UserError(f"sample_rate must be positive, found {sample_rate}")
        clips = (
            self._sample_windows(
                _resample(item, rate, self.clip.sample_rate), start, end, windows, f"item {i}"
            )
            for i, item in enumerate(batch)
        )
        return self._run("audio", clips, len(batch), single, space)

    def embed_text(
        self, strings: str | Sequence[str], *, space: str | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Embeds one string or a list of strings; words beyond the model's token limit are cut.

        Raises:
            UserError: If something is not a string or is empty.
        """
        self._require("text")
        if self.tokenizer is None:
            raise UserError(f"embed_text: {NO_VOCABULARY}")
        single = isinstance(strings, str)
        values = [strings] if single else list(strings)
        if not values:
            raise UserError("embed_text needs at least one string, found an empty list")
        for i, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"embed_text: string {i} is {value!r}, expected words")
        tokens = np.asarray(self.tokenizer(values))
        clips = (iter([row]) for row in tokens)
        return self._run("text", clips, len(values), single, space)

    @staticmethod
    def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosine similarity of embeddings of one space.

        Args:
            a: [d] or [n, d].
            b: [d] or [m, d].

        Returns:
            float32 scalar, [m], [n] or [n, m]: an axis per input that is a matrix.

        Raises:
            UserError: If the dimensions differ.
        """
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        for name, value in (("first", a), ("second", b)):
            if value.ndim not in (1, 2):
                raise UserError(
                    f"similarity: the {name} input has shape {value.shape}, want [n, d]"
                )
        if a.shape[-1] != b.shape[-1]:
            raise UserError(
                f"similarity: the embeddings have {a.shape[-1]} and {b.shape[-1]} dimensions, so "
                'they are of different spaces; compare e.g. embed_video(x, space="audio") with '
                "embed_audio(y)"
            )
        a, b = metrics.l2_normalize(a), metrics.l2_normalize(b)
        return np.asarray(a @ b.T, np.float32)

    # --- From raw input to the windows that the model reads ---

    def _file_windows(
        self, path: pathlib.Path, start: float, end: float | None, windows: int
    ) -> Iterator[np.ndarray]:
        """Decodes the windows of a file one at a time (a long file never lies in memory)."""
        info = media.probe(path)
        if not info.has_video:
            raise UserError(f"{path}: has no video; embed_audio embeds its sound")
        length = self.clip.frames / self.clip.frame_rate
        # Some containers do not say how long they are: one window from the start then.
        duration = info.duration or start + length
        end = duration if end is None else min(end, duration)
        if start >= end:
            raise UserError(f"{path}: start={start} s is not before its end, {end:.3f} s")
        # The decoder scales with a proper filter; the exact size and crop come after.
        scale = max(self.clip.height / info.height, self.clip.width / info.width)
        short_side = max(1, math.ceil(min(info.height, info.width) * scale))
        begins = start + _window_starts(end - start, length, windows)
        # Half a frame more than a window, so that rounding never costs its last frame.
        extent = length + 0.5 / self.clip.frame_rate
        pieces = media.iter_clips(
            path,
            [(float(begin), min(end, float(begin) + extent)) for begin in begins],
            frame_rate=self.clip.frame_rate,
            short_side=short_side,
            sample_rate=0,
        )
        found = False
        for piece in pieces:
            found = True
            yield _fit_frames(_repeat(piece.frames, self.clip.frames), self.clip)
        if not found:
            raise UserError(f"{path}: no usable frame between {start:.2f} s and {end:.2f} s")

    def _frame_windows(
        self, frames: np.ndarray, rate: float, start: float, end: float | None, windows: int
    ) -> Iterator[np.ndarray]:
        """Windows of frames in memory, resampled in time by taking the nearest frame."""
        seconds = len(frames) / rate
        end = seconds if end is None else min(end, seconds)
        if start >= end:
            raise UserError(f"start={start} s is not before the end of the frames, {end:.3f} s")
        count = max(1, round((end - start) * self.clip.frame_rate))
        moments = start + np.arange(count) / self.clip.frame_rate
        index = np.clip(np.floor(moments * rate + 0.5).astype(int), 0, len(frames) - 1)
        for first in _window_starts(count, self.clip.frames, windows):
            chosen = index[int(first) : int(first) + self.clip.frames]
            yield _fit_frames(frames[_repeat(chosen, self.clip.frames)], self.clip)

    def _sample_windows(
        self, samples: np.ndarray, start: float, end: float | None, windows: int, name: str
    ) -> Iterator[np.ndarray]:
        rate = self.clip.sample_rate
        stop = len(samples) if end is None else min(len(samples), round(end * rate))
        samples = samples[round(start * rate) : stop]
        if not len(samples):
            raise UserError(f"{name}: no sound between {start} s and {stop / rate:.3f} s")
        for first in _window_starts(len(samples), self.clip.samples, windows):
            piece = samples[int(first) : int(first) + self.clip.samples]
            yield _audio_input(_repeat(piece, self.clip.samples), self.clip)

    # --- Through the model ---

    def _run(
        self,
        modality: str,
        clips: Iterator[Iterator[np.ndarray]],
        count: int,
        single: bool,
        space: str | None,
    ) -> np.ndarray | dict[str, np.ndarray]:
        chosen = self._resolve(modality, space)
        sums: dict[str, np.ndarray] = {}
        waiting: list[tuple[int, np.ndarray]] = []

        def flush() -> None:
            outputs = self._embed({modality: np.stack([window for _, window in waiting])})
            owners = [owner for owner, _ in waiting]
            for name in chosen:
                value = np.asarray(outputs[name][modality], np.float32).reshape(len(owners), -1)
                total = sums.setdefault(name, np.zeros((count, value.shape[-1]), np.float32))
                np.add.at(total, owners, value)
            waiting.clear()

        for owner, windows in enumerate(clips):
            for window in windows:
                waiting.append((owner, window))
                if len(waiting) == self._batch_size:
                    flush()
        if waiting:
            flush()
        # The mean and the sum over the windows of a clip have the same direction.
        results = {name: metrics.l2_normalize(value) for name, value in sums.items()}
        for name, value in results.items():
            if not np.isfinite(value).all():
                raise UserError(f"the {modality} embeddings in space {name} are not finite")
        results = {name: value[0] if single else value for name, value in results.items()}
        return results if space == "all" else results[chosen[0]]

    def _require(self, modality: str) -> None:
        if not any(modality in parts for parts in self.spaces.values()):
            raise UserError(f"this model has no {modality} tower; its spaces: {self.spaces}")

    def _resolve(self, modality: str, space: str | None) -> list[str]:
        """Space names meant by ``space``."""
        own = {name: parts for name, parts in self.spaces.items() if modality in parts}
        if space == "all":
            return list(own)
        if space is None:
            partner = _DEFAULT_PARTNER[modality]
            return [next((n for n, parts in own.items() if partner in parts), next(iter(own)))]
        if space in own:
            return [space]
        found = [name for name, parts in own.items() if space in parts and space != modality]
        if not found:
            partners = sorted({m for parts in own.values() for m in parts} - {modality})
            raise UserError(
                f"space={space!r} for {modality}: expected the modality to compare with "
                f"({', '.join(partners)}), a space name ({', '.join(own)}) or 'all'"
            )
        return found[:1]


def _read_spaces(model: Any, clip: ClipSpec) -> dict[str, dict[str, int]]:
    """Space -> modality -> dimension, read off the shapes of the head."""
    modalities = [m for m in embeddings_lib.MODALITIES if m != "audio" or clip.audio != "none"]
    shapes = model.head.compute_output_shape(
        {m: (None, model.tower(m).output_dim) for m in modalities}
    )
    return {
        space: {m: int(parts[m][-1]) for m in modalities if m in parts}
        for space, parts in shapes.items()
    }


def _window_starts(length: float, window: float, windows: int) -> np.ndarray:
    """Starts of evenly spaced windows over ``length``; a single one when it is no longer."""
    if length <= window:
        return np.zeros(1)
    return (
        np.linspace(0.0, length - window, windows)
        if windows > 1
        else np.array([(length - window) / 2.0])
    )


def _repeat(values: np.ndarray, length: int) -> np.ndarray:
    """Repeats cyclically, or cuts, to ``length`` along the first axis (facts A.2)."""
    return values[np.arange(length) % len(values)]


def _fit_frames(frames: np.ndarray, clip: ClipSpec) -> np.ndarray:
    """Scales frames to cover the model's size and cuts the centre: uint8 [T, height, width, 3]."""
    from vatt_tf.data import video_ops

    target = (clip.height, clip.width)
    if frames.shape[1:3] == target:
        return frames
    top, left, height, width = np.asarray(video_ops.fitting_box(frames.shape[1:3], target))
    cut = frames[:, top : top + height, left : left + width]
    return np.asarray(video_ops.to_uint8(video_ops.resize(cut, target)))


def _audio_input(samples: np.ndarray, clip: ClipSpec) -> np.ndarray:
    """Makes the audio tower's input of one window: [samples, 1] or log-mel [frames, bins, 1]."""
    if clip.audio == "waveform":
        return samples[:, None].astype(np.float32)
    from vatt_tf.data import audio_ops

    return np.asarray(audio_ops.log_mel(samples, clip))[..., None]


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


def _is_paths(source: Any) -> TypeGuard[PathLike | Sequence[PathLike]]:
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
    paths = [pathlib.Path(item) for item in items]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    return paths, single


def _check_span(start: float, end: float | None, windows: int) -> None:
    if start < 0 or (end is not None and end <= start):
        raise UserError(f"expected 0 <= start < end in seconds, found start={start}, end={end}")
    if windows < 1:
        raise UserError(f"windows must be at least 1, found {windows}")


def _check_frames(source: Any) -> np.ndarray:
    frames = np.asarray(source)
    if frames.ndim not in (4, 5) or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(
            f"frames have shape {frames.shape}, expected [T, H, W, 3] or [N, T, H, W, 3]; give "
            "files as a path or a list of paths"
        )
    if frames.dtype != np.uint8:
        raise UserError(f"frames are {frames.dtype}, expected uint8 RGB values 0..255")
    return frames


def _check_samples(source: Any) -> np.ndarray:
    samples = np.asarray(source)
    if samples.ndim not in (1, 2) or 0 in samples.shape:
        raise UserError(
            f"samples have shape {samples.shape}, expected mono [n] or a batch [N, n]; give files "
            "as a path or a list of paths"
        )
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
