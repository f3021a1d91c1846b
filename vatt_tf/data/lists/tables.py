"""Strict reading of CSV files as people and spreadsheets write them.

The csv module takes an unclosed quote for the rest of the file and drops or shifts what does not
fit the header. Here a record is either read as it is meant, or refused with its line.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vatt_tf.data.text.files import decode_text, iter_lines, read_bytes
from vatt_tf.errors import UserError

SEPARATORS = (",", ";", "\t")
_SEPARATOR_NAMES = {",": "','", ";": "';'", "\t": "tab"}


class TableError(UserError):
    """A table that cannot be read; names the line, not the file.

    Attributes:
        line: Line number, from 1.
        reason: What was found, what was expected, and what to do.
    """

    def __init__(self, line: int, reason: str):
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


class Record(NamedTuple):
    r"""A record of a table.

    Attributes:
        line: Line in which it begins, from 1.
        fields: Values without their quotes and outer blanks; line breaks are ``\n``.
        breaks: Line of the opening quote by index, for fields that go over several lines.
        stray: Indices of the fields without quotes around them that hold an odd number of quotes.
    """

    line: int
    fields: list[str]
    breaks: dict[int, int]
    stray: tuple[int, ...]


_NO_BREAKS: dict[int, int] = {}  # shared by the many records without one


def read_table_text(path: pathlib.Path) -> tuple[str, list[str]]:
    """The text of a table and a note for each thing that was mended.

    Raises:
        TableError: It is a workbook and not text.
        TextFileError: It is not text, or too large.
        OSError: It cannot be read.
    """
    data = read_bytes(path)
    if data.startswith(b"PK\x03\x04"):
        raise TableError(1, "this is a workbook or an archive, not text; save it as CSV (UTF-8)")
    return decode_text(data, path.name)


def split_lines(text: str) -> list[str]:
    """Lines by line feeds and carriage returns only: a caption may hold other separators."""
    return list(iter_lines(text))


class Reader:
    """Records of the lines of a table; iterate once.

    Empty lines and lines that begin with a hash and a blank (comments) are left out. A hash alone
    begins no comment: clips of HMDB51 are called ``#20_Rhythm...``.

    Args:
        lines: ``split_lines`` of the text.
        separator: One character.
        first: Index of the first line to read.

    Attributes:
        at: Index of the first line that was not read yet.
        comments: Numbers of the comment lines passed so far.

    Raises:
        TableError: While iterating: a quote is not closed, or a text follows a closing quote.
    """

    def __init__(self, lines: Sequence[str], separator: str, first: int = 0):
        self._lines, self._separator, self.at = lines, separator, first
        blanks = " " if separator == "\t" else " \t"
        self._open = re.compile(rf'[{blanks}]*"')
        self._end = re.compile(rf"[{blanks}]*({re.escape(separator)}|$)")
        self.comments: list[int] = []

    def __iter__(self) -> Iterator[Record]:
        while self.at < len(self._lines):
            line = self._lines[self.at]
            self.at += 1
            if line.startswith("# "):
                self.comments.append(self.at)
            elif '"' in line:
                yield self._quoted(line)
            elif line.strip():
                fields = [field.strip() for field in line.split(self._separator)]
                yield Record(self.at, fields, _NO_BREAKS, ())

    def _quoted(self, line: str) -> Record:
        first = self.at
        fields: list[str] = []
        breaks: dict[int, int] = {}
        stray: list[int] = []
        position = 0
        while True:
            opened = self._open.match(line, position)
            if opened:
                start = self.at
                value, line, position = self._until_closed(line, opened.end())
                if self.at != start:
                    breaks[len(fields)] = start
                ended = self._end.match(line, position)
                if ended is None:
                    rest = line[position:].strip()
                    raise TableError(
                        start,
                        f"field {len(fields) + 1} goes on after its closing quote "
                        f"({shorten(rest)}); put the whole field in quotes and write a quote "
                        'inside it twice ("")',
                    )
                position, more = ended.end(), bool(ended[1])
            else:
                at = line.find(self._separator, position)
                more = at >= 0
                value = line[position:at] if more else line[position:]
                position = at + 1
                if value.count('"') % 2:
                    stray.append(len(fields))
            fields.append(value.strip())
            if not more:
                break
        if len(stray) > 1:
            raise TableError(
                first,
                f"a quote opens inside field {stray[0] + 1} and closes inside field "
                f"{stray[1] + 1}; put the whole field in quotes",
            )
        return Record(first, fields, breaks, tuple(stray))

    def _until_closed(self, line: str, position: int) -> tuple[str, str, int]:
        """The rest of a quoted field, the line of its closing quote and the place behind it."""
        opened = self.at
        parts: list[str] = []
        while True:
            at = line.find('"', position)
            if at < 0:
                parts += [line[position:], "\n"]
                if self.at == len(self._lines):
                    raise TableError(
                        opened,
                        "a quote opens here and is never closed; close it behind the field, or "
                        "remove it",
                    )
                line, position = self._lines[self.at], 0
                self.at += 1
            elif line.startswith('""', at):
                parts.append(line[position : at + 1])
                position = at + 2
            else:
                parts.append(line[position:at])
                return "".join(parts), line, at + 1


def choose_separator(
    lines: Sequence[str], known: Callable[[str], bool]
) -> tuple[str, int, Record | None]:
    """Finds the header of a table and what separates its columns.

    Args:
        lines: ``split_lines`` of the text.
        known: Whether a name is that of a column that can be used.

    Returns:
        The separator, the index of the first line behind the header, and the header; None when
        the table is empty.

    Raises:
        TableError: A quote in the header is not closed.
    """
    first = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
    candidates: Sequence[str] = SEPARATORS
    if first < len(lines):
        match = re.fullmatch(r'"?sep=(.)"?[;,\t]*\s*', lines[first], re.IGNORECASE)  # of Excel
        if match:
            candidates, first = [match[1]], first + 1
    found: list[tuple[int, str, int, Record | None]] = []
    failure: TableError | None = None
    for separator in candidates:
        reader = Reader(lines, separator, first)
        try:
            header = next(iter(reader), None)
        except TableError as error:  # quotes around fields that another character separates
            failure = failure or error
            continue
        count = sum(known(name) for name in header.fields) if header else 0
        found.append((count, separator, reader.at, header))
    if failure and not any(count for count, *_ in found):
        raise failure
    _, separator, behind, header = max(found, key=lambda each: each[0])  # of equals the first
    return separator, behind, header


def check_width(record: Record, names: Sequence[str], separator: str) -> None:
    """Refuses a record that has more values than there are columns.

    Empty fields behind the last column are harmless: spreadsheets write them.

    Raises:
        TableError: There is a value behind the last column, or other separators stand between
            the values than in the header.
    """
    fields, width = record.fields, len(names)
    if any(fields[width:]):
        found = sum(map(bool, fields[width:])) + width
        raise TableError(
            record.line,
            f"{found} fields, expected {width} ({','.join(names)}): "
            f"'{shorten(next(filter(None, fields[width:])))}' has no column; a text that holds "
            f"{_SEPARATOR_NAMES.get(separator, repr(separator))} needs quotes around it",
        )
    if len(fields) < width:
        for other in SEPARATORS:
            # In a short row of the right kind the own separator comes first.
            if (
                other != separator
                and fields[0].count(other)
                and (separator.join(fields).count(other) >= width - 1)
            ):
                raise TableError(
                    record.line,
                    f"{len(fields)} fields, expected {width} ({','.join(names)}): it is separated "
                    f"by {_SEPARATOR_NAMES[other]}, the header by "
                    f"{_SEPARATOR_NAMES.get(separator, repr(separator))}; use one of them",
                )


def shorten(text: str, length: int = 40) -> str:
    """A text for a message, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def some_lines(lines: Sequence[int], count: int = 5) -> str:
    """``line 3`` or ``lines 3, 5 and 12 more``."""
    shown = ", ".join(map(str, lines[:count]))
    more = f" and {len(lines) - count} more" if len(lines) > count else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"
