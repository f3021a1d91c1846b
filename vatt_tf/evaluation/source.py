"""Finds the records to evaluate on: a split of a prepared folder, or any folder of record files."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from vatt_tf import paths
from vatt_tf.errors import UserError

# Held-out splits in the order of preference when only the root of the shards is given.
HELD_OUT = ("val", "validation", "valid", "test")


@dataclasses.dataclass(frozen=True)
class EvaluationSource:
    """Records to evaluate on.

    Attributes:
        path: Folder or glob of record files.
        split: Name of the split, or None for shards that belong to none that is known.
        records: Number of records in the manifest, or None.
        labels: Sorted label names of the manifest, empty without one.
        held_out: ``by file`` or ``by time`` where ``prepare`` chose the held-out clips, else "".
    """

    path: str
    split: str | None = None
    records: int | None = None
    labels: tuple[str, ...] = ()
    held_out: str = ""

    def data_source(self) -> Any:
        """Source for the input pipeline."""
        from vatt_tf.data.shards.index import DataSource

        return DataSource(path=self.path)


def find_source(data: str, held_out: Sequence[str] = HELD_OUT) -> EvaluationSource:
    """Resolves ``--data``.

    Args:
        data: Folder written by ``vatt_tf.prepare`` (its val split is taken, else test), the folder
            of one split in it, or a folder or glob of record files without a manifest. Training
            clips are held out by nothing: they have to be named.
        held_out: Splits to look for, best first.

    Raises:
        UserError: If nothing is there, or the folder has splits and none is held out.
    """
    data = paths.expand(data)
    path = pathlib.Path(data)
    if not path.exists():
        if paths.is_pattern(data):
            return EvaluationSource(data)
        raise UserError(
            f"--data={data}: no such folder; make one with "
            "`python -m vatt_tf.prepare --videos=DIR --out=SHARDS`"
        )
    from vatt_tf.data.shards.index import manifest_in, shards_in

    if (manifest := manifest_in(path)) is not None:
        filled = [name for name, split in manifest["splits"].items() if split.get("records", 1)]
        for name in held_out:
            if name in filled:
                return _from_manifest(path / name, name, manifest)
        raise _nothing_held_out(path, held_out, filled)
    manifest = manifest_in(path.parent)
    if manifest is not None and path.name in manifest["splits"]:
        return _from_manifest(path, path.name, manifest)
    if not path.is_dir() or shards_in(paths.as_text(path)):
        return EvaluationSource(paths.as_text(path))
    filled = [child.name for child in sorted(path.iterdir()) if shards_in(paths.as_text(child))]
    for name in held_out:
        if name in filled:
            return EvaluationSource(paths.as_text(path / name), name)
    if filled:
        raise _nothing_held_out(path, held_out, filled)
    return EvaluationSource(paths.as_text(path))


def _nothing_held_out(
    path: pathlib.Path, held_out: Sequence[str], filled: Sequence[str]
) -> UserError:
    return UserError(
        f"--data={path}: none of the held-out splits {', '.join(held_out)} is there (it has: "
        f"{', '.join(filled) or 'no records'}); name the split to evaluate on, e.g. "
        f"--data={path / (filled[0] if filled else 'val')}, or prepare with --val_fraction=0.2"
    )


def _from_manifest(folder: pathlib.Path, split: str, manifest: dict) -> EvaluationSource:
    return EvaluationSource(
        path=paths.as_text(folder),
        split=split,
        records=manifest["splits"][split].get("records"),
        labels=tuple(str(label) for label in manifest.get("labels", ())),
        held_out=str(manifest.get("held_out", "")) if split != "train" else "",
    )
