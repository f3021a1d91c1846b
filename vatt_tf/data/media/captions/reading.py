"""Caption files of any kind: which one belongs to a video, and what stands in it."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from vatt_tf.data.media.captions.caption import Caption, CaptionError
from vatt_tf.data.media.captions.cues import read_cues
from vatt_tf.data.media.captions.notes import Notes
from vatt_tf.data.media.captions.recognisers import read_json
from vatt_tf.data.media.captions.words import join_words, read_align
from vatt_tf.data.text.files import TextFileError, read_text
from vatt_tf.paths import is_utf8
from vatt_tf.wording import count_of

# In this order when a video has several caption files.
CAPTION_SUFFIXES = (".srt", ".vtt", ".json", ".align")
# What often lies beside a video too, and is named where nothing else does.
UNREAD_SUFFIXES = tuple(
    ".ass .ssa .sub .sbv .ttml .dfxp .smi .lrc .stl .scc .tsv .json3 .srv3 .txt".split()
)
# Ten hours of speech with the times of all words have less; in memory it is up to thirty times as
# much.
MOST_BYTES = 16 * 2**20
MOST_CAPTIONS = 100_000  # of a file, words counted singly
MOST_CHARACTERS = 20_000  # of a caption

_LANGUAGE_TAG = re.compile(r"[a-z]{2,3}([-_][a-z0-9]+)*", re.IGNORECASE)

# Yields the number of a line or entry, what stands there, and whether it is a single word.
_Reader = Callable[[str, Notes], Iterator[tuple[int, Caption, bool]]]
_READERS: dict[str, tuple[_Reader, str]] = {
    ".srt": (read_cues, "line"),
    ".vtt": (read_cues, "line"),
    ".json": (read_json, "entry"),
    ".align": (read_align, "line"),
}


def read_captions(path: str | os.PathLike) -> tuple[list[Caption], list[str]]:
    """Reads a caption file of any known kind.

    Args:
        path: File ending in .srt, .vtt, .json or .align, of at most ``MOST_BYTES``.

    Returns:
        At most ``MOST_CAPTIONS`` captions of at most ``MOST_CHARACTERS`` each, sorted by time, and
        a warning for each thing that was mended or left out (of many of a kind for the first ones,
        and for the rest together).

    Raises:
        CaptionError: The file cannot be opened or understood.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _READERS:
        raise CaptionError(f"{path}: unknown kind of caption file, expected {CAPTION_SUFFIXES}")
    reader, unit = _READERS[path.suffix.lower()]
    try:
        text, warnings = read_text(path, MOST_BYTES, pipes=False)
    except OSError as error:
        raise CaptionError(f"{path}: cannot be read: {error.strerror}") from error
    except TextFileError as error:
        raise CaptionError(str(error)) from error
    if not text.strip():
        raise CaptionError(f"{path}: the file holds no text")
    notes = Notes(path.name, unit)
    try:
        captions = _usable(reader(text, notes), notes)
    except CaptionError as error:
        mark = "" if str(error).startswith("line ") else ":"
        reasons = [f"{path}{mark} {error}", *notes.lines()[:1]]
        raise CaptionError("; ".join(reasons)) from error
    warnings += notes.lines()
    if not captions and notes.lines():
        raise CaptionError(f"{path}: holds no caption that can be used; {notes.lines()[0]}")
    if not captions:
        warnings.append(f"{path.name}: holds no caption")
    timed = [caption for caption in captions if not caption.whole]
    overlaps = sum(b.start < a.end - 1e-6 for a, b in itertools.pairwise(timed))
    if overlaps:
        warnings.append(
            f"{path.name}: {count_of(overlaps, 'caption')} kept although the one in front ends "
            "later"
        )
    return captions, warnings


def pick_caption_file(
    stem: str, names: Iterable[str], language: str = "en"
) -> tuple[str | None, list[str]]:
    """Chooses the caption file of a video among the names in a folder.

    Args:
        stem: File name of the video without its ending.
        names: Caption file names that begin with the stem.
        language: Preferred language among ``stem.<language>.vtt`` and the like.

    Returns:
        The chosen name or None, and a warning when there was a choice, or only files of a kind
        that is not read.
    """
    ranked = []
    for name in names:
        front, suffix = os.path.splitext(name)
        middle, suffix = front[len(stem) :], suffix.lower()
        if not name.startswith(stem) or suffix not in (*CAPTION_SUFFIXES, *UNREAD_SUFFIXES):
            continue
        tag = middle.lstrip(".").lower()
        if middle and not (middle.startswith(".") and _LANGUAGE_TAG.fullmatch(tag)):
            continue
        wanted = tag == language.lower() or tag.startswith((language.lower() + "-", language + "_"))
        rank = 0 if not tag else 1 if wanted else 2
        read = suffix in CAPTION_SUFFIXES
        ranked.append((not read, rank, CAPTION_SUFFIXES.index(suffix) if read else 0, name))
    ranked.sort()
    if not ranked:
        return None, []
    unread, _, _, chosen = ranked[0]
    others = ", ".join(name for *_, name in ranked[1:])
    if unread:
        kinds = f"expected {', '.join(CAPTION_SUFFIXES[:-1])} or {CAPTION_SUFFIXES[-1]}"
        return None, [
            f"not read as captions: {', '.join([chosen, *filter(None, [others])])}; {kinds}"
        ]
    return chosen, [f"several caption files: {chosen} is used, not {others}"] if others else []


def _usable(entries: Iterator[tuple[int, Caption, bool]], notes: Notes) -> list[Caption]:
    """Captions sorted by time, words joined; what cannot be stored is left out."""
    captions: list[Caption] = []
    words: list[Caption] = []
    for number, caption, is_word in entries:
        if len(captions) + len(words) == MOST_CAPTIONS:
            before = count_of(MOST_CAPTIONS, "caption")
            what = f"and what follows is left out behind {before}"
            notes.add(number, caption.text, what)
            break
        mended = _mended(number, caption, notes)
        if mended is not None:
            (words if is_word else captions).append(mended)
    return _in_order([*captions, *join_words(_in_order(words))])


def _in_order(captions: list[Caption]) -> list[Caption]:
    """Captions by time; one without an end lasts until another begins."""
    captions.sort(key=attrgetter("start", "end"))
    later = following = math.inf  # starts of the captions behind
    for k, caption in reversed(list(enumerate(captions))):
        if caption.start < later:
            later, following = caption.start, later
        if math.isinf(caption.end) and not caption.whole:
            captions[k] = dataclasses.replace(caption, end=following)
    return captions


def _mended(number: int, caption: Caption, notes: Notes) -> Caption | None:
    """A caption with times in order and a text that can be stored; None where there is none."""
    if not caption.text:
        return None
    text = caption.text
    if not is_utf8(text):
        notes.add(number, text, "holds half of a surrogate pair; the caption is left out")
        return None
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS]
        text = text[: text.rfind(" ")] if " " in text else text
        notes.add(
            number,
            text,
            f"is longer than {MOST_CHARACTERS:,} characters; its rest is left out",
        )
    start, end = caption.start, caption.end
    times = f" ({start:.3f}-{end:.3f} s)"
    if end < start:
        notes.add(number, text, "ends before it begins; its times are swapped", times)
        start, end = end, start
    if start < 0 and not caption.whole:
        if end <= 0:
            notes.add(number, text, "has a negative time; it is left out", times)
            return None
        notes.add(number, text, "has a negative time; it begins at 0 instead", times)
        start = 0.0
    return dataclasses.replace(caption, start=start, end=end, text=text)
