"""Embeds the clips of a folder of videos into an index: decoding, batching, writing."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import av
import numpy as np

from vatt_tf import paths
from vatt_tf.data import media
from vatt_tf.data.media.ahead import clips_of, read_ahead
from vatt_tf.data.media.scan import MEDIA_SUFFIXES, VIDEO_SUFFIXES, find_files, not_looked_at, scan
from vatt_tf.data.media.spans import Grid
from vatt_tf.data.media.tracks.container import UnreachableError
from vatt_tf.data.media.windows import covering_side, fit_frames, repeat
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError
from vatt_tf.search_index.folder import Entry, IndexFolder
from vatt_tf.search_index.models import Model
from vatt_tf.unit_length import l2_normalize

# Errors of FFmpeg's bindings for corrupt files; one file must not end the job.
_ODD = (av.error.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)
# A last window of less than this fraction of a clip is left out.
LEAST_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class VideoFile:
    """Video of the folder: its name in the index, its size and time of change.

    The name is the path below the folder, as Python has it: bytes that are not UTF-8 are lone
    surrogates, with which the file can be opened.
    """

    name: str
    path: pathlib.Path
    size: int
    mtime_ns: int


@dataclasses.dataclass(frozen=True)
class Window:
    """Clip of a video as windows of the model: uint8 [w, frames, height, width, 3]."""

    video: VideoFile
    windows: np.ndarray
    start: float
    end: float
    fraction: float  # of the video that is read up to here


@dataclasses.dataclass(frozen=True)
class End:
    """End of a video.

    Attributes:
        video: The video.
        reason: The part of it that could not be used, "" if all of it was.
        seconds: Where the picture ends, as far as it was read.
        retry: Whether the operating system did not give the file: another run may read it.
    """

    video: VideoFile
    reason: str
    seconds: float = math.inf
    retry: bool = False


def find_videos(
    folder: str | os.PathLike, leave_out: Sequence[str | os.PathLike] = ()
) -> list[VideoFile]:
    """Finds the video files below a folder, sorted by name, by the rules of ``prepare``.

    Sound files are among them, so that the quarantine can say what is wrong with them.

    Args:
        folder: Links are followed, hidden files and folders left out.
        leave_out: Folders in it that are not searched.

    Raises:
        UserError: If there is no such folder or no video in it.
    """
    root = pathlib.Path(paths.expand(folder)).absolute()
    if not root.is_dir():
        raise UserError(f"--videos={folder}: no such folder")
    found = []
    for name in sorted(find_files(root, MEDIA_SUFFIXES["video"], leave_out)):
        path = root / name
        try:
            facts = path.stat()
        except OSError:  # a dangling link: opening it gives the reason for the quarantine
            found.append(VideoFile(name, path, 0, 0))
            continue
        if stat.S_ISREG(facts.st_mode):
            found.append(VideoFile(name, path, facts.st_size, facts.st_mtime_ns))
    if not any(video.path.suffix.lower() in VIDEO_SUFFIXES for video in found):
        raise UserError(
            f"--videos={folder}: no video file found (looked for {' '.join(VIDEO_SUFFIXES)} in it "
            "and in its sub-folders; hidden files are left out)"
        )
    return found


def other_files(
    folder: str | os.PathLike, leave_out: Sequence[str | os.PathLike] = ()
) -> list[dict[str, str]]:
    """Warnings of the manifest about files below a folder that are neither media nor captions."""
    others: dict[str, list[str]] = {}
    scan(folder, MEDIA_SUFFIXES["video"], [], leave_out, others)
    return [{"file": first, "warning": note} for first, note in not_looked_at(others, "video")]


def waiting_videos(index: IndexFolder, videos: list[VideoFile]) -> list[VideoFile]:
    """Updates the index from the folder; returns the videos to embed.

    Videos that have left the folder are no longer found; when they come back unchanged, they are,
    without being embedded again. Changed files are embedded again.
    """
    here = {video.name for video in videos}
    for entry in list(index.entries.values()):
        if entry.present and entry.file not in here:
            index.mark(entry.file, False)
    waiting = []
    for video in videos:
        known = index.entries.get(video.name)
        if known is None or (known.size, known.mtime_ns) != (video.size, video.mtime_ns):
            waiting.append(video)
        elif not known.present:
            index.mark(video.name, True)
    return waiting


def read_windows(
    videos: Iterable[VideoFile], clip: ClipSpec, clip_seconds: float, stride_seconds: float
) -> Iterator[Window | End]:
    """Decodes the windows of videos, each followed by an ``End``."""
    for video in videos:
        notes: list[str] = []
        seconds, retry = math.inf, False
        try:
            seconds = yield from _windows_of(video, clip, clip_seconds, stride_seconds, notes)
        except UserError as error:
            retry = isinstance(error, UnreachableError)
            notes.append(str(error).removeprefix(f"{video.path}: "))
        except _ODD as error:
            notes.append(f"cannot be decoded: {type(error).__name__}: {error}")
        yield End(video, "; ".join(notes), seconds, retry)


def _windows_of(
    video: VideoFile, clip: ClipSpec, length: float, stride: float, notes: list[str]
) -> Generator[Window, None, float]:
    (info,) = read_ahead(map(media.probe, [video.path]), 1, lambda: None)
    if not info.has_video:
        notes.append("has no video")
        return 0.0
    reader = media.ClipReader(
        video.path,
        frame_rate=clip.frame_rate,
        short_side=covering_side(info, clip),
        sample_rate=0,
    )
    grid, least = Grid(length, stride), LEAST_SHARE * length - 0.5 / clip.frame_rate
    with clips_of(reader, grid) as pieces:
        for piece in pieces:
            if piece.damage:
                notes.append(f"{piece.damage}; {piece.start:.2f}-{piece.end:.2f} s is left out")
                continue
            if not grid.keeps(piece, least):
                continue
            frames = fit_frames(np.stack(piece.frames), (clip.height, clip.width))
            done = min(1.0, piece.end / reader.length) if reader.length else 0.0
            start, end = round(piece.start, 4), round(piece.end, 4)
            yield Window(video, _model_windows(frames, clip.frames), start, end, done)
    if reader.problem:
        notes.append(reader.problem)
    if grid.left_out:
        notes.append(f"{grid.left_out:.2f} s left out: too little between jumps of the clock")
    return reader.duration if reader.at_end else math.inf


def _model_windows(frames: np.ndarray, length: int) -> np.ndarray:
    """Returns windows [w, length, ...] that cover a clip evenly; a shorter clip is repeated."""
    if len(frames) <= length:
        return repeat(frames, length)[None]
    starts = np.linspace(0, len(frames) - length, round(len(frames) / length)).astype(int)
    return np.stack([frames[start : start + length] for start in starts])


def embed_windows(
    index: IndexFolder,
    model: Model,
    items: Iterator[Window | End],
    *,
    batch_size: int,
    on_progress: Callable[[Window | End], None],
) -> None:
    """Embeds windows in batches across videos and adds every finished video to the index.

    Args:
        index: Index to add to.
        model: The model; its fingerprint has to be that of the index throughout.
        items: From ``read_windows``; decoding runs ahead in a thread.
        batch_size: Clips embedded at once.
        on_progress: Called with every item.

    Raises:
        UserError: If the model changed or refuses.
    """
    expected = index.manifest["model"]["hash"]
    open_videos: dict[str, _OpenVideo] = {}
    waiting: list[Window] = []

    def flush() -> None:
        if not waiting:
            return
        windows = np.concatenate([window.windows for window in waiting])
        found = model.embedder.embed_video(windows, windows=1, space="all")
        assert isinstance(found, dict)  # Of all spaces.
        if model.hash != expected:
            raise UserError(
                f"{model.source.address} now has another model ({model.hash[:12]}) than the index "
                f"({expected[:12]}); the finished videos are kept: go on with the model of the "
                "index, or begin another --out"
            )
        first = 0
        for window in waiting:
            rows = slice(first, first + len(window.windows))
            first = rows.stop
            video = open_videos[window.video.name]
            video.times.append((window.start, window.end))
            # The mean of the windows' unit vectors, scaled to length 1, whatever the model is.
            means = {space: value[rows].mean(axis=0) for space, value in found.items()}
            video.vectors.append(
                {space: l2_normalize(m, axis=None, dtype=None) for space, m in means.items()}
            )
        waiting.clear()

    def book() -> None:
        for name, video in list(open_videos.items()):
            if video.end is None or any(window.video.name == name for window in waiting):
                return  # videos are added in the order in which they were read
            if video.end.retry:
                index.unreachable[name] = video.end.reason
            else:
                index.add(video.entry(), video.stacked(index.spaces))
            del open_videos[name]

    with contextlib.closing(read_ahead(items, 2 * batch_size)) as stream:
        for item in stream:
            video = open_videos.setdefault(item.video.name, _OpenVideo(item.video))
            if isinstance(item, End):
                video.end = item
            else:
                waiting.append(item)
                if len(waiting) == batch_size:
                    flush()
            book()
            on_progress(item)
    flush()
    book()


@dataclasses.dataclass
class _OpenVideo:
    """State of a video whose windows are being embedded."""

    video: VideoFile
    times: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    vectors: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    end: End | None = None

    def entry(self) -> Entry:
        reason, last = ("", math.inf) if self.end is None else (self.end.reason, self.end.seconds)
        # The last frame of a clip stands for a whole step, which may reach over the end.
        times = [(start, round(min(end, max(last, start)), 4)) for start, end in self.times]
        if not self.times and not reason:
            reason = "no usable clip in it"
        return Entry(self.video.name, self.video.size, self.video.mtime_ns, 0, times, reason)

    def stacked(self, spaces: Iterable[str]) -> dict[str, np.ndarray]:
        if not self.vectors:
            return {}
        return {space: np.stack([part[space] for part in self.vectors]) for space in spaces}
