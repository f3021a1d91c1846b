"""What shards hold: clips with sound and captions by their manifests; a fingerprint of all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence

import tensorflow as tf

from vatt_tf.data.shards.index import DataSource, list_shards, manifests


@dataclasses.dataclass(frozen=True)
class Contents:
    """Counts of the clips of one or more sources.

    Attributes:
        records: Clips.
        with_audio: Clips with sound.
        with_captions: Clips with at least one caption.
    """

    records: int
    with_audio: int
    with_captions: int


def contents(sources: Sequence[DataSource], splits: Sequence[str]) -> Contents | None:
    """Adds up the manifests of the sources.

    Args:
        sources: The sources.
        splits: For the top folder of a prepared data set, the split folders to look for.

    Returns:
        The counts; None where a source has no manifest that counts, as shards of other programs.
    """
    found: dict[str, dict] = {}
    for source in sources:
        found |= manifests(source.path, splits)
    total = Contents(0, 0, 0)
    for folder, manifest in found.items():
        split = manifest.get("splits", {}).get(os.path.basename(folder), {})
        names = [field.name for field in dataclasses.fields(Contents)]
        if not all(isinstance(split.get(name), int) for name in names):
            return None
        total = Contents(*(getattr(total, name) + split[name] for name in names))
    return total


def fingerprint(path: str | Sequence[str], splits: Sequence[str]) -> str:
    """Sixteen hex digits that change with the content of the shards, and not with their folder.

    By their names, sizes and, where manifests have them, hashes; nothing is read.

    Args:
        path: See ``DataSource``.
        splits: For the top folder of a prepared data set, the split folders to look for.
    """
    hashes = {
        os.path.basename(shard["file"]): shard.get("sha256")
        for manifest in manifests(path, splits).values()
        for split in manifest.get("splits", {}).values()
        for shard in split.get("shards", ())
    }
    names = {file: os.path.basename(file) for file in list_shards(path, splits)}
    found = sorted((n, tf.io.gfile.stat(f).length, hashes.get(n)) for f, n in names.items())
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]
