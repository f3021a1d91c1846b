"""Makes shards in processes of this machine, with a progress bar."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf import keras_imports
from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import Settings, Shard
from vatt_tf.data.prepare.runners import workers
from vatt_tf.data.prepare.runners.progress import Progress
from vatt_tf.errors import UserError

MOST_CRASHES = 2


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
        keras_imports.import_lean("tensorflow")  # It brings Keras.
        for shard in todo:
            yield shards.build_shard(shard, settings, out, progress.report)
        return
    crashes: Counter[tuple[str, str]] = Counter()

    def on_crash(crash: workers.Crash) -> tuple:
        """Once more; a file that brings the process down twice is quarantined."""
        shard = todo[crash.index]
        shards.remove_unfinished(shard, out)
        event, file = crash.report[:2] if crash.report else ("", "")
        if event == "done":  # between two files, or behind the last one
            file = ""
        crashes[shard.name, file] += 1
        if crashes[shard.name, file] < MOST_CRASHES:
            return shard, settings, out
        if not file:
            raise UserError(
                f"{shard.name}: its process died {MOST_CRASHES} times ({crash.cause}), at no file "
                "in particular. Finished shards are kept: free some memory, or give fewer --jobs, "
                "and run the same command again"
            )
        # The system kills what takes too much memory, which others may have taken.
        if crash.killed:
            shard.retry.add(file)
        shard.skip[file] = f"the decoder crashed twice on this file ({crash.cause})"
        return shard, settings, out

    def on_report(index: int, content: tuple) -> None:
        progress.report(*content)

    tasks = [(shard, settings, out) for shard in todo]
    for _, account in workers.run_tasks(shards.build_shard, tasks, jobs, on_report, on_crash):
        yield account
