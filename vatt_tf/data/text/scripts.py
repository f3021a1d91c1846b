"""Scripts without blanks between words: Japanese, Chinese, Thai, Lao, Khmer, Burmese, Tibetan."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WITHOUT_BLANKS = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)
_NO_BLANK = re.compile(f"{_WITHOUT_BLANKS.pattern[:-1]}\u3000-\u303f\uff01-\uff65]")  # and marks


def fraction_without_blanks(texts: Iterable[str]) -> float:
    """Fraction of the letters that belong to a script without blanks between words."""
    letters = found = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        found += sum(map(str.isalpha, _WITHOUT_BLANKS.findall(text)))
    return found / letters if letters else 0.0


def join_blanks(words: Iterable[str]) -> str:
    """Joins words with a blank, but for those of a script that has none between words."""
    joined = ""
    for word in words:
        bare = bool(joined and word) and bool(
            _NO_BLANK.match(joined[-1]) and _NO_BLANK.match(word[0])
        )
        joined += word if bare or not joined else f" {word}"
    return joined
