"""Atomic files and folders: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from vatt_tf.errors import UserError


@contextlib.contextmanager
def new_file(
    path: str | os.PathLike, *, suffix: str = "", durable: bool = False
) -> Iterator[pathlib.Path]:
    """Yields a temporary name whose file replaces ``path`` when the block ends.

    An earlier file of the name is replaced. If the block fails, the temporary file is removed and
    the earlier one stays.

    Args:
        path: The file; its folder is made if it is not there.
        suffix: End of the temporary name, for writers that choose a format by it.
        durable: Whether the content reaches the disk before the rename, so that it also survives a
            power cut.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}{suffix}")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary name whose folder becomes ``path``, which must not exist yet.

    Raises:
        UserError: If it exists.
    """
    path = pathlib.Path(path)
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; choose another folder or remove it")
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes bytes to a file, atomically."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8, atomically. A lone surrogate (a byte of a file name) becomes its escape."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike, data: Any, *, indent: int = 1, **options: Any) -> None:
    """Writes JSON, atomically.

    Args:
        path: The file.
        data: What ``json.dumps`` takes.
        indent: Blanks for each level.
        **options: Of ``json.dumps``.
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False, **options)
    write_text(path, f"{text}\n")


def read_json(path: str | os.PathLike) -> Any | None:
    """Reads JSON; None where the file is missing or truncated."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
