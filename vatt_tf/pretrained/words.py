"""Check of a published checkpoint's word table against its word vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vatt_tf.data.text.word_vectors import load_word_vectors
from vatt_tf.errors import UserError


def check_word_vectors(path: str, words: Sequence[str], table: np.ndarray) -> None:
    """Compares a word table with a file of word vectors.

    The released model freezes its word table, so that a difference means another vocabulary or
    another file.

    Args:
        path: See :func:`vatt_tf.data.text.word_vectors.load_word_vectors`.
        words: The vocabulary in order of id.
        table: float [words, d], the checkpoint's.

    Raises:
        UserError: If widths or values differ; names the first word that does.
    """
    vectors, missing = load_word_vectors(path, words)
    table = np.asarray(table)
    if vectors.shape != table.shape:
        raise UserError(f"{path}: vectors {vectors.shape}, the checkpoint's table is {table.shape}")
    absent = set(missing)
    known = np.array([index > 0 and word not in absent for index, word in enumerate(words)])
    different = np.flatnonzero(known & np.any(np.abs(vectors - table) > 1e-6, axis=1))
    if len(different):
        raise UserError(
            f"{path}: the vectors of {len(different)} of {int(known.sum())} words differ from the "
            f"checkpoint's word table, first {words[different[0]]!r}: another vocabulary or file"
        )
