"""What the video track and the audio track of a media file share: each is decoded once, in order.

Every time is in seconds after the start of the container, on the clock of the file (``clock``), so
that both tracks of a file share one axis. Damaged packets are skipped and counted, as a player
does; what was lost can be read from the track afterwards. No TensorFlow here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import av
import av.error

from vatt_tf.data.media.tracks.clock import BACK_SECONDS, GAP_SECONDS, Clock, stamp_of
from vatt_tf.data.media.tracks.container import (
    NO_ANSWER,
    UnreachableError,
    check_reachable,
    open_container,
    pick_stream,
    reason_of,
    start_of,
)

# Frames missing after a decoding error for longer than this are a hole, not a hiccup.
HOLE_SECONDS = 0.5


class Track:
    """What both kinds of track share: opening, seeking, the clock and damaged packets.

    Args:
        path: Media file.
        start: Seconds; what lies before need not be delivered (a seek is tried).
        clock: Clock of the file, shared with its other track.
    """

    kind = ""

    def __init__(self, path: str | os.PathLike, start: float = 0.0, clock: Clock | None = None):
        self.path = path
        self.damaged_packets = 0
        self.first_error = ""  # FFmpeg's words for the first damaged packet
        self.broken = ""  # why reading stopped before the end of the file, or ""
        self.clock = clock or Clock(path)
        self.restarts = 0  # how often the decoding began anew at the start of the file
        self._open()
        if self.stream is not None and start > 0.0 and self.clock.can_seek(self.container):
            self._seek(start)

    def _open(self) -> None:
        self.container = open_container(self.path)
        self.stream: Any = pick_stream(self.container, self.kind)
        self.origin = start_of(self.container)
        base = self.stream.time_base if self.stream is not None else None
        # Of the packets; making a fraction for each would cost more than the rest of the clock.
        self._ticks: int = base.numerator if base else 1
        self._per_second: int = base.denominator if base else 1
        self._sought = False
        self._number = -1  # of the packet in its stream
        self._shift, self._next_mark = 0.0, 0
        self._goes_on: float | None = self.origin  # where the next packet is expected, raw seconds
        self._peeked: Any = None
        self._packets: Iterator[Any] = (
            self.container.demux(self.stream) if self.stream is not None else iter(())
        )

    def _seek(self, start: float) -> None:
        # One second of margin: leading frames of an open group of pictures and the first
        # packets after a seek may be incomplete.
        target = max(0.0, start - 1.0) + self.origin
        try:
            offset = int(target / self.stream.time_base)
            self.container.seek(offset, stream=self.stream, backward=True, any_frame=False)
            self._packets = self.container.demux(self.stream)
            self._sought, self._goes_on = True, None
        except (av.error.FFmpegError, OSError, OverflowError):
            self._from_the_front()

    def _from_the_front(self) -> None:
        self.container.close()
        self._open()
        self.restarts += 1

    @property
    def landing(self) -> float:
        """Seconds at which the next packet stands, infinity at the end of the file."""
        if self._peeked is None:
            self._peeked = self._next_packet()
        packet = self._peeked
        stamp = None if packet is None else stamp_of(packet)
        if stamp is None:
            return math.inf if packet is None or not packet.size else -math.inf
        return float(stamp * packet.time_base) - self.origin

    @property
    def length(self) -> float:
        """Seconds of the track that the header announces, 0.0 when it does not."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        return (self.container.duration or 0) / av.time_base

    def problem(self, duration: float, lost: bool) -> str:
        """Why the track gave less than its header announces; "" where it did not.

        Args:
            duration: Seconds that were read.
            lost: Whether what is missing is more than rounding.
        """
        why = self.broken or self.first_error
        if self.broken or (lost and why):
            return f"breaks at {duration:.2f} s of {self.length:.2f} s: {why}"
        if lost:
            return (
                f"ends at {duration:.2f} s although its header says {self.length:.2f} s "
                "(cut off or damaged)"
            )
        return ""

    @property
    def packets(self) -> tuple[int, int]:
        """How often reading began, and packets since."""
        return self.restarts, self._number

    def close(self) -> None:
        """Closes the file."""
        self.container.close()

    def _next_packet(self) -> Any | None:
        """The next packet, with its stamps on the clock of the file; None where the file breaks."""
        if self._peeked is not None:
            packet, self._peeked = self._peeked, None
            return packet
        try:
            packet = next(self._packets)
        except StopIteration:
            return None
        except (IndexError, av.error.FFmpegError, OSError) as error:
            if isinstance(error, OSError):
                check_reachable(self.path)
            if isinstance(error, av.error.ExitError):
                raise UnreachableError(f"{self.path}: {NO_ANSWER}") from error
            self.broken = reason_of(error)
            return None
        if not packet.size:
            return packet  # the last one: the decoder gives what it has kept
        self._number += 1
        if not self._follow(packet):
            return self._next_packet()  # from the front
        if self._shift:
            ticks = round(self._shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet

    def _follow(self, packet: Any) -> bool:
        """Finds the shift of a packet; False where the file has to be read from the front.

        Where a seek has led into a file whose clock jumps nobody knows which packet this is; where
        the stamps were read late, packets before this one may have been placed wrongly.
        """
        if packet.dts is not None:  # the first packets may lack it
            time = packet.dts * self._ticks / self._per_second
            if self.clock.timeline is None and self._goes_on is not None:
                if not self._goes_on - BACK_SECONDS <= time <= self._goes_on + GAP_SECONDS / 2:
                    self.clock.read()
            seconds = (packet.duration or 0) * self._ticks / self._per_second
            self._goes_on = time + min(seconds, GAP_SECONDS)
        timeline = self.clock.timeline
        if timeline is None or not timeline.moves:
            return True
        marks = timeline.shifts.get(self.stream.index, [])
        while self._next_mark < len(marks) and marks[self._next_mark][0] <= self._number:
            first, self._shift = marks[self._next_mark]
            self._next_mark += 1
            if self._sought or (self._shift and first < self._number):
                self._from_the_front()  # packets before this one stand elsewhere, too
                return False
        return True

    def _decoded(self) -> Iterator[Any]:
        """Every frame that can be decoded; damaged packets are skipped and counted."""
        while (packet := self._next_packet()) is not None:
            yield from self._frames(packet.decode)
        if self.broken:
            yield from self._frames(lambda: self.stream.codec_context.decode(None))

    def _frames(self, decode: Any) -> Iterable[Any]:
        try:
            return decode()
        except av.error.EOFError:
            return ()
        except (av.error.FFmpegError, OSError, ValueError, OverflowError) as error:
            self.damaged_packets += 1
            self.first_error = self.first_error or reason_of(error)
            return ()

    def _time(self, frame: Any) -> float | None:
        stamp, base = frame.pts if frame.pts is not None else frame.dts, frame.time_base
        if stamp is None or base is None:
            return None
        return stamp * base.numerator / base.denominator - self.origin


def with_next(items: Iterator[Any]) -> Iterator[tuple[Any, Any | None]]:
    """Yields each item with the one after it, None after the last."""
    held = next(items, None)
    while held is not None:
        following = next(items, None)
        yield held, following
        held = following
