"""What the dataset definitions share: official files, media files by name, rows of the plan."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vatt_tf.data.lists.columns import column_names, normal_name, refuse_slips
from vatt_tf.data.lists.manifest import Row, Rows
from vatt_tf.data.lists.tables import (
    Reader,
    TableError,
    check_width,
    choose_separator,
    read_table_text,
    split_lines,
)
from vatt_tf.data.media.scan import MEDIA_SUFFIXES, scan
from vatt_tf.data.prepare.plan import PlanError
from vatt_tf.data.text.files import TextFileError, read_text
from vatt_tf.data.transcripts.store import Recogniser


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a definition makes of the original files.

    Attributes:
        name: Name of the data set.
        fold: Fold or official split number; 0 for a data set without.
        rows: Clips with split, labels and captions, and what is missing.
        labels: Official classes in index order; empty for a retrieval set.
        captions: Gives the videos their timed captions where one file has those of all.
    """

    name: str
    fold: int
    rows: Rows
    labels: tuple[str, ...]
    captions: Recogniser | None = None


class Originals:
    """The original files of a data set, and the rows that are made of them.

    Args:
        videos: Folder of the media files.
        annotations: Folder of the official annotation files.
        media: What is looked for: a key of ``scan.MEDIA_SUFFIXES``.
        fold: Fold or official split number.
    """

    def __init__(
        self, videos: str | os.PathLike, annotations: str | os.PathLike, media: str, fold: int
    ):
        self.videos, self.annotations = pathlib.Path(videos), pathlib.Path(annotations)
        self.media, self.fold = media, fold
        self.captions: Recogniser | None = None
        self.rows = Rows([], [], [], source=str(self.annotations))
        for flag, folder in (("videos", self.videos), ("annotations", self.annotations)):
            if not folder.is_dir():
                raise PlanError(f"--{flag}={folder}: no such folder")

    @functools.cached_property
    def files(self) -> list[str]:
        """Media files below the videos folder, relative to it, sorted."""
        return scan(self.videos, MEDIA_SUFFIXES[self.media], self.rows.quarantine)[0]

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Files by stem and by ``folder/stem``."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            stem = os.path.splitext(file)[0]
            for name in {"/".join(stem.split("/")[-n:]) for n in (1, 2)}:
                found.setdefault(name, []).append(file)
        return found

    def find(self, *stems: str) -> str | None:
        """The file with the first of these names (``stem`` or ``folder/stem``) that there is."""
        for stem in stems:
            files = self._by_name.get(stem)
            if files:
                if len(files) > 1:
                    note = f"the first of {len(files)} files that are called {stem} is used"
                    self.rows.warnings.append({"file": files[0], "warning": note})
                return files[0]
        return None

    def add(
        self,
        file: str | None,
        split: str,
        labels: Sequence[str] = (),
        *,
        name: str = "",
        span: tuple[float, float] | None = None,
        captions: Sequence[str] = (),
        line: int = 0,
    ) -> None:
        """Adds a row, or notes that the file of ``name`` is not there."""
        if file is None:
            reason = f"no such file below {self.videos} (line {line} of the annotations)"
            self.rows.quarantine.append({"file": name, "reason": reason})
            return
        start, end = span or (None, None)
        self.rows.rows.append(Row(file, start, end, split, list(labels), list(captions), line))

    def official(self, names: Sequence[str], holds: str) -> pathlib.Path:
        """The first of several official files that there is.

        Raises:
            PlanError: There is none; ``holds`` says what it should hold.
        """
        path = self.optional(names)
        if path is None:
            raise PlanError(
                f"{self.annotations}: no {' or '.join(names)} there; this official file holds "
                f"{holds}. Download it and give its folder with --annotations=DIR"
            )
        return path

    def optional(self, names: Sequence[str]) -> pathlib.Path | None:
        """The first of several files in the annotations folder that there is, or None."""
        paths = (self.annotations / name for name in names)
        return next((path for path in paths if path.is_file()), None)


