"""The progress bar of ``prepare``."""

from __future__ import annotations

from typing import Any

from vatt_tf.data.prepare.plan import Shard
from vatt_tf.progress_bar import progress_bar


class Progress:
    """Progress bar over the bytes of the videos, with ETA.

    Args:
        every: All shards.
        todo: Those that are made now.
        quiet: No bar.
    """

    def __init__(self, every: list[Shard], todo: list[Shard], quiet: bool):
        self._sizes: dict[str, int] = {}
        for shard in todo:
            for video in shard.videos:
                self._sizes[video.file] = self._sizes.get(video.file, 0) + video.size
        self._shares: dict[str, float] = {}
        self._total = sum(video.size for shard in every for video in shard.videos)
        self._done_before = self._total - sum(self._sizes.values())
        self._videos = len(self._sizes)
        self._finished: set[str] = set()
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if not self._quiet:
            self._bar = progress_bar("preparing", self._total, "B", initial=self._done_before)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def report(self, event: str, file: str, share: float) -> None:
        """Takes a report of a worker."""
        if self._bar is None:
            return
        if event == "done":
            self._finished.add(file)
            share = 1.0
        grown = share - self._shares.get(file, 0.0)
        if grown > 0:
            self._shares[file] = share
            self._bar.update(grown * self._sizes.get(file, 0))
        self._bar.set_postfix_str(f"{len(self._finished)} of {self._videos} videos", refresh=False)
