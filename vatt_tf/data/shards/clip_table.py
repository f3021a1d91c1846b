"""The table of clips that ``prepare`` writes beside the shards: what is in each record."""

from __future__ import annotations

import csv
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf.atomic import new_file, read_json
from vatt_tf.data.schema import join_labels
from vatt_tf.data.shards.overlap import tell_some
from vatt_tf.wording import count_of

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


def shared_contents(out: str | os.PathLike, splits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Notes on clips of one split whose frames and sound are those of a clip of another one.

    Args:
        out: The shards folder.
        splits: Its splits; of ``train`` nothing is held in memory.

    Yields:
        (table, note) of each two splits that share clips.
    """
    known: dict[str, tuple[str, str]] = {}
    for split in sorted(splits, key=lambda name: name == "train"):
        shared: dict[str, dict[str, str]] = defaultdict(dict)
        with open(
            pathlib.Path(out, INVENTORY, f"{split}.csv"), encoding="utf-8", newline=""
        ) as file:
            for row in csv.DictReader(file):
                clip = f"{row['file']} {float(row['start']):g}-{float(row['end']):g} s"
                other, theirs = known.get(row["content"], (split, ""))
                if other != split:
                    shared[other].setdefault(row["content"], f"{theirs} is {clip}")
                elif split != "train":
                    known[row["content"]] = split, clip
        for other, pairs in shared.items():
            yield (
                f"{INVENTORY}/{other}.csv",
                f"{count_of(len(pairs), 'clip')} of {other} shown in {split} too: "
                f"{tell_some(list(pairs.values()), 3)}",
            )


def account_path(out: str | os.PathLike, name: str) -> pathlib.Path:
    """Where the account of a finished shard is kept."""
    return pathlib.Path(out, ACCOUNTS, pathlib.PurePosixPath(name).name).with_suffix(".json")
