"""What was mended or left out of a file."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from vatt_tf import paths

SHOWN = 3
MOST = 500_000  # lines or entries of a file
MOST_CHARACTERS = 200_000  # of a line, before its mark-up is taken off
T = TypeVar("T")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")


class Notes:
    """Notes on a file: of each kind the first few, and how many more there are.

    Args:
        name: Name of the file.
        unit: What the numbers count: ``line`` or ``entry``.
    """

    def __init__(self, name: str, unit: str):
        self._name, self._unit = name, unit
        self._kinds: dict[str, list[str]] = {}
        self._numbers: dict[str, tuple[int, int]] = {}  # how many, and the last place

    def add(self, number: int, found: Any, what: str, detail: str = "") -> None:
        """Adds a note.

        Args:
            number: Of the line or the entry.
            found: What stands there.
            what: What is wrong with it and what is done; the same for all of a kind.
            detail: What is special about this one.
        """
        lines = self._kinds.setdefault(what, [])
        if len(lines) < SHOWN:
            lines.append(f"{self._name} {self._unit} {number}: {short(found)}{detail} {what}")
        count, last = self._numbers.get(what, (0, 0))
        self._numbers[what] = count + 1, max(last, number)

    def numbered(self, items: Iterable[T]) -> Iterator[tuple[int, T]]:
        """Lines or entries with their numbers; what is behind ``MOST`` of them is noted."""
        for number, item in enumerate(items, 1):
            if number > MOST:
                self.add(number, item, "and what follows is left out: the file is too long")
                return
            if isinstance(item, str) and len(item) > MOST_CHARACTERS:
                self.add(number, item, "and so on is too long; its rest is left out")
                item = item[:MOST_CHARACTERS]  # type: ignore[assignment]
            yield number, item

    def lines(self) -> list[str]:
        """All notes, each in one line."""
        found = []
        for what, lines in self._kinds.items():
            count, last = self._numbers[what]
            found += lines
            if count > len(lines):
                found.append(
                    f"{self._name}: {count - len(lines):,} more up to {self._unit} {last:,}: {what}"
                )
        return found


def short(value: Any, width: int = 40) -> str:
    """The beginning of a text, or of any other value, in one line that can be printed."""
    text = value[: 2 * width] if isinstance(value, str) else reprlib.repr(value)
    text = paths.shown(_CONTROL.sub(" ", text).strip())
    text = text if len(text) <= width else f"{text[: width - 3]}..."
    return f"'{text}'" if isinstance(value, str) else text
