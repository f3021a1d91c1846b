"""YouCook2 and MSR-VTT: captioned videos for text-to-video retrieval."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from vatt_tf.data.datasets.originals import (
    Definition,
    Originals,
    read_object,
    read_table,
    seconds,
)
from vatt_tf.data.prepare.plan import PlanError

_SUBSETS = {"training": "train", "validation": "val", "testing": "test"}
_VTT_SPLITS = {"train": "train", "validate": "val", "test": "test"}


def _youcook2(originals: Originals) -> Sequence[str]:
    names = ["youcookii_annotations_trainval.json", "validation_youcook.csv"]
    json = originals.optional(names[:1])
    if json is None:
        holds = "every segment with its sentence (end,start,task,text,video_id)"
        path = originals.official(names, holds)
        for line, row in read_table(path, ["start", "end", "text", "video_id"]):
            start, end = (seconds(row[name], f"{path} line {line}") for name in ("start", "end"))
            video, text = row["video_id"], row["text"]
            file = originals.find(video)
            span = (start, end)
            originals.add(file, "val", name=video, span=span, captions=[text], line=line)
        return ()
    for video, entry in read_object(json, "database").items():
        try:
            split = _SUBSETS[entry["subset"]]
            segments = [(*map(float, s["segment"]), s["sentence"]) for s in entry["annotations"]]
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"{json}: video {video} has no subset and annotations") from error
        file = originals.find(video)
        for start, end, text in segments:
            originals.add(file, split, name=video, span=(start, end), captions=[text])
    return ()


def _msrvtt(originals: Originals) -> Sequence[str]:
    test = originals.optional(["msrvtt_test.csv", "MSRVTT_JSFUSION_test.csv"])
    names = ["MSRVTT_data.json", "train_val_videodatainfo.json"]
    json = originals.optional(names)
    if test is None and json is None:
        originals.official(
            ["msrvtt_test.csv", *names],
            "the pairs of the 1k test (key,vid_key,video_id,sentence), or all videos and sentences",
        )
    held: set[str] = set()
    if test is not None:
        for line, row in read_table(test, ["video_id", "sentence"]):
            video = row["video_id"]
            held.add(video)
            file = originals.find(video)
            originals.add(file, "test", name=video, captions=[row["sentence"]], line=line)
    if json is not None:
        _add_videos(originals, json, held)
    return ()


def _add_videos(originals: Originals, json: pathlib.Path, held: set[str]) -> None:
    """The videos of the official file; beside the 1k test without its other test videos."""
    sentences: dict[str, list[str]] = {}
    try:
        for entry in read_object(json, "sentences"):
            sentences.setdefault(entry["video_id"], []).append(entry["caption"])
        videos = {v["video_id"]: _VTT_SPLITS[v["split"]] for v in read_object(json, "videos")}
    except (KeyError, TypeError) as error:
        raise PlanError(f"{json}: a video or sentence lacks {error}") from error
    for video, split in videos.items():
        if video not in held and not (held and split == "test"):
            file = originals.find(video)
            originals.add(file, split, name=video, captions=sentences.get(video, ()))


_SETTINGS = {"frame_rate": 25.0, "short_side": 256, "cut": "whole", "max_clip_seconds": 300.0}
YOUCOOK2 = Definition(
    name="youcook2",
    media="video",
    settings=_SETTINGS,
    read=_youcook2,
    needs="{youtube_id}.mp4; youcookii_annotations_trainval.json or validation_youcook.csv",
    protocol="training: train, validation: val; zero-shot retrieval, 4 windows, mean embedding",
)
MSRVTT = Definition(
    name="msrvtt",
    media="video",
    settings=_SETTINGS,
    read=_msrvtt,
    needs=(
        "video0.mp4, video1.mp4 ...; msrvtt_test.csv (1k test) and/or MSRVTT_data.json "
        "(train_val_videodatainfo.json)"
    ),
    protocol="train, val; the 1k pairs: test; zero-shot retrieval, 4 windows, mean embedding",
)
