"""The manifest CSV that a user writes, and the manifest.json that a shards folder carries."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from typing import Any

from vatt_tf.data.lists.columns import (
    SYNONYMS,
    column_names,
    meant_column,
    normal_name,
    refuse_slips,
)
from vatt_tf.data.lists.tables import (
    SEPARATORS,
    Reader,
    Record,
    TableError,
    check_width,
    choose_separator,
    read_table_text,
    shorten,
    some_lines,
    split_lines,
)
from vatt_tf.data.media.captions import MOST_SECONDS, parse_time
from vatt_tf.data.media.scan import MEDIA_SUFFIXES
from vatt_tf.data.shards.labels import look_alikes, normal_label
from vatt_tf.data.text.files import TextFileError
from vatt_tf.errors import UserError

MANIFEST_FORMAT = 1
COLUMNS = ("path", "start", "end", "label", "caption", "split")
# What training and evaluation look for in a data set.
USUAL_SPLITS = ("train", "val", "valid", "validation", "test")
_SPLIT = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_RESERVED = {"clips", "tokenizer", "transcripts", "videos"}  # other folders beside the splits
_MEDIA_SUFFIXES = frozenset(suffix for each in MEDIA_SUFFIXES.values() for suffix in each)


class ManifestError(UserError):
    """A manifest that cannot be read."""


@dataclasses.dataclass
class Row:
    """One or more lines of a manifest CSV that name the same span of the same video.

    Attributes:
        path: As written.
        start: Seconds, or None when the line names the whole video.
        end: Seconds, or None for the end of the video.
        split: ``train`` when the line names none.
        labels: Class names.
        captions: Texts of the span.
        line: Line number in the CSV.
    """

    path: str
    start: float | None
    end: float | None
    split: str
    labels: list[str]
    captions: list[str]
    line: int


@dataclasses.dataclass
class Rows:
    """A manifest CSV: its rows, the lines that are no use, and what was mended.

    Attributes:
        rows: The spans.
        quarantine: Lines that are no use, with the reason.
        warnings: What was mended or ignored.
        columns: Known columns of the header, in the order of ``COLUMNS``; empty for the lists of
            a public data set.
        source: File name of the list, for messages.
    """

    rows: list[Row]
    quarantine: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    columns: tuple[str, ...] = ()
    source: str = ""


def read_rows(path: str | os.PathLike) -> Rows:
    """Reads ``path,start,end,label,caption,split`` (only ``path`` is needed; others are ignored).

    Names of columns and splits are read without regard to case. Commas, semicolons or tabs
    separate the columns, as in the header.

    Raises:
        ManifestError: The file cannot be read, has no ``path`` column or no line, or its columns
            are in doubt: a quote that is not closed, a line with more fields than the header, a
            column that comes twice or is nearly a known one.
    """
    path = pathlib.Path(path)
    try:
        text, notes = read_table_text(path)
        lines = split_lines(text)
        separator, at, header = choose_separator(lines, lambda name: normal_name(name) in COLUMNS)
        if header is None:
            raise TableError(1, f"the file is empty, expected the header {','.join(COLUMNS)}")
        names = _columns(header, separator)
        found = _Found(path.name, names, [{"file": path.name, "warning": note} for note in notes])
        ignored = [name or f"{index} (no name)" for index, name in enumerate(names, 1)]
        ignored = [name for name in ignored if name not in COLUMNS]
        if ignored:
            found.note(header.line, f"not read: the column {', '.join(ignored)}")
        reader = Reader(lines, separator, at)
        for record in reader:
            if any(record.fields):
                _check(record, names, separator)
                found.take(record)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    except TableError as error:
        raise ManifestError(f"{path} line {error.line}: {error.reason}") from error
    except TextFileError as error:
        raise ManifestError(str(error)) from error
    if not found.rows and not found.quarantine:
        raise ManifestError(f"{path}: holds no line below its header")
    found.finish(reader.comments)
    columns = tuple(name for name in COLUMNS if name in names)
    return Rows(list(found.rows.values()), found.quarantine, found.warnings, columns, path.name)


def _columns(header: Record, separator: str) -> list[str]:
    """The columns of the header; raises TableError when one is in doubt."""
    names = column_names(header, COLUMNS)
    for name in names:
        for other in SEPARATORS:
            if (
                other in name
                and other != separator
                and normal_name(name.split(other)[0]) in COLUMNS
            ):
                raise TableError(
                    header.line, f"'{name}' is not the name of a column; expected one separator"
                )
    if "path" not in names:
        hint = ""
        meant = [n for n in names if meant_column(n, names, COLUMNS, SYNONYMS) == "path"]
        parts = [part.strip() for name in names for part in re.split("[,;\t]", name)]
        if any(os.path.splitext(part)[1] in _MEDIA_SUFFIXES for part in parts):
            hint = f": the list begins without a header; put {','.join(COLUMNS)} in front"
        elif meant:
            hint = f": rename '{meant[0]}' to 'path'"
        raise TableError(
            header.line,
            f"no column 'path' in its first line; found the columns {names}, expected "
            f"{','.join(COLUMNS)} (only 'path' is needed){hint}",
        )
    refuse_slips(header.line, names, COLUMNS, SYNONYMS)
    return names


def _check(record: Record, names: list[str], separator: str) -> None:
    """Raises TableError when the values of a record are not those of its columns."""
    check_width(record, names, separator)
    at = names.index("path")
    name = record.fields[at].lower() if at < len(record.fields) else ""
    if name in COLUMNS and (
        name == "path" or all(normal_name(value) in COLUMNS for value in record.fields if value)
    ):
        raise TableError(record.line, "the header comes again; expected one list with one header")
    for index in record.stray:
        if index < len(names) and names[index] in COLUMNS and names[index] != "caption":
            raise TableError(
                record.line,
                f"{names[index]} is {record.fields[index]}: one quote without another; put the "
                "whole field in quotes or remove it",
            )
    for index, line in record.breaks.items():
        name = names[index] if index < len(names) else ""
        if name in COLUMNS and name != "caption":
            raise TableError(
                line, f"a quote opens in the column '{name}' and closes in a later line"
            )
        swallowed = _swallowed(record.fields, index, at, separator)
        if swallowed:
            raise TableError(
                line,
                f"a quote opens in the column '{name}' and closes in a later line, behind what "
                f"looks like another row ({shorten(swallowed)}); close it in its line",
            )


def _swallowed(fields: list[str], index: int, path: int, separator: str) -> str:
    """A line inside a field that looks like a row of its own; "" when there is none."""
    first, *others = fields[index].split("\n")
    for text in (separator.join([*fields[:index], first]) if path > index else "", *others):
        values = [value.strip(' \t"') for value in text.split(separator)]
        if max(path, 1) < len(values) and (
            os.path.splitext(values[path])[1].lower() in _MEDIA_SUFFIXES
        ):
            return text
    return ""


class _Found:
    """What was read so far of a manifest CSV."""

    def __init__(self, name: str, columns: list[str], warnings: list[dict[str, Any]]):
        self.name, self.warnings = name, warnings
        self.rows: dict[tuple, Row] = {}
        self.quarantine: list[dict[str, Any]] = []
        self._columns = columns
        self._held: dict[tuple, set[str]] = {}  # texts of the spans that come again
        self._short: list[int] = []  # lines with fewer fields than the header
        self._splits: dict[str, list[int]] = {}  # lines of the splits with an odd name
        self._spellings: dict[str, dict[str, int]] = {}  # label, as written, first line

    def note(self, line: int, text: str) -> None:
        self.warnings.append({"file": self.name, "warning": f"{self.name} line {line}: {text}"})

    def take(self, record: Record) -> None:
        values = dict(zip(self._columns, record.fields, strict=False))
        try:
            row = _row(values, record.line)
        except ValueError as error:
            reason = f"{self.name} line {record.line}: {error}"
            self.quarantine.append({"file": values.get("path") or self.name, "reason": reason})
            return
        if len(record.fields) < len(self._columns):
            self._short.append(record.line)
        if row.split not in USUAL_SPLITS:
            self._splits.setdefault(row.split, []).append(record.line)
        for label in row.labels:
            self._spellings.setdefault(label, {}).setdefault(values["label"], record.line)
        span = row.path, row.start, row.end, row.split
        first = self.rows.setdefault(span, row)
        if first is not row:
            held = self._held.setdefault(span, set(first.captions))
            _merge(first, row, held, self.name, self.warnings)

    def finish(self, comments: list[int]) -> None:
        """Adds what only shows when all rows are read."""
        if comments:
            self._note_lines(comments, "left out as a comment (begins with '# ')")
        if self._short:
            self._note_lines(
                self._short,
                f"fewer fields than the {len(self._columns)} of the header; the last ones are "
                "taken as empty",
            )
        for split, lines in self._splits.items():
            self._note_lines(
                lines,
                f"the split '{split}' is none of {', '.join(USUAL_SPLITS)}; it is kept, and used "
                "only where its folder is given",
            )
        for label, written in self._spellings.items():
            if len(written) > 1:
                self._note_lines(
                    list(written.values()),
                    f"the label '{label}' is written in {len(written)} ways that differ by blanks "
                    "or Unicode form; they are one class",
                )
        for group in look_alikes(self._spellings):
            self._note_lines(
                [min(self._spellings[label].values()) for label in group],
                f"the labels {' and '.join(map(repr, group))} differ only by case, blanks or "
                "Unicode form; they are different classes",
            )

    def _note_lines(self, lines: list[int], text: str) -> None:
        note = f"{self.name} {some_lines(sorted(lines))}: {text}"
        self.warnings.append({"file": self.name, "warning": note})


def _row(values: dict[str, str], line: int) -> Row:
    def field(name: str) -> str:
        return values.get(name, "")

    name = field("path")
    if not name:
        raise ValueError("the path is empty")
    start, end = _time(field("start"), "start"), _time(field("end"), "end")
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"end ({end:g} s) is not after start ({start or 0.0:g} s)")
    if start is None and end is not None:
        start = 0.0
    caption, label = " ".join(field("caption").split()), normal_label(field("label"))
    if ".." not in name:  # behind a link, a/../b is another file than b
        name = os.path.normpath(name)
    split = split_name(field("split"))
    return Row(
        name, start, end, split, [label] if label else [], [caption] if caption else [], line
    )


def split_name(text: str) -> str:
    """The name of a split in small letters; ``train`` when it is empty.

    Raises:
        ValueError: A folder cannot have this name, or another one of the data set has it.
    """
    split = text.lower() or "train"
    if not _SPLIT.fullmatch(split) or split in _RESERVED:
        raise ValueError(
            f"'{text}' cannot be the name of a split; letters, digits, _ and - are allowed, "
            f"{' and '.join(sorted(_RESERVED))} are not"
        )
    return split


def _time(text: str, name: str) -> float | None:
    if not text:
        return None
    if "," in text and ":" not in text:
        point, joined = text.replace(",", "."), text.replace(",", "")
        raise ValueError(f"{name} is '{text}', which may be {point} or {joined}: write a point")
    try:
        if "_" in text or text.count(":") > 2:  # Python's 1_000; frames after the seconds
            raise ValueError
        value = parse_time(text)
    except ValueError:
        raise ValueError(f"{name} is '{text}', seconds or h:mm:ss.s were expected") from None
    if not 0 <= value < MOST_SECONDS:
        raise ValueError(f"{name} is '{shorten(text)}', a time >= 0 was expected, in seconds")
    return value


def _merge(
    first: Row, again: Row, held: set[str], name: str, warnings: list[dict[str, Any]]
) -> None:
    """The same span of the same video twice: one clip with all texts (``held``) and labels."""
    fresh = [text for text in again.captions if text not in held]
    fresh_labels = [label for label in again.labels if label not in first.labels]
    if not fresh and not fresh_labels:
        note = f"{name} line {again.line} repeats line {first.line}; it is used once"
        warnings.append({"file": first.path, "warning": note})
    first.captions += fresh
    held.update(fresh)
    first.labels += fresh_labels
