"""Pre-trained word vectors for a vocabulary: word2vec or GloVe text, .npy, .pkl."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from vatt_tf import paths
from vatt_tf.data.text import restricted_pickle
from vatt_tf.data.text.vocabulary import WORD_SPECIALS
from vatt_tf.errors import UserError

# Words without a vector get a small one of their own: uniform in -+ this.
_UNKNOWN_SCALE = 0.05


def load_word_vectors(
    path: str | os.PathLike, words: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Reads the vectors of the words of a vocabulary.

    Args:
        path: word2vec text (first line ``words dimensions``), GloVe text (no first line), or a
            ``.npy`` matrix whose rows follow the vocabulary, or the words in a text file of the
            same name (``vectors.npy`` beside ``vectors.txt``); or the release's ``word2vec.pkl``,
            a pickled dict whose ``word_embeddings`` is such a matrix (no code in it is run).
        words: The vocabulary in order of id, ``<pad>`` first.

    Returns:
        float32 ``[words, dimensions]`` with a zero row for ``<pad>`` and small random rows (the
        same in every run) for words that are not in the file; and those words, special ones
        left out.

    Raises:
        UserError: With file and line, if the file is no such table.
    """
    path = os.fspath(paths.expand(path))
    if not os.path.isfile(path):
        raise UserError(f"no word vectors at {path}")
    ids = {word: i for i, word in enumerate(words)}
    rows: dict[int, np.ndarray] = {}
    # Words of another case than the vocabulary's, for entries that have no row of their own.
    lowered: dict[int, np.ndarray] = {}
    dimensions = 0
    readers = {".npy": _npy, ".pkl": _pickle}
    reader = readers.get(os.path.splitext(path)[1], _text)
    for word, vector in reader(path, words):
        dimensions = len(vector)
        if word in ids:
            rows.setdefault(ids[word], vector)
        elif word.lower() in ids:
            lowered.setdefault(ids[word.lower()], vector)
    if not dimensions:
        raise UserError(f"{path} holds no word vectors")
    rows = lowered | rows
    table = np.stack([rows[i] if i in rows else _own(w, dimensions) for w, i in ids.items()])
    table[0] = 0.0
    missing = [w for w, i in ids.items() if i not in rows and w not in WORD_SPECIALS]
    return table.astype(np.float32), missing


def _own(word: str, dimensions: int) -> np.ndarray:
    """A small vector that depends on the word only."""
    random = np.random.default_rng(zlib.crc32(word.encode()))
    return random.uniform(-_UNKNOWN_SCALE, _UNKNOWN_SCALE, dimensions)


def _text(path: str, words: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Words and vectors of a text file."""
    dimensions = 0
    # Some published files hold a few invalid bytes in rare words.
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(f.isdigit() for f in fields):
                dimensions = int(fields[1])
                continue
            if fields == [""]:
                continue
            dimensions = dimensions or len(fields) - 1
            # A few GloVe entries hold spaces: the last fields are the numbers.
            entry, numbers = fields[:-dimensions], fields[-dimensions:]
            where = f"{path} line {number} (word {' '.join(entry)[:40]!r})"
            extra = entry[1:]
            if not entry or dimensions < 1 or any(_is_number(f) for f in extra):
                raise UserError(
                    f"{where}: {len(fields) - 1} numbers, expected {dimensions} as in the lines "
                    "before"
                )
            try:
                vector = np.asarray(numbers, np.float32)
            except ValueError as error:
                raise UserError(
                    f"{where}: expected a word and {dimensions} numbers, found {error}"
                ) from error
            if not np.isfinite(vector).all():
                raise UserError(f"{where}: NaN or infinite numbers")
            yield " ".join(entry), vector


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _npy(path: str, words: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Words and vectors of a matrix; the words are the vocabulary's or those of a text file."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is no .npy matrix: {error}") from error
    yield from _rows(path, matrix, words)


def _pickle(path: str, words: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Words and vectors of the release's pickle."""
    content = restricted_pickle.load(path)
    matrix = content.get("word_embeddings") if isinstance(content, dict) else content
    if not isinstance(matrix, np.ndarray):
        found = f"a dict with {sorted(content)}" if isinstance(content, dict) else type(content)
        raise UserError(f"{path} holds {found}; expected a dict with the array word_embeddings")
    yield from _rows(path, matrix, words)


def _rows(path: str, matrix: np.ndarray, words: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of a matrix with the words of the text file beside it, or else of the vocabulary."""
    beside = os.path.splitext(path)[0] + ".txt"
    order: Sequence[str] = words
    source = "the vocabulary"
    if os.path.isfile(beside):
        with open(beside, encoding="utf-8", newline="\n") as file:
            order = [line.rstrip("\r\n") for line in file]
        source = beside
    if matrix.ndim != 2 or len(matrix) != len(order) or matrix.dtype.kind not in "fiu":
        raise UserError(
            f"{path} has shape {matrix.shape} and type {matrix.dtype}; expected numbers "
            f"[{len(order)}, dimensions], one row for each word of {source}"
        )
    for word, row in zip(order, matrix, strict=True):
        vector = np.asarray(row, np.float32)
        if not np.isfinite(vector).all():
            raise UserError(f"{path}: the row of {word!r} holds NaN or infinite numbers")
        yield word, vector
