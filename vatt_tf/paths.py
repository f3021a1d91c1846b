"""Paths as users write them: the home folder, names that look like patterns, odd bytes.

An existing file or folder is always itself; only what does not exist can be a pattern. Nothing here
imports TensorFlow unless a path is remote (``gs://...``).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

Path = TypeVar("Path", str, os.PathLike, str | os.PathLike)

_MAGIC = re.compile(r"[*?\[]")
# TensorFlow also treats a backslash as an escape.
_TENSORFLOW_MAGIC = re.compile(r"[*?\[\]\\]")
# Python's characters for bytes that are not UTF-8 (``surrogateescape``).
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def expand(path: Path) -> Path:
    """Expands ``~/`` at the start of a path, or ``~`` alone, to the home folder.

    A folder that is really called ``~`` is ``./~``.
    """
    text = os.fspath(path)
    if text != "~" and not text.startswith("~/"):
        return path
    expanded = os.path.expanduser(text)
    return expanded if isinstance(path, str) else pathlib.Path(expanded)


def as_text(path: os.PathLike) -> str:
    """String of a path that :func:`expand` leaves unchanged; ``pathlib`` turns ``./~`` to ``~``."""
    text = os.fspath(path)
    return f"./{text}" if text == "~" or text.startswith("~/") else text


def expand_all(value: Any) -> Any:
    """:func:`expand` of a path, or of each one in a sequence or among a mapping's values."""
    if isinstance(value, str | os.PathLike):
        return expand(value)
    if isinstance(value, list | tuple):
        return type(value)(expand_all(item) for item in value)
    if isinstance(value, Mapping):
        return {key: expand_all(item) for key, item in value.items()}
    return value


def expand_fields(instance: Any, *names: str) -> None:
    """:func:`expand_all` of fields of a frozen dataclass, for its ``__post_init__``."""
    for name in names:
        object.__setattr__(instance, name, expand_all(getattr(instance, name)))


def is_pattern(path: str) -> bool:
    """Whether a path that does not exist can be meant as a pattern."""
    return _MAGIC.search(path) is not None


def find(path: str) -> list[str]:
    """Files and folders of a path, sorted: itself if it exists, else the matches of the pattern.

    A part of the path that exists as it is written is no pattern. ``*`` and ``?`` match no hidden
    name. Brackets that match nothing are taken as characters.
    """
    if _exists(path):
        return [path]
    parts = path.split("/")
    fixed = next((i for i, part in enumerate(parts) if is_pattern(part)), None)
    if fixed is None:
        return []
    found = ["/".join(parts[:fixed]) + "/" if fixed else ""]
    for part in parts[fixed:]:
        found = [f"{base}{name}/" for base in found for name in _matches(base, part)]
    return sorted(name for name in (name.rstrip("/") for name in found) if _exists(name))


def _matches(base: str, part: str) -> list[str]:
    """Names in a folder ("" or with a slash at its end) that match a part of a pattern."""
    if not is_pattern(part) or _exists(base + part):
        return [part]
    names = [name for name in list_names(base or ".") if part[0] == "." or name[0] != "."]
    pattern = part.replace("[^", "[!")
    return fnmatch.filter(names, pattern) or fnmatch.filter(names, part.replace("[", "[[]"))


def list_names(folder: str) -> list[str]:
    """Names in a local or remote folder, sorted; none where there is no such folder."""
    if not _is_remote(folder):
        try:
            return sorted(os.listdir(folder))
        except OSError:
            return []
    import tensorflow as tf

    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except tf.errors.OpError:
        return []


def _exists(path: str) -> bool:
    if not _is_remote(path):
        return os.path.exists(path)
    import tensorflow as tf

    # A folder of an object store exists by what is in it only.
    return tf.io.gfile.exists(path) or tf.io.gfile.isdir(path)


def _is_remote(path: str) -> bool:
    return "://" in path


def shown(text: str | os.PathLike) -> str:
    r"""Formats a path (or another string) for messages, with ``\xe9`` for a byte that is not UTF-8.

    Any terminal of UTF-8 and any file takes it. It is no name to open a file by.
    """
    escaped = _ESCAPED_BYTE.sub(lambda m: f"\\x{ord(m[0]) - 0xDC00:02x}", os.fspath(text))
    return escaped.encode("utf-8", "backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """Whether a string can be written as UTF-8; names and arguments with other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def readable_by_tensorflow(path: str | os.PathLike) -> Iterator[str]:
    """Yields a path under which TensorFlow reads a checkpoint or SavedModel of any name.

    TensorFlow takes the prefix of a checkpoint (and so the folder of a SavedModel) for a pattern
    and has no escape that all its readers support: from ``runs/a[1]`` it reads nothing, or
    what lies in ``runs/a1``. Such names are read through links with plain names, which exist
    as long as the context.

    Args:
        path: Prefix of a checkpoint, or a folder.
    """
    text = os.fspath(path)
    if _is_remote(text) or (not _TENSORFLOW_MAGIC.search(text) and is_utf8(text)):
        yield text
        return
    links = tempfile.mkdtemp(prefix="vatt_tf_")
    try:
        link = os.path.join(links, "1")  # a version folder has a number as its name
        if os.path.isdir(text):
            os.symlink(os.path.abspath(text), link)
        else:
            for file in checkpoint_files(text):
                os.symlink(os.path.abspath(file), link + file[len(text) :])
        yield link
    finally:
        shutil.rmtree(links, ignore_errors=True)  # the links, not what they lead to


def checkpoint_files(prefix: str) -> list[str]:
    """Index and data files of a TensorFlow checkpoint, sorted with the index last."""
    folder, name = os.path.split(prefix)
    kept = re.compile(re.escape(name) + r"\.(index|data-\d+-of-\d+)")
    return [
        os.path.join(folder, file) for file in list_names(folder or ".") if kept.fullmatch(file)
    ]
