"""Which data sets shards were made of, and which ones a run was trained on.

A run keeps them in ``data.json``::

    {"format": 1, "train": [{"path": "data/mine", "identity": {...}}], "earlier": []}
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from vatt_tf.atomic import read_json, write_json
from vatt_tf.data.shards.identity import DataIdentity
from vatt_tf.data.shards.index import manifests

FILE = "data.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A prepared data set as a run or an evaluation reads it.

    Attributes:
        path: Shards, as given.
        identity: Of the original files; None for shards that carry none.
    """

    path: str
    identity: DataIdentity | None

    def __str__(self) -> str:
        return f"{self.path}, made of {self.identity}" if self.identity else self.path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        identity = None if self.identity is None else self.identity.to_dict()
        return {"path": self.path, "identity": identity}

    def summary(self) -> dict[str, Any]:
        """A few JSON values for results.json."""
        known = self.identity
        if known is None:
            return {"path": self.path}
        return {"path": self.path, "root": known.root, "files": known.files, "set": known.name}


def data_sets(path: str | Sequence[str], splits: Sequence[str]) -> list[DataSet]:
    """The prepared data sets of a path; several only where it names shards of several."""
    found: dict[str, DataSet] = {}
    for folder, manifest in manifests(path, splits).items():
        place = os.path.dirname(manifest["path"]) if manifest else folder
        found.setdefault(place, DataSet(place, DataIdentity.from_dict(manifest.get("identity"))))
    return list(found.values())


def read_data(run_dir: str | os.PathLike) -> list[DataSet]:
    """The data sets that a run was trained on; empty where the folder does not tell."""
    content = read_json(os.path.join(run_dir, FILE))
    entries = content.get("train") if isinstance(content, dict) else None
    return [
        DataSet(str(entry.get("path")), DataIdentity.from_dict(entry.get("identity")))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]


def write_data(run_dir: str, now: Sequence[DataSet]) -> None:
    """Writes ``data.json``; other data sets of before are kept as ``earlier``."""
    path = os.path.join(run_dir, FILE)
    content = read_json(path)
    content = content if isinstance(content, dict) else {}
    before = read_data(run_dir)
    earlier = list(content.get("earlier", ()))
    if before and differences(before, now):
        earlier.append(content["train"])
    write_json(
        path,
        {"format": FORMAT, "train": [each.to_dict() for each in now], "earlier": earlier},
    )


def differences(before: Sequence[DataSet], now: Sequence[DataSet]) -> list[str]:
    """Why a run that was trained on ``before`` would go on with other data; [] if it would not.

    Data sets without an identity count as the same ones while their paths are.
    """
    if len(before) != len(now):
        return [f"{len(before)} data set(s) before, {len(now)} now"]
    found = []
    for old, new in zip(before, now, strict=True):
        if old.identity is not None and new.identity is not None:
            found += old.identity.differences(new.identity)
        elif _place(old.path) != _place(new.path):
            found.append("not both have an identity, and their folders differ")
    return found


def known(sets: Sequence[DataSet]) -> bool:
    """Whether every data set has an identity, by which it is known in another folder too."""
    return all(each.identity is not None for each in sets)


def _place(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)
