"""The damaged records that a run has met: told once each, listed in a file, limited in number."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from vatt_tf.data.schema import RecordKeys
from vatt_tf.data.shards.index import Sources, as_sources, index_source, split_record_id
from vatt_tf.data.shards.read_errors import find_fault
from vatt_tf.errors import UserError
from vatt_tf.wording import percent

FILE_NAME = "damaged_records.json"
# Warnings of one process; the file lists all.
_WARNINGS = 20


class DamageLog:
    """Counts the damaged records of a data set, over restarts of a run too.

    Use ``start()`` before the first step and ``add()`` with the record ids of each step's
    ``damaged`` rows. Each process of a run needs a folder of its own, since it writes a file.

    Args:
        sources: What is read with ``training_dataset(..., tolerate_damage=True)``, in its order.
        folder: Where ``damaged_records.json`` lies: a list of ``{file, record, byte, fault}``.
        limit: Largest share of damaged records among all records; 0: the first one is an error.
        splits: The splits that the sources are read for.
        keys: Names of the features; None: DMVR's.

    Raises:
        UserError: There is no data, or the file is damaged itself.
    """

    def __init__(
        self,
        sources: Sources,
        folder: str | os.PathLike,
        limit: float,
        splits: Sequence[str] = ("train",),
        keys: RecordKeys | None = None,
    ) -> None:
        if isinstance(limit, bool) or not 0 <= limit <= 1:
            raise UserError(f"the largest share of damaged records is {limit!r}; expected 0 to 1")
        self._indexes = [index_source(s, splits, tolerate_damage=True) for s in as_sources(sources)]
        self._keys, self._limit = keys or RecordKeys(), limit
        self._path = os.path.join(folder, FILE_NAME)
        missing = sum(lost.count for index in self._indexes for lost in index.missing)
        self._records = sum(index.records for index in self._indexes) + missing
        self._known = {(entry["file"], entry["record"]): entry for entry in self._read()}
        self._warned = 0

    @property
    def count(self) -> int:
        """Damaged records so far."""
        return len(self._known)

    @property
    def share(self) -> float:
        """Damaged records so far as a share of all records."""
        return len(self._known) / self._records

    def start(self) -> None:
        """Counts what is missing from shards that are cut short.

        Raises:
            UserError: Too many records are damaged.
        """
        self._book(
            {
                "file": lost.file,
                "record": lost.first + i,
                "byte": lost.offset,
                "fault": f"is missing: {lost.fault}",
            }
            for index in self._indexes
            for lost in index.missing
            for i in range(lost.count)
        )

    def add(self, record_ids: Iterable[int]) -> None:
        """Counts damaged records of a step; those that are known already cost nothing.

        Args:
            record_ids: ``record_id`` of the rows that are ``damaged``.

        Raises:
            UserError: Too many records are damaged.
        """
        self._book(self._explained(record_ids))

    def _explained(self, record_ids: Iterable[int]) -> Iterator[dict[str, Any]]:
        for number, shard, record in sorted({split_record_id(i) for i in record_ids}):
            index = self._indexes[number]
            file, row = index.files[shard], int(index.first_row[shard]) + record
            if (file, record) not in self._known:
                fault = find_fault(index, row, self._keys) or "could not be made into a clip"
                place = {"file": file, "record": record, "byte": int(index.offsets[row])}
                yield place | {"fault": fault}

    def _book(self, entries: Iterable[dict[str, Any]]) -> None:
        new = {(e["file"], e["record"]): e for e in entries}
        new = {place: e for place, e in new.items() if place not in self._known}
        if not new and self.share <= self._limit:
            return
        for entry in new.values():
            self._warn(_told(entry))
        self._known |= new
        self._write()
        if self.share > self._limit:
            some = "; ".join(_told(entry) for entry in list(self._known.values())[:3])
            raise UserError(
                f"{self.count} of {self._records} training records are damaged "
                f"({percent(self.share, 2)}), at most {percent(self._limit, 2)} may be: {some}. "
                f"{self._path} lists "
                "all of them: mend these shards, delete that file and start again, or allow a "
                "larger share"
            )

    def _warn(self, told: str) -> None:
        self._warned += 1
        if self._warned <= _WARNINGS:
            print(f"warning: damaged record: {told}", file=sys.stderr)
        elif self._warned == _WARNINGS + 1:
            print(f"warning: further damaged records are in {self._path} only", file=sys.stderr)

    def _read(self) -> list[dict[str, Any]]:
        if not tf.io.gfile.exists(self._path):
            return []
        try:
            with tf.io.gfile.GFile(self._path, "r") as file:
                entries = json.load(file)
            return [{**e, "record": int(e["record"]), "file": str(e["file"])} for e in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._path} is no list of damaged records ({type(error).__name__}: "
                f"{error}): delete it"
            ) from error

    def _write(self) -> None:
        # As ``atomic.write_json``, which writes local files: the folder may be in a bucket.
        tf.io.gfile.makedirs(os.path.dirname(self._path))
        temporary = f"{self._path}.tmp-{os.getpid()}"
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(json.dumps(list(self._known.values()), indent=1) + "\n")
        tf.io.gfile.rename(temporary, self._path, overwrite=True)


def _told(entry: dict[str, Any]) -> str:
    return f"{entry['file']} record {entry['record']} (byte {entry['byte']}) {entry['fault']}"
