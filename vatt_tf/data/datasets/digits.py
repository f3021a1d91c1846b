"""Spoken digits (FSDD) and hand signs of digits: splits by file name or by file order."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

from vatt_tf.data.datasets.originals import Definition, Originals, read_table
from vatt_tf.data.lists.manifest import split_name
from vatt_tf.data.prepare.plan import PlanError

DIGITS = tuple("zero one two three four five six seven eight nine".split())
HELD_OUT = 0.2  # share of a class's files, in their order, where no manifest.csv says which


def _fsdd(originals: Originals) -> Sequence[str]:
    for file in originals.files:
        match = re.fullmatch(r"(\d)_(\w+)_(\d+)", pathlib.PurePath(file).stem)
        if match:
            split = "test" if int(match[3]) < 5 else "train"
            originals.add(file, split, [DIGITS[int(match[1])]])
    return DIGITS


def _sign_digits(originals: Originals) -> Sequence[str]:
    classes: dict[int, list[str]] = {}
    for file in originals.files:
        folder = pathlib.PurePath(file).parent.name
        if len(folder) == 1 and folder.isdecimal():
            classes.setdefault(int(folder), []).append(file)
    manifest = originals.optional(["manifest.csv"])
    if manifest is not None:
        digits = {file: digit for digit, files in classes.items() for file in files}
        for line, row in read_table(manifest, ["clip", "split"]):
            name = row["clip"]
            try:
                split = split_name(row["split"])
            except ValueError as error:
                raise PlanError(f"{manifest} line {line}: {error}") from error
            found = name if name in digits else None
            labels = [DIGITS[digits[name]]] if found else []
            originals.add(found, split, labels, name=name, line=line)
        return DIGITS
    for digit, files in sorted(classes.items()):
        first_held = round(len(files) * (1 - HELD_OUT))
        for number, file in enumerate(files):
            split = "train" if number < first_held else "test"
            originals.add(file, split, [DIGITS[digit]])
    return DIGITS


FSDD = Definition(
    name="fsdd",
    media="audio",
    settings={"cut": "whole"},
    read=_fsdd,
    needs="recordings/{digit}_{speaker}_{index}.wav",
    protocol="index 0-4 of each digit and speaker: test, the others: train",
)
SIGN_DIGITS = Definition(
    name="sign_digits",
    media="image",
    settings={"cut": "whole"},
    read=_sign_digits,
    needs="a folder for each digit (0 to 9) with its images; optionally manifest.csv (clip,split)",
    protocol="the splits of manifest.csv; without it the last 20 % of each class: test",
)
