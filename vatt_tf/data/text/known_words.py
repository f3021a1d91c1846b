"""Which words of a text a vocabulary has: the part that needs no TensorFlow."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

import numpy as np

# The signature of exported text models that counts tokens, and its outputs.
VOCABULARY, TOKENS, UNKNOWN = "vocabulary", "tokens", "unknown"
_PUNCTUATION = string.punctuation + "\u2019\u201c\u201d\u201e\u3001\u3002\uff01\uff1f"


def split_words(text: str) -> list[str]:
    """Words of a text, each once: what white space divides."""
    return list(dict.fromkeys(text.split()))


def split_known(
    words: Sequence[str], counts: Mapping[str, np.ndarray]
) -> tuple[list[str], list[str]]:
    """Words that a vocabulary has, and those that become its unknown id.

    One that leaves no token (punctuation, a stop word) is neither.

    Args:
        words: From :func:`split_words`.
        counts: ``tokens`` and ``unknown`` of each word, as ``Tokenizer.count_tokens`` gives them.

    Returns:
        Known and unknown words as they are written, each once, without punctuation at their ends.
    """
    known, unknown = {}, {}  # type: dict[str, None], dict[str, None]
    for word, tokens, missing in zip(words, counts[TOKENS], counts[UNKNOWN], strict=True):
        if tokens:
            (unknown if missing else known)[word.strip(_PUNCTUATION) or word] = None
    return list(known), list(unknown)
