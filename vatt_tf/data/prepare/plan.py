"""What a preparation is: its settings, and the shards with the videos of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from vatt_tf.data.media.scan import MEDIA_SUFFIXES
from vatt_tf.errors import UserError

CUTS = ("fixed", "captions", "whole")

Part = tuple[float, float | None]  # start and end in seconds; None: the end of the file
Span = tuple[float | None, float | None, list[str], list[str]]  # start, end, labels, captions


class PlanError(UserError):
    """Settings or a folder from which no shards can be made."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the content of the shards.

    Attributes:
        frame_rate: Stored frames per second.
        short_side: Largest short side of the stored frames, pixels (never enlarged).
        jpeg_quality: 1 to 95.
        sample_rate: Stored samples per second; 0 stores no sound.
        cut: How a video without times in the manifest is cut: ``fixed`` (one clip after the
            other), ``captions`` (one clip around each caption), ``whole`` (one clip).
        clip_seconds: Length of a fixed clip; least length of a clip around a caption.
        min_clip_seconds: A shorter rest at the end of a video is left out.
        max_clip_seconds: A longer clip is refused.
        val_fraction: Share of the videos held out as ``val`` when no manifest says which; of fewer
            than 5 files the end of each.
        num_shards: Shards of each split; 0 chooses by the size of the input.
        language: Preferred language among ``name.<language>.vtt`` side-car files.
        media: ``video`` (frames and sound), ``audio`` (sound alone, also that of videos) or
            ``image`` (records of one frame).
    """

    frame_rate: float = 10.0
    short_side: int = 256
    jpeg_quality: int = 90
    sample_rate: int = 48_000
    cut: str = "fixed"
    clip_seconds: float = 10.0
    min_clip_seconds: float = 1.0
    max_clip_seconds: float = 120.0
    val_fraction: float = 0.0
    num_shards: int = 0
    language: str = "en"
    media: str = "video"

    def __post_init__(self) -> None:
        def check(name: str, good: bool, expected: str) -> None:
            if not good:
                raise PlanError(f"--{name} is {getattr(self, name)!r}, expected {expected}")

        check("frame_rate", 0 < self.frame_rate <= 1000, "frames per second above 0")
        check("short_side", 1 <= self.short_side <= 8192, "pixels from 1 to 8192")
        check("jpeg_quality", 1 <= self.jpeg_quality <= 95, "1 to 95")
        rate = self.sample_rate
        check("sample_rate", rate == 0 or 1000 <= rate <= 384_000, "1000 to 384000, or 0: no sound")
        check("media", self.media in MEDIA_SUFFIXES, " or ".join(MEDIA_SUFFIXES))
        if self.media == "audio":
            check("sample_rate", rate > 0, "samples per second above 0, with --media=audio")
        check("cut", self.cut in CUTS, " or ".join(CUTS))
        least = 0.0 if self.cut == "captions" else 1.0 / self.frame_rate
        check("clip_seconds", least <= self.clip_seconds, f"seconds, at least {least:g}")
        check("min_clip_seconds", self.min_clip_seconds >= 0, "seconds, 0 or more")
        check("max_clip_seconds", self.max_clip_seconds > 0, "seconds above 0")
        if self.cut == "fixed" and self.clip_seconds > self.max_clip_seconds:
            raise PlanError(
                f"--clip_seconds is {self.clip_seconds:g}, more than "
                f"--max_clip_seconds={self.max_clip_seconds:g}"
            )
        check("val_fraction", 0 <= self.val_fraction < 1, "0 or more and less than 1")
        check("num_shards", self.num_shards >= 0, "a number of shards, or 0 to choose")

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return dataclasses.asdict(self)


@dataclasses.dataclass
class Video:
    """A video (or the part of it that belongs to one split) and what is known about it.

    Attributes:
        file: Path relative to the videos folder, with forward slashes.
        path: Path to open.
        split: Name of the split.
        size: Bytes.
        changed: Time of the last change, ns.
        rows: (start, end, labels, captions) from the manifest CSV; empty without one.
        captions: Path of the side-car file, or None.
        captions_state: Size and time of the last change of the side-car file.
        part: Start and end in seconds (None: the end) of what belongs to the split when the file
            is split by time; None for the whole file.
    """

    file: str
    path: str
    split: str
    size: int
    changed: int
    rows: list[Span]
    captions: str | None = None
    captions_state: tuple[int, int] | None = None
    part: Part | None = None

    def content(self) -> tuple[Any, ...]:
        """All values; those of a whole file are what they were before files could be split."""
        values = dataclasses.astuple(self)
        return values[:-1] if self.part is None else values


@dataclasses.dataclass
class Shard:
    """The videos of one shard, in order.

    Attributes:
        name: ``train/train-00000-of-00004.tfrecord``.
        split: Name of the split.
        videos: Videos in the order in which their clips are stored.
        labels: All label names of the data set in index order.
        skip: Reason by file for videos that must not be opened (they crashed the decoder).
        retry: Those of them that may be opened in another run.
    """

    name: str
    split: str
    videos: list[Video]
    labels: list[str]
    skip: dict[str, str] = dataclasses.field(default_factory=dict)
    retry: set[str] = dataclasses.field(default_factory=set)

    def fingerprint(self, settings: Settings) -> str:
        """Changes when anything changes that the bytes of the shard depend on."""
        indices = {label: index for index, label in enumerate(self.labels)}
        content = [
            settings.as_dict(),
            self.name,
            [video.content() for video in self.videos],
            [indices[label] for v in self.videos for row in v.rows for label in row[2]],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass
class Plan:
    """All shards, and what was found wrong before any video was opened.

    Attributes:
        shards: Shards of all splits.
        labels: Class names in index order.
        quarantine: Files and lines that are left out, with the reason.
        warnings: What was mended or ignored.
        videos: Number of files.
        columns: Known columns of the manifest CSV; empty without one.
        held_out: ``by file`` or ``by time`` where ``--val_fraction`` decides; "" else.
    """

    shards: list[Shard]
    labels: list[str]
    quarantine: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    videos: int
    columns: tuple[str, ...] = ()
    held_out: str = ""
