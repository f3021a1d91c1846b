"""Whether files are what they were."""

from __future__ import annotations

import hashlib
import os
import pathlib


def digests(folder: str | os.PathLike) -> dict[pathlib.Path, str]:
    """Path -> hash of every file below a folder."""
    files = (path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file())
    return {path: _digest(path) for path in files}


def unchanged(before: dict[pathlib.Path, str]) -> bool:
    """Whether the files of before are all there with the same bytes; others may have come."""
    return all(path.is_file() and _digest(path) == digest for path, digest in before.items())


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
