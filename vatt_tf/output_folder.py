"""Lists of the files that commands wrote into a folder; they replace and remove no others.

    FOLDER/.vatt_tf/<command>.json   {"format": 1, "files": ["manifest.json", "train/", ...]}

A name is listed before its file is written, so that a file that a killed process left behind is
listed too. A name that ends in "/" is a folder that the command made.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vatt_tf.atomic import read_json, write_json
from vatt_tf.errors import UserError

# Marks at the beginning of single files of the package, which distinguish them from others.
PAGE_MARK = '<meta name="generator" content="vatt_tf">'
JSON_MARK = '"written_by": "vatt_tf"'

LISTS = ".vatt_tf"  # folder of the lists, one file per command
FORMAT = 1
_SHOWN = 5
_HEAD_BYTES = 4096
# As ``vatt_tf.atomic.new_file`` names them.
_TEMPORARY = re.compile(r"^(.+?)\.tmp(-\d+(\.[a-z0-9.]+)?)?$")


class OutputFolder:
    """Files of a command in a folder that a user named.

    Args:
        path: The folder; it need not exist.
        command: Name of the command: ``prepare``, ``train``, ...
        flag: Flag that named the folder, for messages.

    Raises:
        UserError: The path is a file, or a list is damaged.
    """

    def __init__(self, path: str | os.PathLike, command: str, flag: str = "--out") -> None:
        self.path = pathlib.Path(path)
        self._command, self._flag = command, flag
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{flag}={path}: is a file, expected a folder")
        self._own: set[str] = set()
        self._others: set[str] = set()
        lists = self.path / LISTS
        for file in sorted(lists.glob("*.json")) if lists.is_dir() else ():
            names = _read_list(file)
            (self._own if file.stem == command else self._others).update(names)

    def __contains__(self, name: str) -> bool:
        """Whether a command of this package wrote the file, or made the folder (``name/``)."""
        return name in self._own or name in self._others

    def __bool__(self) -> bool:
        """Whether this command has written here before."""
        return bool(self._own)

    @property
    def names(self) -> list[str]:
        """Names that this command wrote, sorted."""
        return sorted(self._own)

    def adopt(self, names: Iterable[str]) -> None:
        """Lists existing files of an earlier version, which kept no list, as the command's own."""
        for name in names:
            if (self.path / name).exists():
                self._own |= {name, *_folders(name)}

    def foreign(self, names: Iterable[str]) -> list[str]:
        """Returns those of ``names`` and their folders that exist and are not listed.

        An empty folder belongs to nobody.
        """
        found: dict[str, None] = {}
        for name in names:
            for part in dict.fromkeys((*_folders(name), name)):  # the top folder first
                path = self.path / part
                if not os.path.lexists(path):
                    continue
                # A folder under the name of a listed file, or the reverse, is somebody else's.
                if part in self and path.is_dir() == part.endswith("/"):
                    continue
                if not part.endswith("/") or not path.is_dir() or any(path.iterdir()):
                    found[part] = None
                    break
        return list(found)

    def check(self, names: Iterable[str]) -> None:
        """Checks that no other file has these names.

        Raises:
            UserError: Files or folders of these names are here that no command listed.
        """
        taken = self.foreign(names)
        if taken:
            raise UserError(
                f"{self._flag}={self.path}: holds {listed(taken)}, which vatt_tf.{self._command} "
                "would have to write and did not make; nothing was changed. Give another folder, "
                "or move this away"
            )

    def claim(self, names: Iterable[str]) -> None:
        """Adds files that are going to be written to the list.

        Args:
            names: Paths relative to the folder, with forward slashes; folders end in "/".

        Raises:
            UserError: As :meth:`check`; nothing is listed then.
        """
        names = list(names)
        self.check(names)
        new = {part for name in names for part in (name, *_folders(name))} - self._own
        if new or not self._file.exists():
            self._own |= new
            self._save()

    def remove(self, names: Iterable[str]) -> None:
        """Removes files that this command listed, and the folders it made once they are empty."""
        gone = {name for name in names if name in self._own}
        for name in gone:
            if not name.endswith("/"):
                (self.path / name).unlink(missing_ok=True)
        folders = {folder for name in gone for folder in _folders(name)}
        # A folder stays while a listed file may still be written into it.
        folders -= {folder for name in self._own - gone - folders for folder in _folders(name)}
        for folder in sorted(folders & self._own, key=len, reverse=True):
            path = self.path / folder
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
                gone.add(folder)
        if gone:
            self._own -= {name for name in gone if not (self.path / name).exists()}
            self._save()

    def remove_temporary(self) -> None:
        """Removes ``NAME.tmp-PID`` of listed files, partial files of a killed process."""
        folders = {pathlib.PurePosixPath(name).parent for name in self._own if name[-1] != "/"}
        for folder in folders:
            place = self.path / folder
            for path in place.iterdir() if place.is_dir() else ():
                base = _TEMPORARY.match(path.name)
                if base and (folder / base[1]).as_posix() in self._own and path.is_file():
                    path.unlink(missing_ok=True)

    @property
    def _file(self) -> pathlib.Path:
        return self.path / LISTS / f"{self._command}.json"

    def _save(self) -> None:
        try:
            write_json(self._file, {"format": FORMAT, "files": self.names})
        except OSError as error:
            reason = error.strerror
            raise UserError(f"{self._flag}={self.path}: cannot be written: {reason}") from error


