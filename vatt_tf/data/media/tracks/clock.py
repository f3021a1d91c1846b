"""One clock for a file: where its packets stand when the time stamps jump.

A stamp is believed while it goes on from what the file has shown so far: it lies at most
``GAP_SECONDS`` behind the end of everything before it, and at most ``BACK_SECONDS`` before the end
of its own stream. Where it does not, another clock begins: recordings were joined, a stream was
interrupted, a stamp is wrong. What has a clock of its own is a stretch. Stretches are placed one
directly behind the other, the picture and the sound of a stretch by the same shift; clips end
between them. A few wrong stamps inside of a stretch are placed where the stretch had come to. No
time passes that the file does not fill.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import math
import os
import statistics
from typing import Any

from vatt_tf.data.media.tracks.container import (
    open_container,
    packets_of,
    pick_stream,
    start_of,
)
from vatt_tf.wording import count_of

# A pause of picture and sound together that is kept as it is.
GAP_SECONDS = 10.0
# How far stamps of a stream may go back: those of healthy files jitter.
BACK_SECONDS = 0.5
# A stretch that is shorter, and after which the clock of before goes on, are wrong stamps.
ISLAND_SECONDS = 1.0
# Frames may be this far apart throughout a file (a slide show); the gap is then three of them.
MOST_FRAME_SECONDS = 100.0
# Containers whose clock may begin anew in a healthy file: seeking in them trusts no stamp.
_RESTARTING = frozenset(("mpegts", "mpeg", "flv", "live_flv"))
_REORDERED = 16  # frames that may be decoded before one that is shown earlier
_TOLD = 3  # jumps that are named
_ROUNDING_SECONDS = 0.002  # stamps of some containers are milliseconds


def stamp_of(packet: Any) -> int | None:
    """Decoding time of a packet, which does not go back in a healthy stream."""
    return packet.pts if packet.dts is None else packet.dts


def frame_seconds(stream: Any) -> float:
    """Seconds from frame to frame by the header, 0.0 where it says nothing that can be true."""
    rate = stream.average_rate or stream.guessed_rate if stream.type == "video" else None
    seconds = float(1 / rate) if rate else 0.0
    return seconds if seconds <= MOST_FRAME_SECONDS else 0.0


def longest_gap(stream: Any | None) -> float:
    """Seconds without anything that are kept in a file with this picture."""
    return GAP_SECONDS if stream is None else max(GAP_SECONDS, 3.0 * frame_seconds(stream))


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Where the packets of a file stand.

    Attributes:
        shifts: By stream: (number of a packet, seconds to add from this packet on).
        ends: By stream: end of the last packet in seconds.
        seams: Seconds at which the clock jumps: where stretches meet, increasing.
        jumps: A line for each of them.
        wrong: A line for each place with a few wrong stamps.
    """

    shifts: dict[int, list[tuple[int, float]]]
    ends: dict[int, float]
    seams: list[float]
    jumps: list[str]
    wrong: list[str]

    @property
    def moves(self) -> bool:
        """Whether any packet stands elsewhere than its stamp says."""
        return bool(self.jumps or self.wrong)

    @property
    def notes(self) -> list[str]:
        """What a user should read of it: a line of each kind, with the first places."""
        notes = []
        for places in filter(None, (self.jumps, self.wrong)):
            more = len(places) - _TOLD
            rest = f" (and {count_of(more, 'more place')})" if more > 0 else ""
            notes.append("; ".join(places[:_TOLD]) + rest)
        return notes


class _Stretch:
    """Packets of one clock: raw seconds by stream."""

    def __init__(self) -> None:
        self.begin: dict[int, float] = {}
        self.end: dict[int, float] = {}  # by decoding times
        self.appears: dict[int, float] = {}  # by presentation times
        self.shown: dict[int, float] = {}

    def distance(self, stream: int, time: float, back: float, gap: float) -> float | None:
        """How far a stamp is from where the stream goes on, None where it cannot belong here."""
        latest = max(self.end.values())
        goes_on = self.end.get(stream, latest)
        if stream in self.end:
            earliest = goes_on - back
        else:
            earliest = min(self.begin.values()) - gap
        return abs(time - goes_on) if earliest <= time <= latest + gap else None

    def lasts(self, stream: int) -> float:
        return self.end[stream] - self.begin[stream]

    def add(self, stream: int, time: float, shown: float, seconds: float) -> None:
        self.begin[stream] = min(time, self.begin.get(stream, time))
        self.end[stream] = max(time + seconds, self.end.get(stream, time))
        self.appears[stream] = min(shown, self.appears.get(stream, shown))
        self.shown[stream] = max(shown + seconds, self.shown.get(stream, shown))


