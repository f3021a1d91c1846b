"""AudioSet: ten seconds of YouTube sound with any number of 527 classes each."""

from __future__ import annotations

from collections.abc import Sequence

from vatt_tf.data.datasets.originals import Definition, Once, Originals, read_table, seconds
from vatt_tf.data.prepare.plan import PlanError

_SEGMENTS = {
    "balanced_train_segments.csv": "train",
    "unbalanced_train_segments.csv": "train",
    "eval_segments.csv": "val",
}
_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


def _read(originals: Originals) -> Sequence[str]:
    path = originals.official(["class_labels_indices.csv"], "index,mid,display_name of every class")
    classes, indices = Once(path, "class"), Once(path, "index")
    for line, row in read_table(path, ["index", "mid", "display_name"]):
        if not row["index"].isdecimal():
            raise PlanError(f"{path} line {line}: index '{row['index']}' is no whole number")
        classes.add(row["mid"], row["display_name"], line)
        indices.add(int(row["index"]), row["display_name"], line)
    names, order = classes.values, indices.values
    holds = f"{', '.join(_COLUMNS)} of every segment"
    originals.official(["eval_segments.csv"], holds)
    originals.official(["balanced_train_segments.csv", "unbalanced_train_segments.csv"], holds)
    for name, split in _SEGMENTS.items():
        table = originals.optional([name])
        if table is None:
            continue
        for line, row in read_table(table, _COLUMNS, header=False):
            labels = []
            for mid in map(str.strip, row["positive_labels"].split(",")):
                if mid not in names:
                    raise PlanError(f"{table} line {line}: the class {mid} is not in {path.name}")
                labels.append(names[mid])
            start = seconds(row["start_seconds"], f"{table} line {line}")
            end = seconds(row["end_seconds"], f"{table} line {line}")
            file = originals.find(*_stems(row["YTID"], start, end))
            originals.add(file, split, labels, name=row["YTID"], line=line)
    return [order[index] for index in sorted(order)]


def _stems(video: str, start: float, end: float) -> list[str]:
    """The names under which tools store the segment."""
    spans = (f"{start:.3f}_{end:.3f}", f"{start:g}_{end:g}")
    milliseconds = (f"{start * 1000:.0f}_{end * 1000:.0f}", f"{start * 1000:.0f}")
    names = [f"{video}_{times}" for times in (*spans, *milliseconds, f"{start:g}")] + [video]
    return names + [f"Y{name}" for name in names]


AUDIOSET = Definition(
    name="audioset",
    media="audio",
    # A whole video in place of a segment is refused by its length.
    settings={"cut": "whole", "frame_rate": 25.0, "max_clip_seconds": 15.0},
    read=_read,
    needs=(
        "the segments, cut out, as {YTID}_{start}_{end} (seconds or milliseconds), {YTID} or "
        "Y{YTID}, sound or video; class_labels_indices.csv, eval_segments.csv, "
        "balanced_train_segments.csv and/or unbalanced_train_segments.csv"
    ),
    protocol="both train lists: train, evaluation list: val; multi-label, 4 windows",
)
