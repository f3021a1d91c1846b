"""The table of clips that ``prepare`` writes beside the shards: what is in each record."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf.atomic import new_file, read_json
from vatt_tf.data.shards.labels import join_labels

INVENTORY = "clips"  # folder of the tables
COLUMNS = ("shard", "record", "file", "start", "end", "labels", "content")
ACCOUNTS = ".prepare"  # folder of the accounts: what was finished with which settings


def write_inventory(out: str | os.PathLike, names: Sequence[tuple[str, str]]) -> None:
    """Writes ``clips/<split>.csv`` from the accounts of the shards, one account at a time.

    Args:
        out: The shards folder.
        names: (shard, split) in the order of the shards.
    """
    folder = pathlib.Path(out, INVENTORY)
    folder.mkdir(parents=True, exist_ok=True)
    splits = dict.fromkeys(split for _, split in names)
    for split in splits:
        with (
            new_file(folder / f"{split}.csv") as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for name, of in names:
                if of == split:
                    writer.writerows(_lines(out, name))


def _lines(out: str | os.PathLike, name: str) -> Iterator[tuple[Any, ...]]:
    account = read_json(account_path(out, name)) or {}
    for record, (file, start, end, labels, content) in enumerate(account.get("clips", ())):
        yield name, record, file, start, end, join_labels(labels), content


def account_path(out: str | os.PathLike, name: str) -> pathlib.Path:
    """Where the account of a finished shard is kept."""
    return pathlib.Path(out, ACCOUNTS, pathlib.PurePosixPath(name).name).with_suffix(".json")