@dataclasses.dataclass(frozen=True)
class Definition:
    """A data set: how its original files become clips.

    Attributes:
        name: Value of ``--dataset``.
        media: ``video``, ``audio`` or ``image``.
        settings: Recommended settings of ``prepare`` that differ from its defaults.
        read: Fills the rows of ``Originals`` and returns the official classes in index order.
        needs: Official files and the layout of the media files, for ``--list_datasets``.
        protocol: Splits and how the data set is evaluated.
        folds: Number of folds or official splits; 0: there is one.
    """

    name: str
    media: str
    settings: Mapping[str, Any]
    read: Callable[[Originals], Sequence[str]]
    needs: str
    protocol: str
    folds: int = 0

    def layout(
        self,
        videos: str | os.PathLike,
        annotations: str | os.PathLike | None = None,
        fold: int | None = None,
        media: str | None = None,
    ) -> Layout:
        """Reads the official files.

        Args:
            videos: Folder of the media files.
            annotations: Folder of the official files; None: the videos folder.
            fold: Fold or split number; None: 1.
            media: Another kind of files than ``self.media``.

        Raises:
            PlanError: No such folder, a missing or damaged official file, no such fold, no clip.
        """
        if fold is not None and not 1 <= fold <= self.folds:
            expected = f"1 to {self.folds}" if self.folds else "none: it has one split"
            raise PlanError(f"--fold={fold} of {self.name}: expected {expected}")
        number = (fold or 1) if self.folds else 0
        originals = Originals(videos, annotations or videos, media or self.media, number)
        labels = tuple(self.read(originals))
        if not originals.rows.rows:
            lacking = "; ".join(entry["file"] for entry in originals.rows.quarantine[:5])
            raise PlanError(
                f"--videos={videos}: no file of {self.name} there"
                f"{f' (looked for {lacking} ...)' if lacking else ''}; expected: {self.needs}"
            )
        return Layout(self.name, number, originals.rows, labels, originals.captions)


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file.

    Raises:
        PlanError: It cannot be read.
    """
    try:
        return read_text(path)[0].splitlines()
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
    except TextFileError as error:
        raise PlanError(str(error)) from error


def read_table(
    path: pathlib.Path,
    columns: Sequence[str],
    *,
    header: bool = True,
    optional: Sequence[str] = (),
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, fields by name) of a CSV; comment lines are skipped.

    A comment begins with a hash and a space: files of HMDB51 are called ``#20_Rhythm...``.

    Args:
        path: CSV file.
        columns: Columns that are needed; without a header: the names of the first columns.
        header: Whether the first line names the columns; their case does not count.
        optional: Further columns; without a header: those behind ``columns``.

    Raises:
        PlanError: It cannot be read or lacks a column; a quote is not closed in its line; a line
            has more or fewer fields than there are columns; a column comes twice.
    """
    try:
        yield from _records(path, columns, optional, header)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
    except TableError as error:
        raise PlanError(f"{path} line {error.line}: {error.reason}") from error
    except TextFileError as error:
        raise PlanError(str(error)) from error


def _records(
    path: pathlib.Path, columns: Sequence[str], optional: Sequence[str], header: bool
) -> Iterator[tuple[int, dict[str, str]]]:
    lines = split_lines(read_table_text(path)[0])
    names, separator, at = [*columns, *optional], ",", 0
    if header:
        known = {normal_name(name) for name in columns}
        separator, at, first = choose_separator(lines, lambda name: normal_name(name) in known)
        names = [] if first is None else column_names(first, [*columns, *optional])
        missing = [name for name in columns if name not in names]
        if missing:
            raise TableError(
                first.line if first else 1,
                f"no column '{missing[0]}' in its first line; found {names}, expected "
                f"{','.join(columns)}",
            )
        assert first is not None
        absent = [name for name in optional if name not in names]
        refuse_slips(first.line, [n for n in names if n not in columns], absent, {})
    least = len(columns) if not header else max(names.index(name) for name in columns) + 1
    for record in Reader(lines, separator, at):
        if not any(record.fields):
            continue
        for line in record.breaks.values():
            raise TableError(line, "a quote opens here and is not closed in its line")
        check_width(record, names, separator)
        if len(record.fields) < least:
            raise TableError(
                record.line,
                f"{len(record.fields)} fields, expected {len(names)} ({','.join(names)})",
            )
        yield record.line, dict(zip(names, record.fields, strict=False))


class Once:
    """Values by a key that a list may name once.

    Args:
        path: The list.
        what: What the keys are, for messages.
    """

    def __init__(self, path: pathlib.Path, what: str):
        self._path, self._what = path, what
        self._lines: dict[Any, int] = {}
        self.values: dict[Any, str] = {}

    def add(self, key: Any, value: str, line: int) -> None:
        """Adds a value.

        Raises:
            PlanError: The key was added before.
        """
        if key in self._lines:
            raise PlanError(
                f"{self._path} line {line}: the {self._what} '{key}' stands in line "
                f"{self._lines[key]} already; expected one line for each"
            )
        self._lines[key], self.values[key] = line, value


def read_object(path: pathlib.Path, key: str) -> Any:
    """The value of a key of a JSON file.

    Raises:
        PlanError: It is not JSON or lacks the key.
    """
    try:
        return json.loads("\n".join(read_lines(path)))[key]
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{path}: not a JSON object with the key '{key}'") from error


def seconds(text: str, where: str) -> float:
    """A time.

    Raises:
        PlanError: It is no finite number.
    """
    try:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    except ValueError:
        raise PlanError(f"{where}: '{text}' where seconds were expected") from None
