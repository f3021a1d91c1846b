"""The classes of a data set: their names in index order, from a label file or from the shards."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vatt_tf import paths
from vatt_tf.data.text.files import decode_text, read_bytes
from vatt_tf.errors import UserError

if TYPE_CHECKING:
    from vatt_tf.data.shards.index import Sources

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))  # blanks without width
HOW_TO_NAME_CLASSES = "give a label file: one class per line, in the order of the indices"


def normal_label(text: str) -> str:
    """A class name in Unicode's composed form (NFC) with single blanks inside."""
    if text.isascii():
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", text.translate(_INVISIBLE)).split())


def look_alikes(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ only by case, blanks, underscores or Unicode form."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        plain = unicodedata.normalize("NFKC", label).casefold()
        key = unicodedata.normalize("NFKC", re.sub(r"[\s_]+", "", plain))
        groups.setdefault(key, []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def read_labels(path: str | os.PathLike) -> tuple[str, ...]:
    """Reads a label file: one class per line, index order; empty lines at the end do not count.

    Blanks and Unicode forms are those of ``normal_label``, as in the labels of a manifest CSV.

    Raises:
        UserError: The file cannot be read, holds no class, an empty line, or a class twice.
    """
    path = paths.expand(path)
    try:
        text, _ = decode_text(_read_bytes(path), str(path))
    except OSError as error:
        raise UserError(f"the label file {path} cannot be read: {error.strerror}") from error
    names = [normal_label(line) for line in text.rstrip().splitlines()]
    if not names:
        raise UserError(f"the label file {path} is empty: expected one class per line")
    lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise UserError(f"{path} line {number} is empty: expected one class per line")
        if name in lines:
            raise UserError(
                f"{path} line {number}: the class '{name}' stands in line {lines[name]} already; "
                "each class has one line"
            )
        lines[name] = number
    return tuple(names)


def _read_bytes(path: str | os.PathLike) -> bytes:
    if "://" not in os.fspath(path):
        return read_bytes(path)
    import tensorflow as tf  # only where it is needed

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise OSError(error.error_code, error.message) from error


def labels_of(source: Sources, splits: Sequence[str]) -> tuple[str, ...]:
    """The classes that ``prepare`` wrote into the manifest.json of a source.

    Args:
        source: A data source or a path. Several folders: the classes of the first, then what the
            others have besides.
        splits: For the top folder of a prepared data set, the splits to look for.

    Raises:
        UserError: The shards do not name their classes.
    """
    from vatt_tf.data.shards.index import as_sources, manifests  # brings TensorFlow

    names: dict[str, None] = {}
    for each in as_sources(source):
        for manifest in manifests(each.path, splits).values():
            names |= dict.fromkeys(manifest.get("labels") or ())
    if not names:
        raise UserError(
            f"the shards at {source} do not say which classes there are (no manifest.json with "
            f"labels): prepare them with a manifest CSV that has labels, or {HOW_TO_NAME_CLASSES}"
        )
    return tuple(names)


def known_classes(names: Sequence[str]) -> str:
    """The classes for a message, shortened."""
    more = f" ... ({len(names)} in all)" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more
