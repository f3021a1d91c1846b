"""JSON of speech recognisers: segments or words, as rows, as columns, or inside an object."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from vatt_tf.data.media.captions.caption import (
    Caption,
    CaptionError,
    check_seconds,
    clean,
    parse_time,
)
from vatt_tf.data.media.captions.notes import Notes, short
from vatt_tf.data.text.scripts import join_blanks
from vatt_tf.errors import is_number
from vatt_tf.paths import is_utf8

# "transcription" is whisper.cpp's, "result" Vosk's.
_SEGMENTS = ("segments", "captions", "results", "chunks", "transcription")
_WORDS = ("word_segments", "words", "result")
_TEXTS = ("text", "word", "caption", "sentence", "transcript")
_STARTS, _ENDS = ("start", "start_time", "startTime", "begin"), ("end", "end_time", "endTime")
_DEPTH = 4  # words of the best alternative of each utterance of a document
_LANGUAGE_CHARACTERS = 35  # the longest tag that RFC 5646 asks to keep
# A median word of more seconds is counted in another unit.
_LONGEST_WORD = 10.0
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(text: str, notes: Notes) -> Iterator[tuple[int, Caption, bool]]:
    """Captions and words of a recogniser's output."""
    data = _load(text)
    if isinstance(data, list):
        data = {"captions": data}
    elif not isinstance(data, dict) or (_text(data) is None and _inner(data) is None):
        found = f"the keys {short(sorted(data)[:8], 80)}" if isinstance(data, dict) else short(data)
        raise CaptionError(
            "no captions found; expected a list of {start, end, text}, or an object with "
            f"'segments', 'words' or columns 'start', 'end', 'text'; found {found}"
        )
    language = _language(data)
    words: list[tuple[int, Caption]] = []
    texts: list[list[str]] = [[]]  # of each of them, and in front, words without times
    number = 0
    for number, (row, is_word) in notes.numbered(_rows(data)):
        try:
            caption = dataclasses.replace(_caption(row, is_word), language=language)
        except ValueError as error:
            notes.add(number, row, "is not a caption; it is left out", f" ({error})")
            continue
        if not is_word:
            yield number, caption, False
            continue
        # A word without times, a number that the recogniser could not align, is said behind the
        # one in front of it, or else before the first.
        if not caption.whole:
            words.append((number, caption))
            if len(words) > 1:
                texts.append([])
        texts[-1] += [caption.text] if caption.text else []
    if texts[-1] and not words:
        yield number, Caption(-math.inf, math.inf, join_blanks(texts[-1]), language), False
    lengths = sorted(word.end - word.start for _, word in words if math.isfinite(word.end))
    if lengths and lengths[len(lengths) // 2] > _LONGEST_WORD:
        raise CaptionError(
            f"its words last {lengths[len(lengths) // 2]:,.0f} s each: expected times in seconds"
        )
    for (at, word), said in zip(words, texts, strict=False):
        yield at, dataclasses.replace(word, text=join_blanks(said)), True


def _load(text: str) -> Any:
    """The value of a document, or the list of several that stand one behind the other."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    at = 0
    try:
        while at < len(text):
            blanks = _SPACE.match(text, at)
            at = blanks.end() if blanks else at
            if at < len(text) or not values:
                value, at = decoder.raw_decode(text, at)
                values.append(value)
    except json.JSONDecodeError as error:
        raise CaptionError(f"line {error.lineno}: not JSON: {error.msg}") from error
    except ValueError as error:  # more digits than Python reads
        raise CaptionError("not a caption file: holds a number of thousands of digits") from error
    except RecursionError as error:
        raise CaptionError("not a caption file: nested too deeply") from error
    return values[0] if len(values) == 1 else values


def _rows(data: Any, depth: int = _DEPTH, is_word: bool = False) -> Iterator[tuple[Any, bool]]:
    """The innermost rows of a value that have a text with times, or a text alone."""
    inner = None
    if depth and isinstance(data, dict) and not (_text(data) and _has_times(data)):
        inner = _inner(data)
    if inner is None or (not inner[0] and _text(data)):
        yield data, is_word
        return
    for row in inner[0]:
        yield from _rows(row, depth - 1, inner[1])


def _inner(data: dict[str, Any]) -> tuple[list[Any], bool] | None:
    """Rows that an object holds, and whether they are single words; None where it has no list."""
    found = [key for key in (*_SEGMENTS, *_WORDS) if isinstance(data.get(key), list)]
    if found:
        key = next((key for key in found if data[key]), found[0])
        return data[key], key in _WORDS or all(
            isinstance(row, dict) and "word" in row and "text" not in row for row in data[key]
        )
    columns: list[Any] = [data.get(name) for name in ("start", "end", "text")]
    if all(isinstance(column, list) for column in columns):
        return [list(row) for row in itertools.zip_longest(*columns)], False
    if isinstance(data.get("alternatives"), list):
        return data["alternatives"][:1], False  # the best one
    return None


def _text(row: dict[str, Any]) -> str | None:
    return next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)


def _has_times(row: dict[str, Any]) -> bool:
    return any(row.get(key) is not None for key in ("timestamp", "offsets", *_STARTS))


def _caption(row: Any, is_word: bool) -> Caption:
    """Raises ValueError where the row is no caption; words and texts may have no times."""
    if isinstance(row, str):
        return Caption(-math.inf, math.inf, clean(row))
    if isinstance(row, list) and len(row) >= 3:
        if len(row) == 3 and isinstance(row[0], str) and not isinstance(row[2], str):
            row = [row[1], row[2], row[0]]
        row = dict(zip(("start", "end", "text"), row, strict=False))
    text = _text(row) if isinstance(row, dict) else None
    if text is None:
        raise ValueError("no text")
    text = clean(text)
    keys = row.keys() & {"timestamp", "offsets", *_STARTS, *_ENDS}
    if not keys or (is_word and not _has_times(row)):
        return Caption(-math.inf, math.inf, text)
    start, end = _times(row)
    return Caption(start, end, text, confidence=_confidence(row))


def _times(row: dict[str, Any]) -> tuple[float, float]:
    """Start and end in seconds; the end is infinite where none is written."""
    units = 1
    if isinstance(pair := row.get("timestamp"), list):
        start, end = (*pair, None, None)[:2]
    elif isinstance(offsets := row.get("offsets"), dict):
        start, end, units = offsets.get("from"), offsets.get("to"), 1000
    else:
        start, end = (
            next((row[key] for key in keys if row.get(key) is not None), None)
            for keys in (("timestamp", *_STARTS), _ENDS)
        )
    if start is None:
        raise ValueError("no start")
    begin = _seconds(start, units)
    if end is None and row.get("duration") is not None:
        return begin, begin + _seconds(row["duration"])
    return begin, math.inf if end is None else _seconds(end, units)


def _seconds(value: Any, units: int = 1) -> float:
    with contextlib.suppress(ValueError):
        if isinstance(value, str):
            return check_seconds(parse_time(value.strip().removesuffix("s")))
        if is_number(value) and abs(value) < 1e12:  # no integer that is too large to be divided
            return check_seconds(value / units)
    raise ValueError(f"{short(value)} is no time")


def _language(data: dict[str, Any]) -> str:
    """Language that a recogniser's output names, "" where it does not."""
    result = data.get("result")  # of whisper.cpp
    found: Any = data.get("language") or (
        result.get("language") if isinstance(result, dict) else ""
    )
    known = isinstance(found, str) and len(found) <= _LANGUAGE_CHARACTERS and is_utf8(found)
    return found if known else ""


def _confidence(row: dict[str, Any]) -> float | None:
    """Confidence of an entry, 0 to 1; Whisper gives the mean log-probability of its tokens."""
    for key in ("confidence", "conf", "probability", "score", "avg_logprob"):
        value: Any = row.get(key)
        if is_number(value):
            if key == "avg_logprob":
                value = math.exp(max(min(value, 0.0), -1000.0))
            return float(value) if 0.0 <= value <= 1.0 else None
    return None
