"""Column names of a table: which are read, and which look like a slip of the pen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vatt_tf.data.lists.tables import Record, TableError

# Names that other tools give to a column of a manifest.
SYNONYMS = {
    "path": "file filename filepath video videofile videopath clip clipname name uri url",
    "start": "starttime startsec startseconds starts timestart begin begintime from tstart",
    "end": "endtime endsec endseconds ends timeend stop stoptime to tend",
    "label": "class classname classlabel category labelname",
    "caption": "text sentence transcript transcription",
    "split": "set subset partition",
}


def normal_name(name: str) -> str:
    """A column name without regard to case and blanks around it."""
    return name.strip(" \t\n\ufeff\u200b\xa0").casefold()


def column_names(header: Record, known: Sequence[str]) -> list[str]:
    """The columns of a table: known ones as in ``known``, others in small letters, "" without name.

    Columns without a name at the end are left out: spreadsheets write them.

    Args:
        header: The first record.
        known: Names of the columns that are read; case does not count.

    Raises:
        TableError: A name comes twice.
    """
    names = [normal_name(name) for name in header.fields]
    while names and not names[-1]:
        names.pop()
    for index, name in enumerate(names):
        if name and name in names[:index]:
            raise TableError(
                header.line,
                f"the column '{header.fields[index]}' comes twice (columns "
                f"{names.index(name) + 1} and {index + 1}); remove one of them",
            )
    written = {normal_name(name): name for name in known}
    return [written.get(name, name) for name in names]


def refuse_slips(
    line: int, names: Sequence[str], known: Sequence[str], synonyms: Mapping[str, str]
) -> None:
    """Refuses a column that would be ignored although a known one is probably meant.

    Args:
        line: Line of the header.
        names: ``column_names``.
        known: Columns that are read.
        synonyms: Other words for the known columns, separated by blanks.

    Raises:
        TableError: There is such a column.
    """
    for name in names:
        meant = None if name in known else meant_column(name, names, known, synonyms)
        if meant is not None:
            raise TableError(
                line,
                f"the column '{name}' is not read; expected '{meant}': rename it if that is "
                "meant, else remove it or give it a name that is less like a known one",
            )


def meant_column(
    name: str, names: Sequence[str], known: Sequence[str], synonyms: Mapping[str, str]
) -> str | None:
    """The known column that an unknown name may stand for, or None.

    A slip of the pen counts whether or not the right name is there too; another word for a column
    counts only when the column is absent.
    """
    plain = re.sub(r"[\W_]+", "", name)
    for column in known:
        if _is_slip(plain, normal_name(column)):
            return column
    for column in known:
        if column not in names and plain in synonyms.get(column, "").split():
            return column
    return None


def _is_slip(name: str, column: str) -> bool:
    """Whether one letter is wrong, missing, too many, or changed places with another."""
    differences = sum(a != b for a, b in zip(name, column, strict=False))
    if len(name) == len(column):
        swapped = differences == 2 and sorted(name) == sorted(column)
        # In words of three letters a wrong one makes too many others: "and", "eng".
        return name == column or swapped or (differences == 1 and len(column) > 3)
    short, long = sorted((name, column), key=len)
    if len(long) - len(short) != 1 or len(short) < 3:
        return False
    return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
