"""Captions with their times from side-car files: SubRip, WebVTT, ASR JSON, GRID alignments.

Every reader gives captions sorted by time plus warnings about what it mended. What can be mended
without guessing the meaning is mended (reversed times are swapped, negative starts become 0, text
that is not UTF-8 is read as Windows-1252); a cue that cannot be understood is left out and named
with file and line; a file that holds nothing readable raises ``CaptionError``. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from vatt_tf.data.text.scripts import join_blanks
from vatt_tf.errors import UserError
from vatt_tf.wording import count_of

# In this order when a video has several caption files.
CAPTION_SUFFIXES = (".srt", ".vtt", ".json", ".align")
# Words of ASR output are joined into captions; a pause this long begins a new one.
PAUSE_SECONDS = 0.5
MAX_WORDS = 16  # a caption holds 16 tokens (VATT, section 4.1)
GRID_UNITS_PER_SECOND = 25_000
_SILENCE = {"sil", "sp", "<sil>", ""}
_SENTENCE_ENDS = tuple(".?!。？！")

_LANGUAGE_TAG = re.compile(r"^[a-z]{2,3}([-_][a-z0-9]+)*$", re.IGNORECASE)
_TIME = r"(-?(?:\d+:)?-?\d+:\d+(?:[.,]\d+)?|-?\d+[.,]\d+)"
_TIME_LINE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class CaptionError(UserError):
    """A caption file that cannot be read; the message names file and line."""


@dataclasses.dataclass(frozen=True, order=True)
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


def read_captions(path: str | os.PathLike) -> tuple[list[Caption], list[str]]:
    """Reads a caption file of any known kind.

    Args:
        path: File ending in .srt, .vtt, .json or .align.

    Returns:
        Captions sorted by time, and a warning for each thing that was mended or left out.

    Raises:
        CaptionError: The file cannot be opened or understood.
    """
    path = pathlib.Path(path)
    readers = {".srt": _read_cues, ".vtt": _read_cues, ".json": _read_json, ".align": _read_align}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CaptionError(f"{path}: unknown kind of caption file, expected {CAPTION_SUFFIXES}")
    try:
        text, warnings = decode_text(path.read_bytes(), path.name)
    except OSError as error:
        raise CaptionError(f"{path}: cannot be read: {error.strerror}") from error
    if not text.strip():
        raise CaptionError(f"{path}: the file holds no text")
    return _in_order(reader(path, text, warnings), path.name, warnings), warnings


def decode_text(data: bytes, name: str) -> tuple[str, list[str]]:
    """Decodes bytes as UTF-8 (or UTF-16 with a byte order mark), else as Windows-1252."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16"), []
        except UnicodeDecodeError as error:
            raise CaptionError(f"{name}: broken UTF-16 text: {error.reason}") from error
    try:
        text, warnings = data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        warnings = [
            f"{name} line {line}: byte 0x{byte:02x} is not UTF-8; the file is read as Windows-1252"
        ]
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise CaptionError(f"{name}: holds zero bytes, so it is not a text file")
    return text, warnings


