"""How much a folder of media is, from a probe of some files: ``--dry_run`` of prepare and embed."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence

from vatt_tf.data import media
from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import Plan, Settings, Video
from vatt_tf.wording import count_of

# Files that are opened, spread evenly over the folder, and records that are made of each.
PROBED_FILES, PROBED_RECORDS = 16, 2


@dataclasses.dataclass(frozen=True)
class Length:
    """Length of some media files.

    Attributes:
        files: Files.
        bytes: Their size.
        seconds: Their length, estimated from the probed ones by size.
        probed: Files that were opened.
        unusable: Reason for each probed file that cannot be read.
    """

    files: int
    bytes: int
    seconds: float
    probed: int
    unusable: tuple[str, ...]


def spread(count: int, most: int = PROBED_FILES) -> list[int]:
    """Indices of at most ``most`` of ``count`` items, evenly spread."""
    if count <= most:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * most) for i in range(most)]


def length_of(files: Sequence[tuple[str | os.PathLike, int]]) -> Length:
    """Opens some of the files and estimates the length of all.

    Args:
        files: Path and size of each.
    """
    seconds, seen, unusable = 0.0, 0, []
    chosen = [files[index] for index in spread(len(files))]
    for path, size in chosen:
        try:
            seconds += media.probe(path).duration
            seen += size
        except media.MediaError as error:
            unusable.append(str(error))
    total = sum(size for _, size in files)
    usable = total * (1.0 - len(unusable) / max(len(chosen), 1))
    estimate = seconds / seen * usable if seen else 0.0
    return Length(len(files), total, estimate, len(chosen), tuple(unusable))


def describe_plan(plan: Plan, settings: Settings, jobs: int) -> str:
    """The lines of ``prepare --dry_run``: files, hours, gigabytes, minutes of work.

    Args:
        plan: What is going to be made.
        settings: What decides the content of the shards.
        jobs: Parallel processes.
    """
    videos = list({v.file: v for shard in plan.shards for v in shard.videos}.values())
    length = length_of([(video.path, video.size) for video in videos])
    is_image = settings.media == "image"
    stored = spent = done = 0.0
    for index in spread(len(videos)):
        began = time.perf_counter()
        found = shards.probe_video(videos[index], settings, plan.labels, PROBED_RECORDS)
        spent += time.perf_counter() - began
        stored += found.bytes
        done += found.records if is_image else found.seconds
    amount = float(len(videos)) if is_image else _kept_seconds(videos, length.seconds)
    size = stored / done * amount if done else 0.0
    work = spent / done * amount / jobs if done else 0.0
    lines = [
        _files_line(length, "" if is_image else f", about {duration(length.seconds)}"),
        f"shards      {len(plan.shards)}, about {gigabytes(size)}"
        + ("" if is_image else f" for {duration(amount)} in clips"),
        f"time        about {duration(work)} with --jobs={jobs}",
    ]
    if plan.quarantine:
        lines.append(f"left out    {count_of(len(plan.quarantine), 'file')} before any is opened")
    return "\n".join([*lines, *unusable_lines(length), "nothing was written"])


def _kept_seconds(videos: Sequence[Video], seconds: float) -> float:
    """Seconds that the rows of a manifest name; all of a video without times."""
    timed, whole = 0.0, 0
    for video in videos:
        spans = [(start, end) for start, end, _, _ in video.rows]
        if spans and all(end is not None for _, end in spans):
            timed += sum(end - (start or 0.0) for start, end in spans if end is not None)
        else:
            whole += video.size
    return timed + seconds * whole / max(sum(video.size for video in videos), 1)


def _files_line(length: Length, more: str) -> str:
    size = gigabytes(length.bytes)
    return f"files       {count_of(length.files, 'file')}, {size}{more} ({length.probed} probed)"


def describe_index(
    length: Length, clip_seconds: float, stride_seconds: float, floats: int, seconds: float
) -> str:
    """The lines of ``embed --dry_run``.

    Args:
        length: The videos to embed.
        clip_seconds: Length of a clip.
        stride_seconds: From clip to clip.
        floats: Numbers that the index stores for a clip.
        seconds: Work for a clip, measured.
    """
    # A video has a clip at each stride, and at least one.
    clips = max(round(length.seconds / stride_seconds), length.files - len(length.unusable))
    return "\n".join(
        [
            _files_line(length, f", about {duration(length.seconds)}"),
            f"index       about {count_of(clips, 'clip')} of {clip_seconds:g} s, "
            f"{gigabytes(4.0 * floats * clips)}",
            f"time        about {duration(seconds * clips)}",
            *unusable_lines(length),
            "nothing was written",
        ]
    )


def unusable_lines(length: Length, most: int = 3) -> list[str]:
    """A line on the probed files that cannot be read, if there are any."""
    if not length.unusable:
        return []
    reasons = "; ".join(length.unusable[:most])
    return [f"unusable    {len(length.unusable)} of the {length.probed} probed: {reasons}"]


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 hours``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def gigabytes(size: float) -> str:
    """``1.25 GB``; ``0.3 MB`` where it is little."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
