"""The pictures of a media file, in time order, turned and scaled as a player shows them."""

from __future__ import annotations

import heapq
import math
import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import av.stream
import numpy as np
from av.video.reformatter import VideoReformatter

from vatt_tf.data.media.tracks.clock import Clock, frame_seconds, longest_gap, stamp_of
from vatt_tf.data.media.tracks.container import MediaError, SoundOnlyError, is_cover
from vatt_tf.data.media.tracks.track import Track, with_next

# Most frames that a decoder holds back to put them in order.
_REORDERED = 16
_QUARTERS = {
    (True, False): "transpose=clock",
    (False, True): "transpose=cclock",
    (True, True): "transpose=cclock_flip",
    (False, False): "transpose=clock_flip",
}


class TimedFrame:
    """A decoded frame, converted to RGB only when it is first kept."""

    __slots__ = ("time", "duration", "damage", "_frame", "_convert", "_value")

    def __init__(
        self,
        time: float,
        duration: float,
        damage: int,
        frame: Any,
        convert: Callable[[Any], Any],
    ):
        self.time = time
        self.duration = duration
        self.damage = damage  # packets before it that did not decode
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
        clock: Clock of the file, shared with its sound.

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
        clock: Clock | None = None,
    ):
        super().__init__(path, start, clock)
        if self.stream is None:
            has_picture = bool(self.container.streams.video)
            has_audio = bool(self.container.streams.audio)
            kind = self.container.format.name
            self.close()
            what = "only a cover picture" if has_picture else "no video stream"
            what += ", audio only" if has_audio else ""
            error = SoundOnlyError if has_audio else MediaError
            raise error(f"{path}: {what} (container {kind})")
        # What players would skip as well, but not say.
        self.notes = [
            f"stream {other.index} is an attached picture, although its flag says default; the "
            f"picture is stream {self.stream.index}"
            for other in self.container.streams.video
            if is_cover(other) and other.disposition & av.stream.Disposition.default
        ]
        self.short_side = short_side
        self.transform = transform
        # One for all frames: making it costs more than using it.
        self._reformatter = VideoReformatter()
        self._turner: tuple[tuple, av.filter.Graph] | None = None
        self.corrupt_frames = 0
        self.mended_frames = 0  # frames whose time is not between those of their neighbours
        self.late_frames = 0  # frames whose time does not come after the one before
        self.size: tuple[int, int] | None = None  # width, height that frames are scaled to
        self.frame_seconds = frame_seconds(self.stream)
        self._longest = longest_gap(self.stream)

    def frames(self) -> Iterator[TimedFrame]:
        """Yields frames of strictly increasing time, from the front again after a restart."""
        last, usual, restarts = -math.inf, self.frame_seconds or 0.04, self.restarts
        early = 0.0  # seconds that stamps are taken back by, where no packet is as late as they say
        for (round_, damage, stamp, frame), following in with_next(self._stamped()):
            if round_ != restarts:
                last, restarts, early = -math.inf, round_, 0.0
            after = following[2] if following is not None and following[0] == round_ else None
            if stamp is not None and stamp - early > last + self._longest:
                if last > -math.inf and stamp - early > self._ends() + 1.0:
                    early = stamp - (last + usual)
                    self.mended_frames += 1
            elif stamp is not None and stamp - early <= last < stamp:
                early = 0.0
            time = None if stamp is None else stamp - early
            after = None if after is None else after - early
            if time is None:
                time = 0.0 if last == -math.inf else last + usual
            elif after is not None and last < after and not last < time < after:
                # The frames around it agree, this stamp is wrong.
                self.mended_frames += 1
                time = after - usual if last == -math.inf else min(last + usual, (last + after) / 2)
            if time <= last:
                self.late_frames += 1
                continue
            last = time
            if frame.is_corrupt:
                self.corrupt_frames += 1
            yield TimedFrame(time, self._seconds(frame, time), damage, frame, self._convert)

    def _seconds(self, frame: Any, time: float) -> float:
        """How long a frame is shown, as far as the file goes on."""
        seconds = float(frame.duration * frame.time_base) if frame.duration else 0.0
        if seconds > self._longest:  # one picture to a long sound
            seconds = max(0.0, min(seconds, self._ends() - time))
        return seconds or self.frame_seconds

    def _ends(self) -> float:
        """Seconds at which the last packet of picture and sound ends."""
        return max(self.clock.read().ends.values(), default=0.0)

    def _stamped(self) -> Iterator[tuple[int, int, float | None, Any]]:
        """Yields (restarts, damaged packets, seconds, frame) in the order of what is shown."""
        if not self._stores_decoding_times():
            for frame in self._decoded():
                yield self.restarts, self.damaged_packets, self._time(frame), frame
            return
        # The n-th frame that is shown has the n-th of the times.
        waiting: list[float] = []
        while (packet := self._next_packet()) is not None:
            stamp = stamp_of(packet)
            if stamp is not None:
                heapq.heappush(waiting, float(stamp * packet.time_base) - self.origin)
            for frame in self._frames(packet.decode):
                while len(waiting) > _REORDERED + 1:  # of packets that did not decode
                    heapq.heappop(waiting)
                time = heapq.heappop(waiting) if waiting else None
                yield self.restarts, self.damaged_packets, time, frame

    def _stores_decoding_times(self) -> bool:
        """Whether the container has no presentation times: AVI, also inside of Matroska."""
        name = self.container.format.name
        tag = self.stream.codec_context.codec_tag
        return name == "avi" or ("matroska" in name and tag not in ("", "\0\0\0\0"))

    def _convert(self, frame: Any) -> Any:
        if self.size is None:
            width, height = display_size(frame.width, frame.height, self.stream)
            self.size = scaled_size(width, height, self.short_side)
        width, height = self.size
        turns = turns_of(frame)
        if turns:
            frame = self._turn(frame, turns)
        if is_on_its_side(turns):
            width, height = height, width
        # swscale goes from the stored pixels to the target size in one pass.
        scaled = self._reformatter.reformat(frame, width, height, format="rgb24")
        image: np.ndarray = scaled.to_ndarray()
        return image if self.transform is None else self.transform(image)

    def _turn(self, frame: Any, turns: tuple[str, ...]) -> Any:
        """Turns and mirrors stored pixels.

        swscale interpolates colours less finely in a row than in a column: pixels that lie on their
        side would come out otherwise than the same picture stored upright.
        """
        kind = (turns, frame.width, frame.height, frame.format.name)
        if self._turner is None or self._turner[0] != kind:
            self._turner = kind, _turning_graph(frame, turns)
        graph = self._turner[1]
        graph.push(frame)
        return graph.pull()


def turns_of(frame: Any) -> tuple[str, ...]:
    """Filters that show a frame as its display matrix says, as players do: turned and mirrored."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return ()
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (_QUARTERS[b > 0, c > 0],)
    return ("hflip",) * (a < 0) + ("vflip",) * (d < 0)


def is_on_its_side(turns: tuple[str, ...]) -> bool:
    """Whether width and height change places."""
    return any(turn.startswith("transpose") for turn in turns)


def _turning_graph(frame: Any, turns: tuple[str, ...]) -> av.filter.Graph:
    """A filter for frames of this size and format."""
    graph = av.filter.Graph()
    chain = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),
        )
    ]
    chain += [graph.add(*name.split("=")) for name in [*turns, "buffersink"]]
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
