"""Spans of a file that are asked for, and the clips of which the frames are being collected."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.data.media.tracks.video import TimedFrame


@dataclasses.dataclass
class MediaClip:
    """A decoded clip.

    Attributes:
        frames: uint8 [T, H, W, 3] (``read_clip``), or a list of what the reader's transform
            returned for each frame.
        waveform: float32 [N] mono in [-1, 1], or None when there is no sound in the clip.
        start: Seconds.
        end: Seconds; ``start + T / frame_rate``.
        span: Index of the requested span (0, 1, ...).
        missing: Seconds by which the video ended before the requested end (0.0: complete).
        damage: Why the clip is not usable, "" when it is; a damaged clip has no frames.
        cut: Whether it is a part of its span, because the clock of the file jumps in it.
    """

    frames: Any
    waveform: np.ndarray | None
    start: float
    end: float
    span: int = 0
    missing: float = 0.0
    damage: str = ""
    cut: bool = False


class Grid:
    """Spans of one length, one every ``stride`` seconds; without end where ``last`` is infinite.

    Args:
        length: Seconds of a span.
        stride: From the start of a span to that of the next; ``length`` by default.
        first: Start of the first span.
        last: No span ends later.
        least: Spans that ``last`` makes shorter than this are left out, but for the first.
    """

    def __init__(
        self,
        length: float,
        stride: float | None = None,
        first: float = 0.0,
        last: float = math.inf,
        least: float = 0.0,
    ):
        self._length, self._stride = length, stride or length
        self._first = self._origin = first
        self._last, self._least = last, least
        self._number, self._any = 0, False
        self._kept, self._jumps = 0, False
        self._full = -1.0  # end of the last whole clip
        self.left_out = 0.0  # seconds of a file whose clock jumps, in clips that are too short

    def __iter__(self) -> Grid:
        return self

    def __next__(self) -> tuple[float, float]:
        start = self._origin + self._number * self._stride
        end = min(start + self._length, self._last)
        if self._any and end - start < self._least:
            raise StopIteration
        self._number, self._any = self._number + 1, True
        return start, end

    def begin_at(self, time: float) -> None:
        """Lays the grid anew: the next span begins at ``time``, where a clock has jumped."""
        self._origin, self._number = time, 0

    def keeps(self, clip: MediaClip, least: float) -> bool:
        """Whether a clip of this grid is long enough; asked once for each, in order.

        A clock may jump at every packet: what lies between two jumps and is shorter than a clip is
        kept where the seconds up to there have room for it.

        Args:
            clip: Clip.
            least: Seconds; what is shorter is left out, unless it is all of a file.
        """
        self._jumps |= clip.cut
        seconds = clip.end - clip.start
        if clip.cut or clip.missing:
            short = seconds < least and (clip.cut or self._kept > 0)
            room = (clip.end - self._first) / self._stride
            alone = self._full < clip.start  # no whole clip lies in front of it
            if short or (self._jumps and alone and self._kept > room):
                self.left_out += seconds * self._jumps
                return False
        else:
            self._full = clip.end + 1e-6
        self._kept += 1
        return True

    def until_jump(self, span: tuple[float, float], jumps: Sequence[float]) -> tuple[float, float]:
        """A span up to the first jump in it, with which the grid is laid anew."""
        jump = next((time for time in jumps if span[0] < time < span[1]), None)
        if jump is None:
            return span
        self.begin_at(jump)
        return span[0], jump


def longest_piece(start: float, end: float, jumps: Sequence[float]) -> tuple[float, float]:
    """The longest part of a span in which the clock does not jump; of equal ones the first.

    Args:
        start: Seconds.
        end: Seconds.
        jumps: Seconds at which the clock jumps, increasing.
    """
    bounds = [start, *(time for time in jumps if start < time < end), end]
    return max(itertools.pairwise(bounds), key=lambda piece: round(piece[1] - piece[0], 3))


class OpenClip:
    """A clip whose frames are being collected."""

    def __init__(self, span: int, start: float, end: float | None, rate: float):
        self.span, self.start, self.rate = span, start, rate
        self.wanted_end = end
        self.total = math.inf if end is None else frame_count(start, end, rate)
        self.values: list[Any] = []
        self.damage = ""
        self.cut = False

    @property
    def due(self) -> float:
        """Time of the next frame to be taken."""
        return self.start + len(self.values) / self.rate

    @property
    def complete(self) -> bool:
        """Whether it has all of its frames."""
        return len(self.values) >= self.total

    def take(self, before: TimedFrame | None, now: TimedFrame) -> None:
        """Takes every frame that is due up to ``now``.

        The nearer of the two frames is taken, but never one that lies further ahead than half
        a step: in a slide show the old picture stays until the new one is shown.
        """
        half = 0.5 / self.rate
        while not self.complete and self.due <= now.time:
            ahead = now.time - self.due
            if before is not None and (ahead >= self.due - before.time or ahead > half):
                self.values.append(before.value)
            else:
                self.values.append(now.value)

    def finish(self, last: TimedFrame, end: float) -> None:
        """Takes what is left up to the end of the video."""
        self.total = min(self.total, frame_count(self.start, end, self.rate))
        while not self.complete:
            self.values.append(last.value)

    def keep(self, start: float, end: float) -> None:
        """Becomes a part of its span that has not begun yet."""
        self.start, self.total = start, whole_frames(start, end, self.rate)
        self.values.clear()
        self.damage, self.cut = "", True

    def end_at(self, last: TimedFrame, end: float) -> None:
        """Ends before its span does: no sound from behind ``end`` belongs to it."""
        count = whole_frames(self.start, end, self.rate)
        del self.values[count:]
        self.total, self.cut = count, True
        self.finish(last, end)


def frame_count(start: float, end: float, rate: float) -> int:
    """Frames of the span [start, end) at ``rate``: the nearest whole number, at least one."""
    return max(1, round((end - start) * rate))


def whole_frames(start: float, end: float, rate: float) -> int:
    """Frames that end within the span [start, end), at least one."""
    return max(1, math.floor((end - start) * rate + 1e-6))