@dataclasses.dataclass
class _Mark:
    """Where packets of a stream go on in a stretch; wrong stamps have a place in it."""

    first: int  # number of the packet
    stretch: _Stretch
    off: float = 0.0
    place: float = 0.0


def read_timeline(path: str | os.PathLike) -> Timeline:
    """Reads the time stamps of a file, without decoding anything.

    Raises:
        MediaError: The file cannot be opened.
    """
    facts = os.stat(path)
    return _read_timeline(os.fspath(path), facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # picture and sound of a file ask for the same one
def _read_timeline(path: str, _size: int, _changed: int) -> Timeline:
    with open_container(path) as container:
        streams = [s for kind in ("video", "audio") if (s := pick_stream(container, kind))]
        origin = start_of(container)
        packets = [
            (p.stream.index, _seconds(p, p.pts), _seconds(p, p.dts), _seconds(p, p.duration))
            for p in (packets_of(container, streams) if streams else ())
        ]
        # The first packets of a stream may lack their decoding times, those of a few lack all.
        decoding = {key for key, _, time, _ in packets if time is not None}
        usual = {
            s.index: _usual(
                [p[2 if s.index in decoding else 1] for p in packets if p[0] == s.index], s
            )
            for s in streams
        }
    gap = max(GAP_SECONDS, *(3.0 * seconds for seconds in usual.values()), 0.0)
    stretches: list[_Stretch] = []
    marks: dict[int, list[_Mark]] = {key: [] for key in usual}
    numbers = dict.fromkeys(usual, -1)
    for key, shown, time, seconds in packets:
        numbers[key] += 1
        back = BACK_SECONDS
        if key not in decoding:
            time, back = shown, max(BACK_SECONDS, _REORDERED * usual[key])
        if time is None:
            continue
        if seconds is None or not 0.0 <= seconds <= gap:
            seconds = usual[key]
        if shown is None or not time <= shown <= time + _REORDERED * max(seconds, usual[key]):
            shown = time
        home = _home(marks[key], stretches, key, time, (back, gap))
        if home is None:
            home = _Stretch()
            stretches.append(home)
        if not marks[key] or marks[key][-1].stretch is not home:
            _enter(home, marks[key], stretches, key, numbers[key])
        home.add(key, time, shown, seconds)
    return _placed(stretches, marks, origin)


def _seconds(packet: Any, ticks: int | None) -> float | None:
    return None if ticks is None else float(ticks * packet.time_base)


def _usual(times: list[float | None], stream: Any) -> float:
    """Seconds from packet to packet, as they mostly are; headers may tell anything."""
    known = [time for time in times if time is not None]
    steps = [b - a for a, b in itertools.pairwise(known) if b > a]
    seconds = statistics.median(steps) if steps else frame_seconds(stream)
    return seconds if 0.0 < seconds <= MOST_FRAME_SECONDS else 0.04


def _home(
    marks: list[_Mark],
    stretches: list[_Stretch],
    key: int,
    time: float,
    around: tuple[float, float],
) -> _Stretch | None:
    """The stretch to which a stamp belongs; None where another clock begins."""
    known = [marks[-1].stretch] if marks else []
    if len(marks) > 1 and marks[-1].stretch.lasts(key) <= ISLAND_SECONDS:
        known.append(marks[-2].stretch)
    # The other stream may have gone on to a newer one already.
    newer = stretches.index(known[0]) + 1 if known and known[0] in stretches else 0
    known += stretches[max(newer, len(stretches) - 3) :]
    distances = [(stretch.distance(key, time, *around), stretch) for stretch in known]
    fitting = [(far, index) for index, (far, _) in enumerate(distances) if far is not None]
    return known[min(fitting)[1]] if fitting else None


def _enter(
    home: _Stretch,
    marks: list[_Mark],
    stretches: list[_Stretch],
    key: int,
    number: int,
) -> None:
    """A stream goes on in another stretch: in a new one, or in that of before some wrong stamps."""
    if len(marks) > 1 and marks[-2].stretch is home:
        wrong = marks[-1]
        island, wrong.stretch, wrong.place = wrong.stretch, home, home.end[key]
        wrong.off = island.begin[key] - wrong.place
        if len(island.end) == 1 and island in stretches:
            stretches.remove(island)
    marks.append(_Mark(number if marks else 0, home))


def _placed(
    stretches: list[_Stretch],
    marks: dict[int, list[_Mark]],
    origin: float,
) -> Timeline:
    """Puts the stretches one behind the other."""
    shifts: dict[int, float] = {}
    ends: dict[int, float] = {}
    seams: list[float] = []
    jumps = []
    before = 0.0
    for stretch in stretches:
        shift, begin = 0.0, min(stretch.begin.values())
        if shifts:
            # Nothing of it is shown or heard before all of what came before has ended.
            seams.append(max(ends.values()))
            shift = seams[-1] + origin - min(stretch.appears.values())
            jumps.append(
                f"the time stamps jump by {begin - before:+.2f} s at {seams[-1]:.2f} s; clips end "
                "there, and what follows is placed directly behind"
            )
        elif len(stretches) > 1 and begin - origin > GAP_SECONDS:
            shift = origin - begin  # the very first stamps are wrong
        shifts[id(stretch)] = shift
        before = max(stretch.end.values())
        for key, end in stretch.shown.items():
            ends[key] = max(ends.get(key, -math.inf), end + shift - origin)
    placed, wrong = {}, []
    for key, entries in marks.items():
        placed[key] = [(mark.first, shifts[id(mark.stretch)] - mark.off) for mark in entries]
        wrong += [
            f"wrong time stamps at {mark.place + shifts[id(mark.stretch)] - origin:.2f} s "
            f"({mark.off:+.2f} s off)"
            for mark in entries
            if mark.off
        ]
    return Timeline(placed, ends, seams, jumps, wrong)


def has_clock_of_its_own(container: Any) -> bool:
    """Whether a container is of a kind whose time stamps may begin anew, without a header."""
    return container.format.name in _RESTARTING


class Clock:
    """The clock that the tracks of a file share; its stamps are read when one of them jumps.

    Args:
        path: Media file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self.timeline: Timeline | None = None

    def read(self) -> Timeline:
        """The time stamps of the whole file."""
        if self.timeline is None:
            self.timeline = read_timeline(self.path)
        return self.timeline

    def seam(self, after: float, until: float) -> float | None:
        """The last place with a jump behind one time and up to another."""
        if self.timeline is None:
            return None
        seams = self.timeline.seams
        count = bisect.bisect_right(seams, until + _ROUNDING_SECONDS)
        seam = seams[count - 1] if count else -math.inf
        return seam if seam > after + _ROUNDING_SECONDS else None

    def can_seek(self, container: Any) -> bool:
        """Whether the stamps of a file lead to the place that is meant."""
        return not (has_clock_of_its_own(container) and self.read().jumps)


def last_stamp(path: str | os.PathLike) -> float:
    """Seconds at which the last packet of any stream ends by its stamps, subtitles and all.

    Raises:
        MediaError: The file cannot be opened.
    """
    end = 0.0
    with open_container(path) as container:
        for packet in packets_of(container, container.streams):
            stamp = stamp_of(packet)
            if stamp is not None:
                end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
    return end


def end_of(path: str | os.PathLike, kind: str) -> float:
    """Seconds at which the picture ("video") or the sound ("audio") of a file ends.

    A header that gives the length of the track is believed where the packets at the end of the file
    agree; everything else, as the length of a container that has a longer subtitle or none at all,
    is no answer: the time stamps are then read to the end.

    Raises:
        MediaError: The file cannot be opened.
    """
    with open_container(path) as container:
        stream = pick_stream(container, kind)
        if stream is None:
            return 0.0
        index, origin = stream.index, start_of(container)
        if stream.duration and not has_clock_of_its_own(container):
            told = float(stream.duration * stream.time_base)
            first = float((stream.start_time or 0) * stream.time_base)
            try:
                container.seek(int((first + told) / stream.time_base), stream=stream)
            except OSError:
                told = -1.0
            end = 0.0
            for packet in packets_of(container, [stream]):
                if packet.pts is not None:
                    length = packet.pts + (packet.duration or 0)
                    end = max(end, float(length * stream.time_base) - origin)
            if abs(end - (first + told - origin)) <= 1.0:
                return end
    return read_timeline(path).ends.get(index, 0.0)