def clean(text: str) -> str:
    """Strips mark-up and entities and joins the lines of a caption."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).replace("\u200b", " ").split())


def pick_caption_file(
    stem: str, names: Iterable[str], language: str = "en"
) -> tuple[str | None, list[str]]:
    """Chooses the caption file of a video among the names in a folder.

    Args:
        stem: File name of the video without its ending.
        names: Caption file names that begin with the stem.
        language: Preferred language among ``stem.<language>.vtt`` and the like.

    Returns:
        The chosen name or None, and a warning when there was a choice.
    """
    ranked = []
    for name in names:
        front, suffix = os.path.splitext(name)
        middle, suffix = front[len(stem) :], suffix.lower()
        if not name.startswith(stem) or suffix not in CAPTION_SUFFIXES:
            continue
        tag = middle.lstrip(".").lower()
        if middle and not (middle.startswith(".") and _LANGUAGE_TAG.match(tag)):
            continue
        wanted = tag == language.lower() or tag.startswith((language.lower() + "-", language + "_"))
        rank = 0 if not tag else 1 if wanted else 2
        ranked.append((rank, CAPTION_SUFFIXES.index(suffix), name))
    ranked.sort()
    if not ranked:
        return None, []
    chosen = ranked[0][2]
    others = ", ".join(name for _, _, name in ranked[1:])
    return chosen, [f"several caption files: {chosen} is used, not {others}"] if others else []


def captions_near(
    captions: Sequence[Caption], start: float, end: float, neighbours: int = 4
) -> list[Caption]:
    """Captions that overlap [start, end), and up to ``neighbours`` before and after them.

    Captions without times belong to every clip and come out with the clip's times.
    """
    timed = [caption for caption in captions if not caption.whole]
    inside = [
        index
        for index, caption in enumerate(timed)
        if (caption.start < end and caption.end > start)
        or (caption.start == caption.end and start <= caption.start < end)
    ]
    if inside:
        low, high = inside[0], inside[-1] + 1
    else:  # between two captions
        low = high = sum(1 for caption in timed if caption.start < start)
    chosen = timed[max(0, low - neighbours) : high + neighbours]
    whole = [dataclasses.replace(c, start=start, end=end) for c in captions if c.whole]
    ended = [
        dataclasses.replace(c, end=max(end, c.start)) if math.isinf(c.end) else c for c in chosen
    ]
    return sorted(ended + whole)


def _in_order(captions: list[Caption], name: str, warnings: list[str]) -> list[Caption]:
    """Sorts by time; mends negative and reversed times; notes overlaps."""
    mended = []
    for caption in captions:
        start, end = caption.start, caption.end
        if end < start:
            warnings.append(
                f"{name}: the caption '{_short(caption.text)}' ends ({end:.3f} s) before it "
                f"begins ({start:.3f} s); its times are swapped"
            )
            start, end = end, start
        if start < 0 and not caption.whole:
            what = "is left out" if end <= 0 else "begins at 0 instead"
            warnings.append(
                f"{name}: the caption '{_short(caption.text)}' has a negative time "
                f"({start:.3f} s); it {what}"
            )
            if end <= 0:
                continue
            start = 0.0
        mended.append(dataclasses.replace(caption, start=start, end=end))
    mended.sort(key=lambda caption: (caption.start, caption.end))
    timed = [caption for caption in mended if not caption.whole]
    overlaps = sum(b.start < a.end - 1e-6 for a, b in zip(timed, timed[1:], strict=False))
    if overlaps:
        warnings.append(
            f"{name}: {count_of(overlaps, 'caption')} kept although the one in front ends later"
        )
    return mended


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def parse_time(text: str) -> float:
    """Seconds of ``[[hours:]minutes:]seconds`` with a point or comma; a minus may lead."""
    text = text.strip().replace(",", ".")
    negative = "-" in text
    seconds = 0.0
    for part in text.replace("-", "").split(":"):
        seconds = seconds * 60 + float(part)
    return -seconds if negative else seconds


def _read_cues(path: pathlib.Path, text: str, warnings: list[str]) -> list[Caption]:
    """SubRip and WebVTT: a line of times, then text up to an empty line or the next times."""
    lines = text.splitlines()
    captions: list[Caption] = []
    shown: list[str] = []  # lines of the cue in front, for captions that roll up
    bad = 0
    at = 0
    while at < len(lines):
        if "-->" not in lines[at]:
            at += 1
            continue
        number, match = at + 1, _TIME_LINE.match(lines[at])
        at += 1
        body = []
        while at < len(lines) and "-->" not in lines[at]:
            if not lines[at].strip():
                break
            body.append(lines[at])
            at += 1
        if at < len(lines) and "-->" in lines[at] and body and body[-1].strip().isdigit():
            body.pop()  # the counter of the next cue, after a missing empty line
        if match is None:
            bad += 1
            warnings.append(
                f"{path.name} line {number}: '{_short(lines[number - 1].strip())}' is not "
                "'start --> end'; the caption is left out"
            )
            continue
        start, end = parse_time(match[1]), parse_time(match[2])
        cleaned = [line for line in map(clean, body) if line]
        # Automatic captions roll up: a cue repeats the last line of the one before it.
        rolled = bool(shown) and bool(captions) and start <= captions[-1].end + 0.05
        fresh = cleaned[1:] if rolled and cleaned and cleaned[0] == shown[-1] else cleaned
        if cleaned:
            shown = cleaned
        if fresh:
            captions.append(Caption(start, end, " ".join(fresh)))
        elif rolled and captions and end > captions[-1].end:
            captions[-1] = dataclasses.replace(captions[-1], end=end)
    if not captions and path.suffix.lower() == ".vtt" and not bad and text.startswith("WEBVTT"):
        warnings.append(f"{path.name}: holds no caption")
    elif not captions:
        raise CaptionError(f"{path}: no line 'start --> end' with a text after it was found")
    return captions


def _read_align(path: pathlib.Path, text: str, warnings: list[str]) -> list[Caption]:
    """GRID: ``start end word`` a line, times in 1/25000 s (with a decimal point: in seconds)."""
    words = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            low, high, word = fields[0], fields[1], " ".join(fields[2:])
            unit = 1 if "." in low + high else GRID_UNITS_PER_SECOND
            start, end = float(low) / unit, float(high) / unit
        except (IndexError, ValueError):
            warnings.append(
                f"{path.name} line {number}: '{_short(line.strip())}' is not 'start end word'; "
                "the line is left out"
            )
            continue
        if word.lower() not in _SILENCE:
            words.append(Caption(start, end, clean(word)))
    if not words:
        raise CaptionError(f"{path}: no line 'start end word' with a word was found")
    return join_words(_in_order(words, path.name, warnings))


def group_words(words: Sequence[Caption]) -> list[list[Caption]]:
    """Timed words of each caption, split at pauses, sentence ends and 16 words."""
    groups: list[list[Caption]] = []
    for word in words:
        group = groups[-1] if groups else None
        if (
            group is None
            or len(group) >= MAX_WORDS
            or word.start - group[-1].end > PAUSE_SECONDS
            or group[-1].text.endswith(_SENTENCE_ENDS)
        ):
            groups.append([word])
        else:
            group.append(word)
    return groups


def join_words(words: Sequence[Caption]) -> list[Caption]:
    """Joins timed words into captions (:func:`group_words`); the confidence is the words' mean."""
    joined = []
    for group in group_words(words):
        known = [word.confidence for word in group if word.confidence is not None]
        joined.append(
            Caption(
                group[0].start,
                max(word.end for word in group),
                join_blanks(word.text for word in group),
                group[0].language,
                sum(known) / len(known) if known else None,
            )
        )
    return joined


