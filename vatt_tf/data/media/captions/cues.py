"""SubRip and WebVTT: a line of times, and the text below it."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from vatt_tf.data.media.captions.caption import (
    Caption,
    CaptionError,
    check_seconds,
    clean,
    parse_time,
)
from vatt_tf.data.media.captions.notes import Notes
from vatt_tf.data.text.files import iter_lines
from vatt_tf.data.text.scripts import join_blanks
from vatt_tf.wording import count_of

# Cues of automatic captions follow each other this closely; those in between, which only keep the
# last line while it moves up, are this short.
ROLL_SECONDS = 0.05
MOST_CUE_LINES = 1000  # of a cue
_OUT = "it is left out"

_TIME = (
    r"(-?(?:\d{1,10} ?: ?)?-?\d{1,10} ?: ?\d{1,10}(?: ?[.,:] ?\d{1,10})?|-?\d{1,10}[.,]\d{1,10})"
)
_ARROW = r"(-->|(?:--? ?&gt;)|[-‐‑–—−=~>→⇒](?:[-‐‑–—−=~>→⇒ ]{0,6}[-‐‑–—−=~>→⇒])?)"
_ARROWS = re.compile("[-‐‑–—−=~>→⇒&]")
_TIMES = re.compile(rf"\s*{_TIME}(?:\s*{_ARROW}\s*|\s+){_TIME}(\s.*)?")
_MEANT_AS_TIMES = re.compile(
    rf"\s*{_TIME}\s*[-–—=]+ ?(?:>|&gt;)|.*[-–—=] ?(?:>|&gt;)\s*{_TIME}"
    r"|\s*\d{1,3}:\d{1,2}:\d{1,2}[.,:]\d{1,4}(?!\d)"
)
_SETTINGS = re.compile(
    r"(?:\s*(?:region|vertical|line|position|size|align|[xy][12]|[adlst])\s?:\s?\S+)*\s*",
    re.IGNORECASE,
)
_EXACT = re.compile(r":.*[.,]")  # no plain number
_COUNTER = re.compile(r"\s*\d{1,9}\s*")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")


class _Times(NamedTuple):
    number: int  # of the line
    understood: bool
    start: float = 0.0
    end: float = 0.0
    rest: str = ""  # text behind the times


class _Cue(NamedTuple):
    number: int  # line of its times
    start: float
    end: float
    lines: list[str]  # cleaned, none of them empty


def read_cues(text: str, notes: Notes) -> Iterator[tuple[int, Caption, bool]]:
    """Captions of a SubRip or WebVTT file."""
    cues = _cues(text, notes)
    head = list(itertools.islice(cues, 10_000))
    rolls = _rolls_up(head)
    number, last = 0, None  # a caption that what follows may lengthen or end
    shown: list[str] = []
    ended = 0.0
    for cue in itertools.chain(head, cues):
        joined = rolls and shown and cue.start <= ended + ROLL_SECONDS
        again = _again(shown, cue.lines) if joined else 0
        if last is not None and not cue.lines and last.start < cue.start:
            last = Caption(last.start, min(last.end, cue.start), last.text)
        elif last is not None and cue.lines and again == len(cue.lines):
            last = Caption(last.start, max(last.end, cue.end), last.text)
        elif cue.lines:
            if last is not None:
                yield number, last, False
            number, last = cue.number, Caption(cue.start, cue.end, join_blanks(cue.lines[again:]))
        shown, ended = cue.lines, cue.end
    if last is not None:
        yield number, last, False


def _rolls_up(cues: list[_Cue]) -> bool:
    """Whether cues repeat the last lines of those in front, as automatic captions do.

    People repeat words, too. They write no cue of 10 ms that keeps a line while it moves up, and
    seldom three cues in a row that begin with the line before.
    """
    pairs = rolled = 0
    for first, second in zip(cues, cues[1:], strict=False):
        if not first.lines or not second.lines or second.start > first.end + ROLL_SECONDS:
            continue
        again = _again(first.lines, second.lines)
        if again == len(second.lines) and 0 <= second.end - second.start <= ROLL_SECONDS:
            return True
        pairs += 1
        rolled += 0 < again < len(second.lines)
    return rolled >= 3 and 3 * rolled >= 2 * pairs


def _again(shown: list[str], lines: list[str]) -> int:
    """Number of lines at the end of what was shown that begin what follows."""
    most = min(len(shown), len(lines), 4)  # lines of a roll-up caption
    return next((k for k in range(most, 0, -1) if shown[-k:] == lines[:k]), 0)


def _cues(text: str, notes: Notes) -> Iterator[_Cue]:
    """Cues with their text; what belongs to none is noted."""
    webvtt = understood = text.startswith("WEBVTT")
    opened: _Times | None = None
    block: list[tuple[int, str]] = []  # the lines since
    before = last = ""  # the two lines in front
    counter, spaced = 0, False  # an empty line is behind every line
    for number, line in itertools.chain(notes.numbered(iter_lines(text)), [(0, None)]):
        found = None if line is None else _find_times(number, line, before, last, webvtt)
        if line is not None:
            before, last = last, line
        if line is not None and found is None:
            if len(block) < MOST_CUE_LINES:
                block.append((number, line))
            elif line.strip():
                most = count_of(MOST_CUE_LINES, "line")
                notes.add(number, line, f"is behind {most} of a caption; {_OUT}")
            continue
        # The counter of the cue that follows, also of one that is missing at the end.
        tail = max((k for k, (_, text) in enumerate(block) if text.strip()), default=0)
        if block and _COUNTER.fullmatch(block[tail][1]):
            count = int(block[tail][1])
            spaced = spaced or (opened is None and len(block) > tail + 1)
            next_one = tail > 0 and not block[tail - 1][1].strip() and count == counter + 1
            if next_one if found is None else (spaced or len(block) == tail + 1):
                del block[tail:]
                counter = count
        lines = _texts(block, webvtt, opened, found is not None, notes)
        if opened is not None and opened.understood:
            understood = True
            yield _Cue(opened.number, opened.start, opened.end, lines)
        block, opened = [], found
        if found is not None and not found.understood:
            what = "is not 'start --> end' in hours, minutes and seconds; the caption is left out"
            notes.add(number, last, what)
        elif found is not None and found.rest:
            block.append((number, found.rest))
    if not understood:
        raise CaptionError("no line 'start --> end' with a text after it was found")


def _find_times(number: int, line: str, before: str, last: str, webvtt: bool) -> _Times | None:
    """What a line says of times; None for a line of text.

    Args:
        number: Its number.
        line: The line.
        before: Second line in front of it.
        last: The line in front of it.
        webvtt: Whether no text holds an arrow.
    """
    counted = bool(_COUNTER.fullmatch(last)) and not before.strip()
    if not counted and not _ARROWS.search(line):
        return None
    times = _TIMES.fullmatch(line)
    if times is not None:
        start, arrow, end, rest = times.groups()
        rest = "" if not rest or _SETTINGS.fullmatch(rest) else rest
        exact = not rest and all(map(_EXACT.search, (start, end)))
        if arrow == "-->" or exact or (counted and arrow and ":" in start):
            with contextlib.suppress(ValueError):
                return _Times(number, True, _seconds(start), _seconds(end), rest)
            return _Times(number, False)
    plain = "-->" in line
    if plain and (webvtt or counted):
        return _Times(number, False)
    if (plain or counted or not last.strip()) and _MEANT_AS_TIMES.match(line):
        return _Times(number, False)
    return None


def _seconds(text: str) -> float:
    text = text.replace(" ", "")
    front, _, last = text.rpartition(":")
    if len(last) == 3 and ":" in front:  # milliseconds
        text = f"{front}.{last}"
    if text.count(":") > 2:  # frames
        raise ValueError
    return check_seconds(parse_time(text))


def _texts(
    block: list[tuple[int, str]],
    webvtt: bool,
    opened: _Times | None,
    followed: bool,
    notes: Notes,
) -> list[str]:
    """Text of the cue that opens a block of lines, cleaned.

    In SubRip that is the block. In WebVTT an empty line, not a line of blanks, ends it; a name of
    the cue that follows, comments and styles may stand behind.
    """
    parts: list[list[tuple[int, str]]] = [[]]
    for number, line in block:
        if line or not webvtt:
            parts[-1].append((number, line))
        else:
            parts.append([])
    if followed and len(parts) > 1 and len(parts[-1]) == 1:  # its name
        parts.pop()
    header = webvtt and opened is None
    parts = [part for part in parts[header:] if part and not (webvtt and _NO_CUE.match(part[0][1]))]
    texts = parts.pop(0) if parts and opened is not None else []
    for number, line in itertools.chain(*parts):
        if line.strip():
            notes.add(number, line, f"stands outside of a caption; {_OUT}")
    return [text for text in (clean(line) for _, line in texts) if text]
