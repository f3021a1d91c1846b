"""Folding of the words of captions, file names and queries, and FTS5 query syntax.

Case, width (NFKC) and punctuation are folded here; the ``unicode61`` tokenizer of FTS5 removes
diacritics. Scripts that write no blanks between words (Chinese, Japanese, Thai, ...) are divided
into characters, and a query in them is a phrase: FTS5's ``trigram`` tokenizer finds nothing under
three characters, so that neither 犬 nor 東京 would match.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata

# First and last code points of scripts and blocks that are written without blanks.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan: syllables are divided by points
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
# Categories that FTS5 has to treat as parts of words: Indic vowel signs are marks (Mn, Mc).
TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
_LETTERS = frozenset("LNM") | {"Co"}
_ASCII_WORD = re.compile("[0-9a-z]+")
_APOSTROPHES = "'\u2019\u02bc"

# Most terms of a query: more take FTS5 long.
MAX_TERMS = 64
# Most characters read of a query.
MAX_CHARACTERS = 10_000


@dataclasses.dataclass(frozen=True)
class Term:
    """Term of a query.

    Attributes:
        shown: As it was written.
        tokens: Folded; several are a phrase.
    """

    shown: str
    tokens: tuple[str, ...]

    @property
    def match(self) -> str:
        """The term in FTS5 query syntax: a quoted string, in which no character is an operator."""
        return '"{}"'.format(" ".join(self.tokens))


def fold(text: str) -> str:
    """Folds a text to its form in the index: tokens joined by blanks."""
    return " ".join(tokens(text))


def tokens(text: str) -> list[str]:
    """Splits a text into lower-case words without punctuation, unspaced scripts into characters."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    text = unicodedata.normalize("NFKC", text).casefold()
    found: list[str] = []
    word = ""
    alone = False  # whether the word is a character of an unspaced script
    for character in text:
        kind = _kind(character)
        if kind == "mark" and word:
            word += character
        elif kind in ("letter", "mark"):
            if alone:
                found.append(word)
                word = ""
            word, alone = word + character, False
        else:
            if word:
                found.append(word)
            word, alone = (character, True) if kind == "alone" else ("", False)
    return [*found, word] if word else found


@functools.lru_cache(maxsize=65_536)
def _kind(character: str) -> str:
    """``"letter"``, ``"mark"``, ``"alone"`` (of an unspaced script) or ``""`` for a divider."""
    category = unicodedata.category(character)
    if category[0] not in _LETTERS and category not in _LETTERS:
        return ""
    if category in ("Mn", "Mc"):
        return "mark"
    if category == "Me":
        return ""
    point = ord(character)
    return "alone" if any(first <= point <= last for first, last in _UNSPACED) else "letter"


def terms(query: str) -> tuple[list[Term], bool]:
    """Parses a query into distinct terms; also returns whether ``MAX_TERMS`` cut some.

    Words end at blanks and punctuation other than apostrophes. ``don't`` and the characters of a
    word in an unspaced script are phrases.
    """
    cut = len(query) > MAX_CHARACTERS
    found: dict[tuple[str, ...], Term] = {}
    for part in _parts(query[:MAX_CHARACTERS]):
        parts = tuple(tokens(part))
        if parts and parts not in found:
            if len(found) == MAX_TERMS:
                return list(found.values()), True
            found[parts] = Term(part.strip(_APOSTROPHES), parts)
    return list(found.values()), cut


def _parts(query: str) -> list[str]:
    """Splits a query into runs of letters, digits, marks and apostrophes."""
    divided = "".join(
        character if character in _APOSTROPHES or _kind(character) else " " for character in query
    )
    return divided.split()
