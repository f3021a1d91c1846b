"""The pictures of a media file, in time order, turned and scaled as a player shows them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import VideoReformatter

from vatt_tf.data.media.tracks import MediaError, SoundOnlyError, Track


class TimedFrame:
    """A decoded frame, converted to RGB only when it is first kept."""

    __slots__ = ("time", "duration", "_frame", "_convert", "_value")

    def __init__(self, time: float, duration: float, frame: Any, convert: Callable[[Any], Any]):
        self.time = time
        self.duration = duration
        self._frame = frame
        self._convert = convert
        self._value = None

    @property
    def value(self) -> Any:
        """The converted frame; the conversion runs once."""
        if self._frame is not None:
            self._value = self._convert(self._frame)
            self._frame = None
        return self._value


class VideoTrack(Track):
    """The frames of a file's video stream.

    Args:
        path: Media file.
        start: Seconds; frames before it need not be delivered (a seek is tried).
        short_side: Frames are scaled down to this many pixels on the short side, never up.
        transform: Applied to each kept frame (uint8 [H, W, 3], upright); None keeps the array.

    Raises:
        MediaError: The file cannot be opened or holds no video stream.
    """

    kind = "video"

    def __init__(
        self,
        path: str | os.PathLike,
        start: float = 0.0,
        short_side: int | None = None,
        transform: Callable[[np.ndarray], Any] | None = None,
    ):
        super().__init__(path, start)
        if self.stream is None:
            has_picture = bool(self.container.streams.video)
            has_audio = bool(self.container.streams.audio)
            kind = self.container.format.name
            self.close()
            what = "only a cover picture" if has_picture else "no video stream"
            what += ", audio only" if has_audio else ""
            error = SoundOnlyError if has_audio else MediaError
            raise error(f"{path}: {what} (container {kind})")
        self.short_side = short_side
        self.transform = transform
        # One for all frames: making it costs more than using it.
        self._reformatter = VideoReformatter()
        self._turner: tuple[tuple, av.filter.Graph] | None = None
        self.corrupt_frames = 0
        self.late_frames = 0  # frames whose time does not come after the one before
        self.size: tuple[int, int] | None = None  # width, height that frames are scaled to
        rate = self.stream.average_rate or self.stream.guessed_rate
        self.frame_seconds = float(1 / rate) if rate else 0.0

    def frames(self) -> Iterator[TimedFrame]:
        """Yields frames of strictly increasing time."""
        last = -math.inf
        for frame in self._decoded():
            time = self._time(frame)
            if time is None:
                time = 0.0 if last == -math.inf else last + (self.frame_seconds or 0.04)
            if time <= last:
                self.late_frames += 1
                continue
            last = time
            if frame.is_corrupt:
                self.corrupt_frames += 1
            duration = float(frame.duration * frame.time_base) if frame.duration else 0.0
            yield TimedFrame(time, duration or self.frame_seconds, frame, self._convert)

    def _convert(self, frame: Any) -> Any:
        if self.size is None:
            width, height = display_size(frame.width, frame.height, self.stream)
            self.size = scaled_size(width, height, self.short_side)
        width, height = self.size
        turns = round(frame.rotation / 90) % 4
        if turns:
            frame = self._turn(frame, turns)
        if turns % 2:
            width, height = height, width
        # swscale goes from the stored pixels to the target size in one pass.
        scaled = self._reformatter.reformat(frame, width, height, format="rgb24")
        image: np.ndarray = scaled.to_ndarray()
        return image if self.transform is None else self.transform(image)

    def _turn(self, frame: Any, turns: int) -> Any:
        """Turns stored pixels counter-clockwise by quarters.

        swscale interpolates colours less finely in a row than in a column: pixels that lie on their
        side would come out otherwise than the same picture stored upright.
        """
        kind = (turns, frame.width, frame.height, frame.format.name)
        if self._turner is None or self._turner[0] != kind:
            self._turner = kind, _turning_graph(frame, turns)
        graph = self._turner[1]
        graph.push(frame)
        return graph.pull()


def _turning_graph(frame: Any, turns: int) -> av.filter.Graph:
    """A filter for frames of this size and format."""
    graph = av.filter.Graph()
    names = {1: ["transpose=cclock"], 2: ["hflip", "vflip"], 3: ["transpose=clock"]}[turns]
    chain = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),
        )
    ]
    chain += [graph.add(*name.split("=")) for name in [*names, "buffersink"]]
    graph.link_nodes(*chain).configure()
    return graph


def display_size(width: int, height: int, stream: Any) -> tuple[int, int]:
    """Width and height with square pixels, as a player shows the frame (before rotation)."""
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1 and 0.25 < aspect < 4:
        width = max(1, round(width * float(aspect)))
    return width, height


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Scales (width, height) down so that the smaller one is ``short_side``; never up."""
    small = min(width, height)
    if not short_side or small <= short_side:
        return width, height
    return max(1, round(width * short_side / small)), max(1, round(height * short_side / small))
