"""Moments in Time: three seconds of video, one of 339 (version 1) or 305 classes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vatt_tf.data.datasets.originals import Definition, Once, Originals, read_lines, read_table
from vatt_tf.data.prepare.plan import PlanError


def _read(originals: Originals) -> Sequence[str]:
    path = originals.official(["moments_categories.txt"], "a line 'class,index' for every class")
    indices, names = Once(path, "index"), Once(path, "class")
    for line, text in enumerate(read_lines(path), 1):
        if text.strip():
            label, _, index = text.strip().rpartition(",")
            if not index.strip().isdecimal():
                raise PlanError(f"{path} line {line}: '{text}' where 'class,index' was expected")
            indices.add(int(index), label.strip(), line)
            names.add(label.strip(), index, line)
    classes, known = indices.values, set(names.values)
    for split, name, folder in (
        ("train", "trainingSet.csv", "training"),
        ("val", "validationSet.csv", "validation"),
    ):
        holds = f"a line 'class/file.mp4,class,...' for every {split} clip"
        table = originals.official([name], holds)
        files = set(originals.files)
        for line, row in read_table(
            table, ["path", "label"], header=False, optional=["votes_for", "votes_against"]
        ):
            if row["label"] not in known:
                raise PlanError(
                    f"{table} line {line}: the class '{row['label']}' is not in {path.name}"
                )
            places = (f"{folder}/{row['path']}", row["path"])
            file = next((place for place in places if place in files), None)
            file = file or originals.find(os.path.splitext(row["path"])[0])
            originals.add(file, split, [row["label"]], name=row["path"], line=line)
    return [classes[index] for index in sorted(classes)]


MOMENTS_IN_TIME = Definition(
    name="moments_in_time",
    media="video",
    settings={"frame_rate": 25.0, "short_side": 320, "cut": "whole"},
    read=_read,
    needs=(
        "training/{class}/*.mp4, validation/{class}/*.mp4; trainingSet.csv, validationSet.csv, "
        "moments_categories.txt"
    ),
    protocol="training set: train, validation set: val; 4 windows x 3 crops of 320 pixels on val",
)