def _read_json(path: pathlib.Path, text: str, warnings: list[str]) -> list[Caption]:
    """ASR output: segments or words, as rows, as columns, or inside an object."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise CaptionError(f"{path} line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise CaptionError(f"{path}: not a caption file: nested too deeply") from error
    rows, words = _json_rows(data)
    if rows is None:
        found = f"the keys {sorted(data)[:8]}" if isinstance(data, dict) else type(data).__name__
        raise CaptionError(
            f"{path}: no captions found; expected a list of {{start, end, text}}, or an object "
            f"with 'segments', 'words' or columns 'start', 'end', 'text'; found {found}"
        )
    captions = []
    language = _json_language(data)
    for number, row in enumerate(rows, 1):
        try:
            caption = dataclasses.replace(_json_caption(row), language=language)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            warnings.append(
                f"{path.name} entry {number}: {_short(str(row))} is not a caption "
                f"({type(error).__name__}: {error}); it is left out"
            )
            continue
        if caption.text:
            captions.append(caption)
    if not captions and rows:
        raise CaptionError(f"{path}: none of its {len(rows)} entries is a caption with times")
    if words:
        timed = [caption for caption in captions if not caption.whole]
        return join_words(_in_order(timed, path.name, warnings))
    return captions


def _json_rows(data: Any) -> tuple[list[Any] | None, bool]:
    """Rows of a JSON document and whether each is a single word."""
    if isinstance(data, dict):
        # "transcription" is whisper.cpp's, "result" Vosk's.
        for key in ("segments", "captions", "results", "chunks", "transcription"):
            if isinstance(data.get(key), list):
                return data[key], False
        for key in ("word_segments", "words", "result"):
            if isinstance(data.get(key), list):
                return data[key], True
        columns = [data.get(key) for key in ("start", "end", "text")]
        if all(isinstance(column, list) for column in columns):
            return [list(row) for row in zip(*columns, strict=False)], False
        if isinstance(data.get("text"), str):
            return [data], False
        return None, False
    if isinstance(data, list):
        words = bool(data) and all(
            isinstance(row, dict) and "word" in row and "text" not in row for row in data
        )
        return data, words
    return None, False


def _json_caption(row: Any) -> Caption:
    if isinstance(row, str):
        return Caption(-math.inf, math.inf, clean(row))
    if isinstance(row, list):
        if len(row) == 3 and isinstance(row[0], str) and not isinstance(row[2], str):
            row = [row[1], row[2], row[0]]
        return Caption(_seconds(row[0]), _seconds(row[1]), clean(str(row[2])))
    for key in ("text", "word", "caption", "sentence"):
        if isinstance(row.get(key), str):
            text = clean(row[key])
            break
    else:
        raise KeyError("text")
    if "timestamp" in row:
        start, end = row["timestamp"]
    elif isinstance(row.get("offsets"), dict):  # milliseconds
        start, end = (float(row["offsets"][key]) / 1000 for key in ("from", "to"))
    elif "start" in row:
        start = row["start"]
        end = row["end"] if "end" in row else _seconds(start) + _seconds(row["duration"])
    else:
        return Caption(-math.inf, math.inf, text)
    return Caption(_seconds(start), _seconds(end), text, confidence=_json_confidence(row))


def _json_language(data: Any) -> str:
    """Language that a recogniser's output names, "" where it does not."""
    if not isinstance(data, dict):
        return ""
    result = data.get("result")  # of whisper.cpp
    found = data.get("language") or (result.get("language") if isinstance(result, dict) else "")
    return found if isinstance(found, str) else ""


def _json_confidence(row: dict[str, Any]) -> float | None:
    """Confidence of an entry, 0 to 1; Whisper gives the mean log-probability of its tokens."""
    for key in ("confidence", "conf", "probability", "score", "avg_logprob"):
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            confidence = math.exp(min(value, 0.0)) if key == "avg_logprob" else float(value)
            return confidence if 0.0 <= confidence <= 1.0 else None
    return None


def _seconds(value: Any) -> float:
    seconds = parse_time(value) if isinstance(value, str) else float(value)
    if not -1e9 < seconds < 1e9:
        raise ValueError(f"the time {value} is not a number of seconds")
    return seconds
