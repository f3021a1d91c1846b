"""Text files from outside: regular, of a limited size, decoded or refused with a reason."""

from __future__ import annotations

import os
import pathlib
import re
import stat
from collections.abc import Iterator

from vatt_tf.errors import UserError

MOST_BYTES = 2**30  # of a list or a table, which takes some times its size in memory
_LINE_END = re.compile(r"\r{0,2}\n|\r")  # twice: text that was converted twice


class TextFileError(UserError):
    """A file that is no text, or too large; the message names it."""


def read_bytes(path: str | os.PathLike, most: int = MOST_BYTES, *, pipes: bool = True) -> bytes:
    """Reads a file of at most ``most`` bytes.

    Args:
        path: The file.
        most: Largest size that is read.
        pipes: Whether it may be a pipe, as a shell gives for ``<(command)``; a pipe found in a
            folder may never end, or never begin.

    Raises:
        OSError: It cannot be read.
        TextFileError: It is larger, or no regular file.
    """
    state = os.stat(path)
    regular = stat.S_ISREG(state.st_mode)
    if not (regular or (pipes and stat.S_ISFIFO(state.st_mode))):
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(21, "is a folder", path)
        raise TextFileError(f"{path}: is a pipe or a device, expected a regular file")
    if not regular or state.st_size <= most:
        with open(path, "rb") as file:
            data = file.read(most + 1)
        if len(data) <= most:
            return data
    found = f"{state.st_size / 2**20:,.0f} MiB" if regular else "more"
    raise TextFileError(f"{path}: holds {found}, expected at most {most / 2**20:,.0f} MiB")


def decode_text(data: bytes, name: str) -> tuple[str, list[str]]:
    """Decodes bytes as UTF-8 (or UTF-16 with a byte order mark), else as Windows-1252.

    Returns:
        The text, and a note where it is not UTF.

    Raises:
        TextFileError: It is no text.
    """
    notes = []
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = data.decode("utf-16")
        else:
            text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise TextFileError(f"{name}: broken UTF-16 text: {error.reason}") from error
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        notes = [
            f"{name} line {line}: byte 0x{byte:02x} is not UTF-8; the file is read as Windows-1252"
        ]
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:  # also UTF-32, and UTF-16 in which bytes are missing
        raise TextFileError(f"{name}: holds zero bytes, so it is not a text file")
    return text.lstrip("\ufeff"), notes


def read_text(
    path: pathlib.Path, most: int = MOST_BYTES, *, pipes: bool = True
) -> tuple[str, list[str]]:
    """:func:`read_bytes` and :func:`decode_text`."""
    return decode_text(read_bytes(path, most, pipes=pipes), path.name)


def iter_lines(text: str) -> Iterator[str]:
    """Lines by line feeds and carriage returns only: a caption may hold other separators."""
    start = 0
    for end in _LINE_END.finditer(text):
        yield text[start : end.start()]
        start = end.end()
    yield text[start:]
