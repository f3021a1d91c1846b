"""FLV recordings joined as they are (``cat a.flv b.flv``): read as one, without inner headers.

FFmpeg takes an inner header for a packet and ends there without a word.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import mmap
import os
import re

# Signature, version, which streams there are, length of the header, length of the tag before it.
_HEADER = re.compile(rb"FLV\x01[\x00-\x05]\x00\x00\x00\x09\x00\x00\x00\x00")
_BYTES = 13


def inner_headers(path: str | os.PathLike) -> tuple[int, ...]:
    """Offsets of the headers within a file that begins with one; none for other kinds of files.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        if not _HEADER.match(file.read(_BYTES)):
            return ()
    facts = os.stat(path)
    return _inner_headers(os.fspath(path), facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # picture and sound of a file ask for the same ones
def _inner_headers(path: str, _size: int, _changed: int) -> tuple[int, ...]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return tuple(found.start() for found in _HEADER.finditer(data, 1))


class JoinedFile:
    """The bytes of a file without those of its inner headers, for ``av.open``.

    Args:
        path: File.
        headers: Offsets of what is left out.
    """

    def __init__(self, path: str | os.PathLike, headers: tuple[int, ...]):
        self.name = os.fspath(path)
        self._file = open(path, "rb")  # noqa: SIM115 - lives as long as the container
        starts = [0, *(header + _BYTES for header in headers)]
        ends = [*headers, os.fstat(self._file.fileno()).st_size]
        self._parts = list(zip(starts, ends, strict=True))
        sizes = (end - start for start, end in self._parts)
        *self._firsts, self._size = itertools.accumulate(sizes, initial=0)
        self._at = 0

    def read(self, count: int) -> bytes:
        """At most so many bytes; none at the end."""
        part = bisect.bisect_right(self._firsts, self._at) - 1
        start, end = self._parts[part]
        begin = start + self._at - self._firsts[part]
        self._file.seek(begin)
        data = self._file.read(min(count, max(0, end - begin)))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place among the bytes that are left."""
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}
        self._at = offset + origins[whence]
        return self._at

    def tell(self) -> int:
        """The place among the bytes that are left."""
        return self._at

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
