"""Timed words: GRID's alignments, and words of any source joined into captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vatt_tf.data.media.captions.caption import Caption, CaptionError, check_seconds, clean
from vatt_tf.data.media.captions.notes import Notes
from vatt_tf.data.text.files import iter_lines
from vatt_tf.data.text.scripts import join_blanks

# Words of ASR output are joined into captions; a pause this long begins a new one.
PAUSE_SECONDS = 0.5
MAX_WORDS = 16  # a caption holds 16 tokens (VATT, section 4.1)
GRID_UNITS_PER_SECOND = 25_000
_SILENCE = {"sil", "sp", "<sil>"}
_SENTENCE_ENDS = tuple(".?!。？！")


def read_align(text: str, notes: Notes) -> Iterator[tuple[int, Caption, bool]]:
    """GRID: ``start end word`` a line, times in 1/25000 s (with a decimal point: in seconds)."""
    understood = False
    for number, line in notes.numbered(iter_lines(text)):
        fields = line.split(None, 2)
        if not fields:
            continue
        try:
            low, high, word = fields
            unit = 1 if "." in low + high else GRID_UNITS_PER_SECOND
            start, end = check_seconds(float(low) / unit), check_seconds(float(high) / unit)
        except ValueError:
            notes.add(number, line, "is not 'start end word'; the line is left out")
            continue
        understood = True
        word = " ".join(word.split())
        if word.lower() not in _SILENCE:
            yield number, Caption(start, end, clean(word)), True
    if not understood:
        raise CaptionError("no line 'start end word' was found")


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
