"""Kinetics-400, -600 and -700: ten seconds of YouTube videos, one class each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vatt_tf.data.datasets.originals import Definition, Originals, read_table, seconds

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_SPLITS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


def _reader(classes: int) -> Callable[[Originals], Sequence[str]]:
    def names(split: str) -> list[str]:
        prefixes = ("", f"kinetics{classes}_", f"kinetics_{classes}_", f"kinetics-{classes}_")
        return [f"{prefix}{name}.csv" for prefix in prefixes for name in _SPLITS[split]]

    def read(originals: Originals) -> Sequence[str]:
        labels: set[str] = set()
        for split in _SPLITS:
            if split == "test":  # published later, without labels at first
                path = originals.optional(names(split))
            else:
                holds = f"{','.join(_COLUMNS)},split for every {split} clip"
                path = originals.official(names(split), holds)
            if path is None:
                continue
            needed = 1 if split == "test" else 0
            for line, row in read_table(path, _COLUMNS[needed:], optional=_COLUMNS[:needed]):
                label = row.get("label", "")
                if split == "train":
                    labels.add(label)
                if label:
                    _add(originals, split, row, f"{path} line {line}", line)
        return sorted(labels)

    return read


def _add(originals: Originals, split: str, row: dict[str, str], where: str, line: int) -> None:
    video, label = row["youtube_id"], row["label"]
    start, end = (seconds(row[name], where) for name in ("time_start", "time_end"))
    name = f"{video}_{int(start):06d}_{int(end):06d}"
    file = originals.find(f"{label}/{name}", name)
    if file is not None:
        originals.add(file, split, [label])
        return
    whole = originals.find(video)  # the video was not cut yet
    originals.add(whole, split, [label], name=f"{name}.mp4", span=(start, end), line=line)


def _kinetics(classes: int) -> Definition:
    return Definition(
        name=f"kinetics{classes}",
        media="video",
        settings={"frame_rate": 25.0, "short_side": 320, "cut": "whole"},
        read=_reader(classes),
        needs=(
            "{youtube_id}_{start:06d}_{end:06d}.mp4 in any folders (or whole videos, "
            "{youtube_id}.mp4); train.csv, val.csv (or validate.csv), optionally test.csv"
        ),
        protocol="train, val, test; 4 windows x 3 crops of 320 pixels on val",
    )


KINETICS = tuple(_kinetics(classes) for classes in (400, 600, 700))
