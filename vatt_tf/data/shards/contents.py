"""How many training clips have sound and captions, as the manifests of the shards say."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from vatt_tf.data.shards.index import DataSource, manifests


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
