"""The identity of a data set: its settings, the columns of its manifest, its files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from vatt_tf.wording import count_of, percent

# A data set is the same one while at least this fraction of its known files is still there.
SAME_FROM = 0.5
# Files whose hashes are kept. A larger set is compared by the ones with the smallest hashes, which
# are a random sample that two sets with the same files share (bottom-k sketch).
SAMPLE = 2048
_DIGITS = 12  # of a hash


@dataclasses.dataclass(frozen=True)
class DataIdentity:
    """What tells a prepared data set from another one.

    Attributes:
        root: Folder of the original files when the set was last prepared; of no weight in
            comparisons: a disk may be mounted elsewhere.
        settings: Settings of ``prepare``.
        columns: Known columns of the manifest CSV in canonical order; () without one.
        dataset: Official data set and fold, ``ucf101 2``; "" for a user's own.
        files: Number of original files.
        sample: Hashes of (name relative to the root, size), ascending, at most ``SAMPLE``.
        every: All hashes while they are known (when the files were just listed); never stored.
    """

    root: str
    settings: Mapping[str, Any]
    columns: tuple[str, ...]
    dataset: str
    files: int
    sample: tuple[str, ...]
    every: frozenset[str] | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def from_files(
        cls,
        root: str,
        files: Iterable[tuple[str, int]],
        settings: Mapping[str, Any],
        columns: Iterable[str] = (),
        dataset: str = "",
    ) -> DataIdentity:
        """The identity of files given as (name, bytes)."""
        hashes = {_hash(name, size) for name, size in files}
        sample = tuple(sorted(hashes)[:SAMPLE])
        every = frozenset(hashes)
        return cls(str(root), dict(settings), tuple(columns), dataset, len(hashes), sample, every)

    @property
    def name(self) -> str:
        """Eight hex digits that change with anything but the root."""
        content = repr((sorted(self.settings.items()), self.columns, self.dataset, self.sample))
        return hashlib.sha256(f"{self.files} {content}".encode()).hexdigest()[:8]

    def still_there(self, now: DataIdentity) -> float:
        """Fraction of this set's files that are in ``now``; estimated beyond ``SAMPLE`` files.

        0 where nothing can be told: a handful of files, and a stored set a thousand times larger.
        """
        known, there = self.sample, now.every
        if there is None:
            there = frozenset(now.sample)
            if now.files > len(now.sample):  # beyond its largest hash a sample tells nothing
                known = tuple(value for value in known if value <= now.sample[-1])
        return sum(value in there for value in known) / len(known) if known else 0.0

    def differences(self, now: DataIdentity) -> list[str]:
        """Why ``now`` is another data set than this one; empty if it is the same."""
        found = [
            f"--{key} was {self.settings.get(key)!r}, is {value!r}"
            for key, value in now.settings.items()
            if key in self.settings and self.settings[key] != value
        ]
        if self.columns != now.columns:
            found.append(f"the manifest had {_list(self.columns)}, has {_list(now.columns)}")
        if self.dataset != now.dataset:
            found.append(f"--dataset was {self.dataset or 'none'}, is {now.dataset or 'none'}")
        there = self.still_there(now)
        if there < SAME_FROM:
            found.append(
                f"{percent(there, 0)} of its {count_of(self.files, 'file')} are among the "
                f"{now.files} of now, at "
                f"least {percent(SAME_FROM, 0)} were expected"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "every"
        }
        # One line in a file that people read.
        columns = list(self.columns)
        return {"name": self.name, **values, "columns": columns, "sample": "".join(self.sample)}

    @classmethod
    def from_dict(cls, values: Any) -> DataIdentity | None:
        """The identity that ``to_dict`` gave; None where there is none or it cannot be read."""
        if not isinstance(values, Mapping):
            return None
        settings, text, files = (values.get(name) for name in ("settings", "sample", "files"))
        if not (isinstance(settings, Mapping) and isinstance(text, str) and isinstance(files, int)):
            return None
        sample = tuple(text[at : at + _DIGITS] for at in range(0, len(text), _DIGITS))
        columns = tuple(values.get("columns") or ())
        root, dataset = str(values.get("root", "")), str(values.get("dataset", ""))
        return cls(root, dict(settings), columns, dataset, files, sample)

    def __str__(self) -> str:
        what = f"{self.dataset}, " if self.dataset else ""
        return f"{self.root} ({what}{count_of(self.files, 'file')}, set {self.name})"


def _hash(name: str, size: int) -> str:
    return hashlib.sha256(f"{size} {name}".encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]


def _list(columns: tuple[str, ...]) -> str:
    return f"the columns {','.join(columns)}" if columns else "no columns (there was none)"
