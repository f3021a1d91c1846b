"""ImageNet (ILSVRC 2012): images of 1000 classes."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Sequence

from vatt_tf.data.datasets.originals import Definition, Once, Originals, read_lines, read_table
from vatt_tf.data.prepare.plan import PlanError


def _read(originals: Originals) -> Sequence[str]:
    holds = "a line 'wnid names' for every class, in the official order"
    path = originals.official(["LOC_synset_mapping.txt"], holds)
    found = Once(path, "wnid")
    for line, text in enumerate(read_lines(path), 1):
        wnid, _, label = text.strip().partition(" ")
        if wnid:
            found.add(wnid, label.strip() or wnid, line)
    classes = found.values
    # Two classes are called "crane": the bird and the machine.
    several = {label for label, count in Counter(classes.values()).items() if count > 1}
    classes = {w: f"{label} ({w})" if label in several else label for w, label in classes.items()}
    flat: dict[str, str] = {}
    for file in originals.files:
        parts = pathlib.PurePath(file).parts
        split = "val" if "val" in parts else "train"
        folder = next((part for part in reversed(parts[:-1]) if part in classes), None)
        if folder is not None:
            originals.add(file, split, [classes[folder]])
        elif split == "val":
            flat[pathlib.PurePath(file).stem] = file
    if flat:
        _add_solution(originals, flat, classes)
    return list(classes.values())


def _add_solution(originals: Originals, flat: dict[str, str], classes: dict[str, str]) -> None:
    """The validation images that do not lie in folders of their class."""
    holds = "ImageId,PredictionString (wnid and boxes) of every val image"
    table = originals.official(["LOC_val_solution.csv"], holds)
    for line, row in read_table(table, ["ImageId", "PredictionString"]):
        wnid = row["PredictionString"].split(" ")[0]
        if wnid not in classes:
            raise PlanError(f"{table} line {line}: '{wnid}' is not in LOC_synset_mapping.txt")
        file = flat.get(row["ImageId"])
        originals.add(file, "val", [classes[wnid]], name=row["ImageId"], line=line)


IMAGENET = Definition(
    name="imagenet",
    media="image",
    settings={"cut": "whole", "short_side": 384},
    read=_read,
    needs=(
        "train/{wnid}/*.JPEG, val/*.JPEG or val/{wnid}/*.JPEG; LOC_synset_mapping.txt, "
        "LOC_val_solution.csv (for val without folders)"
    ),
    protocol="train, val; one crop of 384 pixels, repeated over the temporal patch",
)
