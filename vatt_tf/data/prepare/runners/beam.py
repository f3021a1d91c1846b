"""The same shards from an Apache Beam pipeline: one element a shard, spread over Beam's workers.

The runner and its machines are chosen with Beam's own flags. Videos and shards folder must be
reachable by every worker under the same path (a network disk or a mounted bucket).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import Settings, Shard
from vatt_tf.errors import UserError


class BeamError(UserError):
    """Beam is not installed or its pipeline failed."""


@dataclasses.dataclass(frozen=True)
class _BuildShard:
    """What a Beam worker does with a shard of the plan."""

    settings: Settings
    out: str

    def __call__(self, shard: Shard) -> str:
        return shards.build_shard(shard, self.settings, self.out)["file"]


def build_shards(
    todo: Sequence[Shard], settings: Settings, out: str | os.PathLike, options: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Builds shards with Beam and yields their accounts.

    Args:
        todo: Shards of the plan that are not finished.
        settings: What decides the content of the shards.
        out: The shards folder.
        options: Beam's own flags, e.g. ``--runner=FlinkRunner``; the DirectRunner by default.

    Raises:
        BeamError: Beam is not installed, a flag is wrong, or the pipeline failed.
    """
    if not todo:
        return
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise BeamError(
            "--runner=beam needs Apache Beam: pip install 'vatt_tf[beam]' (or use --runner=local)"
        ) from error
    out = str(pathlib.Path(out).absolute())
    try:
        pipeline_options = PipelineOptions(list(options))
        pipeline_options.display_data()  # parses the flags now
    except SystemExit as error:
        raise BeamError(f"Beam does not understand its flags: {' '.join(options)}") from error
    try:
        with beam.Pipeline(options=pipeline_options) as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create(list(todo))
                | "Spread" >> beam.Reshuffle()
                | "Build" >> beam.Map(_BuildShard(settings, out))
            )
    except UserError:
        raise
    except (RuntimeError, OSError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        message = lines[-1] if lines else type(error).__name__
        raise BeamError(
            f"the Beam pipeline failed: {message}. Finished shards are kept: run the same command "
            "again"
        ) from error
    for shard in todo:
        account = shards.finished_shard(shard, settings, out)
        if account is None:
            raise BeamError(
                f"Beam finished, but {shard.name} is not in {out}: its workers must see the same "
                "folder under the same path"
            )
        yield account
