"""The manifest CSV that a user writes, and the manifest.json that a shards folder carries."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from vatt_tf.data.captions import CaptionError, decode_text, parse_time
from vatt_tf.errors import UserError

MANIFEST_FORMAT = 1
COLUMNS = ("path", "start", "end", "label", "caption", "split")
_SPLIT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_RESERVED = {"clips", "tokenizer", "videos"}  # other folders beside the splits


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
    """A manifest CSV: its rows, the lines that are no use, and what was mended."""

    rows: list[Row]
    quarantine: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    columns: tuple[str, ...] = ()


def read_rows(path: str | os.PathLike) -> Rows:
    """Reads ``path,start,end,label,caption,split`` (only ``path`` is needed; others are ignored).

    Raises:
        ManifestError: The file cannot be read, has no ``path`` column or no line.
    """
    path = pathlib.Path(path)
    try:
        text, notes = decode_text(path.read_bytes(), path.name)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    except CaptionError as error:
        raise ManifestError(str(error)) from error
    warnings = [{"file": path.name, "warning": note} for note in notes]
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or []]
    if "path" not in columns:
        raise ManifestError(
            f"{path}: no column 'path' in its first line; found the columns {columns}, expected "
            f"{','.join(COLUMNS)} (only 'path' is needed)"
        )
    reader.fieldnames = columns
    rows: dict[tuple, Row] = {}
    quarantine: list[dict[str, Any]] = []
    for record in _records(reader, path):
        line = reader.line_num
        try:
            row = _row(record, line)
        except ValueError as error:
            name = (record.get("path") or "").strip() or path.name
            quarantine.append({"file": name, "reason": f"{path.name} line {line}: {error}"})
            continue
        key = (row.path, row.start, row.end, row.split)
        first = rows.setdefault(key, row)
        if first is not row:
            _merge(first, row, path.name, warnings)
    if not rows and not quarantine:
        raise ManifestError(f"{path}: holds no line below its header")
    known = tuple(name for name in COLUMNS if name in columns)
    return Rows(list(rows.values()), quarantine, warnings, known)


def _records(reader: csv.DictReader, path: pathlib.Path) -> Iterator[dict[str, Any]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ManifestError(f"{path} line {reader.line_num}: not CSV: {error}") from error


def _row(record: dict[str, Any], line: int) -> Row:
    def field(name: str) -> str:
        return (record.get(name) or "").strip()

    name = field("path")
    if not name:
        raise ValueError("the path is empty")
    start, end = _time(field("start"), "start"), _time(field("end"), "end")
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"end ({end:g} s) is not after start ({start or 0.0:g} s)")
    if start is None and end is not None:
        start = 0.0
    split = field("split") or "train"
    if not _SPLIT.match(split) or split.lower() in _RESERVED:
        raise ValueError(
            f"'{split}' cannot be the name of a split; letters, digits, _ and - are allowed, "
            f"{' and '.join(sorted(_RESERVED))} are not"
        )
    captions = [" ".join(field("caption").split())] if field("caption") else []
    labels = [field("label")] if field("label") else []
    return Row(os.path.normpath(name), start, end, split, labels, captions, line)


def _time(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        value = parse_time(text)
    except ValueError:
        raise ValueError(f"{name} is '{text}', seconds were expected") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is '{text}', a time >= 0 was expected")
    return value


def _merge(first: Row, again: Row, name: str, warnings: list[dict[str, Any]]) -> None:
    """The same span of the same video twice: one clip with all texts and labels."""
    fresh = [text for text in again.captions if text not in first.captions]
    fresh_labels = [label for label in again.labels if label not in first.labels]
    if not fresh and not fresh_labels:
        note = f"{name} line {again.line} repeats line {first.line}; it is used once"
        warnings.append({"file": first.path, "warning": note})
    first.captions += fresh
    first.labels += fresh_labels


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Writes JSON to a temporary name and renames it."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        # Bytes of a path that are not UTF-8 become JSON's escape of a lone surrogate.
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(data, file, indent=1, ensure_ascii=False)
            file.write("\n")
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: str | os.PathLike) -> Any | None:
    """Reads JSON; None when the file is not there or not whole."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
