"""Makes shards in processes of this machine, with a progress bar."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import Settings, Shard
from vatt_tf.data.prepare.runners import workers
from vatt_tf.data.prepare.runners.progress import Progress


def build_shards(
    todo: Sequence[Shard], settings: Settings, out: pathlib.Path, jobs: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Builds shards and yields their accounts as they are finished.

    Args:
        todo: Shards of the plan that are not finished.
        settings: What decides the content of the shards.
        out: The shards folder.
        jobs: Parallel processes; 1 works in this process.
        progress: Takes what the processes report.
    """
    if jobs == 1:
        for shard in todo:
            yield shards.build_shard(shard, settings, out, progress.report)
        return
    crashed: set[str] = set()

    def on_crash(crash: workers.Crash) -> tuple | None:
        """Once more; a file that brings the process down twice is quarantined."""
        shard = todo[crash.index]
        if crash.report is None or crash.report[0] == "done":
            return None
        file = crash.report[1]
        if file in crashed:
            shard.skip[file] = f"the decoder crashed twice on this file ({crash.cause})"
        crashed.add(file)
        return shard, settings, out

    def on_report(index: int, content: tuple) -> None:
        progress.report(*content)

    tasks = [(shard, settings, out) for shard in todo]
    for _, account in workers.run_tasks(shards.build_shard, tasks, jobs, on_report, on_crash):
        yield account
