"""UCF101 and HMDB51: short clips of actions with three official splits each."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence

from vatt_tf.data.datasets.originals import Definition, Once, Originals, read_lines, read_table
from vatt_tf.data.prepare.plan import PlanError

_SETTINGS = {"frame_rate": 25.0, "short_side": 256, "cut": "whole"}
_PROTOCOL = "official split --fold (1 to 3): train and test; linear probe, 4 windows of 224 pixels"
_UCF_FOLDERS = ("", "ucfTrainTestlist/")
_HMDB_FOLDERS = ("", "testTrainMulti_7030_splits/")


def _ucf101(originals: Originals) -> Sequence[str]:
    def official(name: str, holds: str) -> pathlib.Path:
        return originals.official([folder + name for folder in _UCF_FOLDERS], holds)

    path = official("classInd.txt", "a line 'index class' for every class")
    indices, names = Once(path, "index"), Once(path, "class")
    for line, text in enumerate(read_lines(path), 1):
        if text.strip():
            index, _, label = text.strip().partition(" ")
            if not index.isdecimal():
                raise PlanError(f"{path} line {line}: '{text}' where 'index class' was expected")
            indices.add(int(index), label.strip(), line)
            names.add(label.strip(), index, line)
    classes, known = indices.values, set(names.values)
    for split in ("train", "test"):
        name = f"{split}list{originals.fold:02d}.txt"
        path = official(name, f"a line 'class/video.avi' for every {split} clip")
        for line, text in enumerate(read_lines(path), 1):
            name, _, index = text.strip().partition(" ")
            if not name:
                continue
            if index and not index.strip().isdecimal():
                raise PlanError(
                    f"{path} line {line}: '{text}' where 'class/video.avi index' was expected"
                )
            label = name.partition("/")[0]
            if label not in known:
                raise PlanError(f"{path} line {line}: the class '{label}' is not in classInd.txt")
            file = originals.find(os.path.splitext(name)[0])
            originals.add(file, split, [label], name=name, line=line)
    return [classes[index] for index in sorted(classes)]


def _hmdb51(originals: Originals) -> Sequence[str]:
    rows = list(_hmdb_rows(originals))
    for label, name, number, line in rows:
        if number in (1, 2):
            stem = os.path.splitext(name)[0]
            file = originals.find(f"{label}/{stem}", stem)
            originals.add(file, "train" if number == 1 else "test", [label], name=name, line=line)
    return sorted({label for label, *_ in rows})


def _hmdb_rows(originals: Originals) -> Iterator[tuple[str, str, int, int]]:
    """Yields class, file, 0 (unused), 1 (train) or 2 (test), and line of every clip."""
    column = f"split{originals.fold}"
    table = originals.optional(["hmdb51.csv"])
    if table is not None:
        for line, row in read_table(table, ["video_id", "label", column]):
            use = _use(row[column], table, line)
            yield row["label"].removesuffix("_test"), row["video_id"], use, line
        return
    ending = f"_test_{column}.txt"
    found = [p for f in _HMDB_FOLDERS for p in (originals.annotations / f).glob(f"*{ending}")]
    if not found:
        names = [f"{{class}}{ending}", "hmdb51.csv"]
        originals.official(names, "a line 'video.avi 0|1|2' for every clip of a class")
    for path in sorted(found):
        for line, text in enumerate(read_lines(path), 1):
            name, _, used = text.strip().rpartition(" ")
            if text.strip():
                yield path.name.removesuffix(ending), name.strip(), _use(used, path, line), line


def _use(text: str, path: pathlib.Path, line: int) -> int:
    if text not in ("0", "1", "2"):
        raise PlanError(
            f"{path} line {line}: '{text}' where 0 (unused), 1 (train) or 2 (test) was expected"
        )
    return int(text)


UCF101 = Definition(
    name="ucf101",
    media="video",
    settings=_SETTINGS,
    read=_ucf101,
    needs="{class}/*.avi; classInd.txt, trainlist0N.txt, testlist0N.txt (ucfTrainTestlist)",
    protocol=_PROTOCOL,
    folds=3,
)
HMDB51 = Definition(
    name="hmdb51",
    media="video",
    settings=_SETTINGS,
    read=_hmdb51,
    needs="{class}/*.avi; {class}_test_splitN.txt (testTrainMulti_7030_splits) or hmdb51.csv",
    protocol=_PROTOCOL,
    folds=3,
)
