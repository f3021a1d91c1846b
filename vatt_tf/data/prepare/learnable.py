"""Refuses a folder from which nothing can be learned before anything is decoded."""

from __future__ import annotations

import os

from vatt_tf.data.media.info import probe
from vatt_tf.data.media.tracks.container import MediaError
from vatt_tf.data.prepare.plan import Plan, PlanError, Settings
from vatt_tf.errors import HOW_TO_ADD_WORDS, PUBLISHED_WEIGHTS


def refuse_unlearnable(videos: str | os.PathLike, plan: Plan, settings: Settings) -> None:
    """Refuses videos with neither sound, captions nor classes, as those of cameras.

    Shards of them would serve no kind of training. The headers are read up to the first file with
    sound. Who stores no sound (``--sample_rate=0``) wants pictures alone: that is not refused.

    Args:
        videos: The folder, for the message.
        plan: What is going to be made.
        settings: How.

    Raises:
        PlanError: No file has sound, captions or a class.
    """
    every = [video for shard in plan.shards for video in shard.videos]
    if settings.media != "video" or not settings.sample_rate or plan.labels:
        return
    if any(video.captions or any(row[3] for row in video.rows) for video in every):
        return
    readable = 0
    for path in dict.fromkeys(video.path for video in every):
        try:
            info = probe(path)
        except (MediaError, OSError):
            continue  # it gets its reason when its clips are read
        if info.has_audio:
            return
        readable += info.has_video
    if readable:
        raise PlanError(
            f"{videos}: none of the {readable} videos has sound, captions or a class, so there is "
            "nothing that a clip could be learned from. Nothing was written: add sound, or "
            f"{HOW_TO_ADD_WORDS}; {PUBLISHED_WEIGHTS}. To store the pictures alone, give "
            "--sample_rate=0"
        )