def check_replaceable(path: str | os.PathLike, flag: str) -> None:
    """Checks that an existing file of a user's choice was written by this package.

    Args:
        path: Page (.html) or JSON file that is going to be written.
        flag: Flag that named the file, for the message.

    Raises:
        UserError: Something else is there.
    """
    path = pathlib.Path(path)
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise UserError(f"{flag}={path}: is a folder, expected the name of a file")
    mark = PAGE_MARK if path.suffix == ".html" else JSON_MARK
    try:
        with open(path, "rb") as file:
            ours = mark.encode() in file.read(_HEAD_BYTES)
    except OSError:  # a dangling link counts as a file of somebody else
        ours = False
    if not ours:
        raise UserError(
            f"{flag}={path}: exists already and was not written by this command; nothing was "
            "changed. Give another name, or move this file away"
        )


def marked(content: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the mark that ``check_replaceable`` recognises to JSON content."""
    return {"written_by": "vatt_tf", **content}


def replace_folder(new: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Replaces a folder by a new one of the same command.

    Files of the older one that the new one also has are removed; all others belong to somebody else
    and move into the new folder. A kill in between leaves the older one as ``.NAME.old``
    (:func:`restore_folder`).
    """
    new, folder = pathlib.Path(new), pathlib.Path(folder)
    old = _old(folder)
    if folder.exists():
        if old.exists():  # a kill came before its files could move
            _merge(old, folder)
        folder.rename(old)
    new.rename(folder)
    if old.exists():
        _merge(old, folder)


def restore_folder(folder: str | os.PathLike) -> None:
    """Restores a folder that a kill in :func:`replace_folder` left without its name."""
    folder = pathlib.Path(folder)
    old = _old(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def _old(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f".{folder.name}.old")


def _merge(old: pathlib.Path, folder: pathlib.Path) -> None:
    """Moves files that ``folder`` lacks from ``old`` into it, and removes the rest."""
    for path in sorted(old.rglob("*"), reverse=True):  # a folder after what lies in it
        target = folder / path.relative_to(old)
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                target.mkdir(parents=True, exist_ok=True)
                path.rmdir()
        elif os.path.lexists(target):
            path.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    old.rmdir()


def listed(names: Sequence[str]) -> str:
    """Formats names for a message, shortened."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _folders(name: str) -> list[str]:
    """Folders above a name, the top one first: ``a/b/c`` -> ``a/``, ``a/b/``."""
    parts = name.rstrip("/").split("/")
    above = ["/".join(parts[:count]) + "/" for count in range(1, len(parts))]
    return [*above, name] if name.endswith("/") else above


def _read_list(file: pathlib.Path) -> list[str]:
    content = read_json(file)
    names = content.get("files") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"{file}: is damaged; it lists what the command wrote there. Delete it to have the "
            "files of the folder count as yours, which no command replaces"
        )
    return names
