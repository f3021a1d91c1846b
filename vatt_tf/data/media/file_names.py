"""One name for each file, by whatever links, ``..`` or separators a list leads to it."""

from __future__ import annotations

import os
import pathlib
import stat
import unicodedata
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from vatt_tf.data.media.scan import is_hidden


class FoundFile(NamedTuple):
    """A file that is there.

    Attributes:
        name: Path relative to the videos folder, with forward slashes; as written when the file
            lies outside of it and no link in the folder leads there.
        path: Path to open.
        state: Size and times.
        identity: The same for every name of the file, hard links included.
    """

    name: str
    path: str
    state: os.stat_result
    identity: Hashable


class FileNames:
    """Names the files of a videos folder.

    Links are resolved once for each folder, so that a file costs one call of the system.

    Args:
        root: The videos folder.
        names: Files found by a search of it. They name the folders to which links lead out of it.
    """

    def __init__(self, root: str | os.PathLike[str], names: Iterable[str] = ()):
        self._root = str(pathlib.Path(root).absolute())
        self._real_root = os.path.realpath(self._root)
        # As written: real path, name, and whether the name leads there from the videos folder.
        self._folders: dict[str, tuple[str, str, bool]] = {}
        self._linked: dict[str, str] = {}  # real path of a folder outside: its first name
        for folder in dict.fromkeys(os.path.dirname(name) for name in names):
            real = os.path.realpath(os.path.join(self._root, folder))
            self._linked.setdefault(real, folder)

    def find(self, written: str) -> FoundFile:
        """The file that a list or a search names.

        Args:
            written: Relative to the videos folder, or absolute. Backslashes are separators, and
                Unicode forms are tried, when there is no file of the literal name.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        try:
            return self._find(written)
        except FileNotFoundError:
            slashes = written.replace("\\", "/")
            forms = (slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")))
            for other in dict.fromkeys(forms):
                if other != written:
                    try:
                        return self._find(other)
                    except FileNotFoundError:
                        pass
            raise

    def rename(self, name: str) -> str:
        """The name of a file that need not exist, by the links of its folder."""
        folder, base = os.path.split(name)
        return _join(self._folder(folder)[1], base)

    def _find(self, written: str) -> FoundFile:
        folder, base = os.path.split(written)
        if base in ("", ".", ".."):
            raise IsADirectoryError(21, "is a folder", written)
        real_folder, name, inside = self._folder(folder)
        path, real = os.path.join(self._root, folder, base), os.path.join(real_folder, base)
        state = os.lstat(path)
        name = _join(name, base)
        if stat.S_ISLNK(state.st_mode):
            state, real = os.stat(path), os.path.realpath(path)
            target = self._inside(real)
            if target is not None and _suffix(target) == _suffix(base):
                name, inside = target, True
        identity = (state.st_dev, state.st_ino) if state.st_nlink > 1 else real
        if inside:
            path = os.path.join(self._root, name)
        return FoundFile(name, path, state, identity)

    def _folder(self, written: str) -> tuple[str, str, bool]:
        if written not in self._folders:
            real = os.path.realpath(os.path.join(self._root, written))
            name = self._inside(real)
            if name is None:
                name = self._linked.get(real)
            inside = name is not None
            if name is None:
                name = os.path.relpath(real, self._real_root)
                inside = name != ".." and not name.startswith("../")  # a hidden folder
                if not inside and ".." not in pathlib.PurePath(written).parts:
                    name = written
            self._folders[written] = real, pathlib.PurePath(name).as_posix(), inside
        return self._folders[written]

    def _inside(self, real: str) -> str | None:
        """A real path relative to the videos folder; None when no search of it would get there."""
        if real == self._real_root:
            return ""
        start = self._real_root.rstrip(os.sep) + os.sep
        inside = real[len(start) :] if real.startswith(start) else ""
        if not inside or any(map(is_hidden, inside.split(os.sep))):
            return None
        return inside


def _join(folder: str, base: str) -> str:
    return base if folder in ("", ".") else f"{folder}/{base}"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
