"""ESC-50 and ESC-10: environmental sounds of 5 s in five official folds."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

from vatt_tf.data.datasets.originals import Definition, Originals, read_table
from vatt_tf.data.prepare.plan import PlanError

_TABLE = ["meta/esc50.csv", "esc50.csv"]
_HOLDS = "filename,fold,target,category,esc10 for every clip"


def _split(originals: Originals, fold: str) -> str:
    return "val" if int(fold) == originals.fold else "train"


def _from_table(originals: Originals, path: pathlib.Path, only_esc10: bool) -> Sequence[str]:
    classes: dict[int, str] = {}
    for line, row in read_table(path, ["filename", "fold", "target", "category", "esc10"]):
        if only_esc10 and row["esc10"].lower() != "true":
            continue
        if not (row["fold"].isdecimal() and row["target"].isdecimal()):
            raise PlanError(f"{path} line {line}: fold and target must be whole numbers")
        known = classes.setdefault(int(row["target"]), row["category"])
        if known != row["category"]:
            raise PlanError(
                f"{path} line {line}: the class of target {row['target']} is '{row['category']}', "
                f"in a line before '{known}'"
            )
        name = row["filename"]
        file = originals.find(pathlib.PurePath(name).stem)
        split = _split(originals, row["fold"])
        originals.add(file, split, [row["category"]], name=name, line=line)
    return [classes[target] for target in sorted(classes)]


def _esc50(originals: Originals) -> Sequence[str]:
    return _from_table(originals, originals.official(_TABLE, _HOLDS), only_esc10=False)


def _esc10(originals: Originals) -> Sequence[str]:
    table = originals.optional(_TABLE)
    if table is not None:
        return _from_table(originals, table, only_esc10=True)
    folders: dict[str, str] = {}
    for file in originals.files:
        path = pathlib.PurePath(file)
        match = re.match(r"([1-5])-", path.name)
        if match and path.parent.name:
            label = re.sub(r"^\d+\s*-\s*", "", path.parent.name)
            folders[path.parent.name] = label
            originals.add(file, _split(originals, match[1]), [label])
    splits = {row.split for row in originals.rows.rows}
    if splits == {"train"}:
        raise PlanError(f"{originals.videos}: no clip of fold {originals.fold} in it")
    return [folders[name] for name in sorted(folders)]


_PROTOCOL = "the clips of --fold: val, the other folds: train; the mean over the five folds counts"
ESC50 = Definition(
    name="esc50",
    media="audio",
    settings={"cut": "whole"},
    read=_esc50,
    needs="audio/*.wav, meta/esc50.csv",
    protocol=_PROTOCOL,
    folds=5,
)
ESC10 = Definition(
    name="esc10",
    media="audio",
    settings={"cut": "whole"},
    read=_esc10,
    needs="a folder for each class with {fold}-{source}-{take}.ogg, or ESC-50 with meta/esc50.csv",
    protocol=_PROTOCOL,
    folds=5,
)
