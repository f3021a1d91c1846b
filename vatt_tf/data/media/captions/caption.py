"""Captions with their times, those near a clip, and the text that is left without mark-up."""

from __future__ import annotations

import bisect
import dataclasses
import html
import html.entities
import itertools
import math
import re
from collections.abc import Iterable

from vatt_tf.data.text.files import TextFileError

MOST_SECONDS = 1e6  # 11 days; a later time is a slip or a date
# Of the captions of one clip: stored and indexed with each of them, also a caption of the whole
# video.
MOST_NEAR, MOST_CHARACTERS_NEAR = 1000, 100_000

_NAMES = "font|span|em|strong|small|big|sub|sup|ruby|rb|rt|rp|strike|del|ins|mark|center|lang"
_ATTRIBUTE = r"""\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>"']+)"""
# Tags of WebVTT, HTML and SubStation. `a<b and c>d` has none: one letter takes no bare words.
_TAG = re.compile(
    r"<\d{1,4}:\d\d(?::\d\d)?[.,]\d{1,3}>"  # when the next word is said
    r"|<v(?:\.[^\s<>]*)?(?:\s[^<>]*)?>"  # who speaks
    rf"|</?(?:{_NAMES}|br|div)(?:[\s/.][^<>]*)?>"
    rf"|<(?:[biuscpqa])(?:\.[^\s<>]*)?(?:{_ATTRIBUTE})*\s*/?>"
    r"|</(?:[biuscpqav])(?:\.[^\s<>]*)?\s*>"
    r"|\{\\[^{}]*\}",
    re.IGNORECASE,
)
_DIVIDES = re.compile(r"</?(?:br|div|p|v)\b", re.IGNORECASE)
# With the semicolon: `this&that` is text.
_ENTITY = re.compile(r"&(#\d{1,7};|#[xX][\da-fA-F]{1,6};|[a-zA-Z][a-zA-Z\d]{1,31};)")
_BLANK = re.compile("[\x00-\x1f\x7f-\x9f\u200b\ufeff]+")


class CaptionError(TextFileError):
    """A caption file that cannot be read; the message names file and line."""


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Caption:
    """What is said from ``start`` to ``end`` (seconds on the video's time axis).

    An infinite end means the end of the video; a text that belongs to the whole video begins at
    minus infinity. The language ("" where the file does not name it) and the confidence (0 to 1,
    None where unknown) are those of a speech recogniser.
    """

    start: float
    end: float
    text: str
    language: str = dataclasses.field(default="", compare=False)
    confidence: float | None = dataclasses.field(default=None, compare=False)

    @property
    def whole(self) -> bool:
        """Whether it has no times but belongs to the whole video."""
        return math.isinf(self.start)


class Timeline:
    """Captions in the order of their times.

    Args:
        captions: In any order.

    Attributes:
        timed: Those with times, sorted.
        whole: Those of the whole video.
    """

    def __init__(self, captions: Iterable[Caption]):
        captions = list(captions)
        self.whole = [caption for caption in captions if caption.whole]
        self.timed = sorted(caption for caption in captions if not caption.whole)
        self._starts = [caption.start for caption in self.timed]
        # Running maximum of the ends, which is sorted: captions before its first value after a
        # clip's start have ended by then.
        self._ends = list(itertools.accumulate((caption.end for caption in self.timed), max))

    def overlapping(self, start: float, end: float) -> list[int]:
        """Indices in ``timed`` of the captions that overlap [start, end)."""
        low, high = bisect.bisect_left(self._ends, start), bisect.bisect_left(self._starts, end)
        timed = self.timed
        return [
            k
            for k in range(low, high)
            if timed[k].end > start or timed[k].start == timed[k].end >= start
        ]

    def near(self, start: float, end: float, neighbours: int = 4) -> tuple[list[Caption], int]:
        """Captions that overlap [start, end), and up to ``neighbours`` before and after them.

        Captions without times belong to every clip and come out with the clip's times.

        Returns:
            The captions by time, and how many more there are: of too many or too long ones every
            second, fourth, ... is left out.
        """
        inside = self.overlapping(start, end)
        held = set(inside)
        earlier = range(bisect.bisect_left(self._starts, start) - 1, -1, -1)
        before = itertools.islice((k for k in earlier if k not in held), neighbours)
        after = range(bisect.bisect_left(self._starts, end), len(self.timed))
        indices = sorted({*before, *inside, *after[:neighbours]})
        found = [self.timed[k] for k in indices]
        found += [dataclasses.replace(caption, start=start, end=end) for caption in self.whole]
        count = len(found)
        while len(found) > MOST_NEAR or sum(len(c.text) for c in found) > MOST_CHARACTERS_NEAR:
            found = found[::2] if len(found) > 1 else []
        found = [
            dataclasses.replace(c, end=max(end, c.start)) if math.isinf(c.end) else c for c in found
        ]
        return sorted(found), count - len(found)


def clean(text: str) -> str:
    """Strips mark-up and entities and joins the lines of a caption."""
    text = _TAG.sub(lambda tag: " " if _DIVIDES.match(tag[0]) else "", text)
    for name in "bius":  # of SubRip as well
        if f"{{{name}}}" in text and f"{{/{name}}}" in text:
            text = text.replace(f"{{{name}}}", "").replace(f"{{/{name}}}", "")
    text = _ENTITY.sub(_character, text)
    return " ".join(_BLANK.sub(" ", text).split())


def _character(entity: re.Match[str]) -> str:
    known = entity[1].startswith("#") or entity[1] in html.entities.html5
    return html.unescape(entity[0]) if known else entity[0]


def parse_time(text: str) -> float:
    """Seconds of ``[[hours:]minutes:]seconds`` with a point or comma; a minus may lead."""
    text = text.strip().replace(",", ".")
    negative = "-" in text
    seconds = 0.0
    for part in text.replace("-", "").split(":"):
        seconds = seconds * 60 + float(part)
    return -seconds if negative else seconds


def check_seconds(value: float) -> float:
    """Returns a time that a video can have.

    Raises:
        ValueError: It is none, or beyond ``MOST_SECONDS``.
    """
    if not abs(value) < MOST_SECONDS:  # also NaN, and integers that no float holds
        raise ValueError("a time is no number of seconds below 1,000,000")
    return float(value)
