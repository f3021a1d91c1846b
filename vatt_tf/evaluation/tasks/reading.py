"""Opens and iterates over the records of an evaluation: clip shape, progress, errors by record."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vatt_tf.data.input import pipeline
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.evaluation.job import Job
from vatt_tf.evaluation.source import EvaluationSource
from vatt_tf.progress_bar import progress_bar


def open_records(
    job: Job,
    found: EvaluationSource,
    clip: ClipSpec,
    tokenizer: Any,
    label_names: Sequence[str] | None = None,
    windows: int | None = None,
) -> Any:
    """Returns the data set of an evaluation.

    Args:
        job: Gives views and batch size.
        found: Where the records are.
        clip: Shape of the model's clips. One caption a clip is the protocol; the
            neighbours are for training.
        tokenizer: Of the model, or None.
        label_names: Classes, for ``labels`` in the batches.
        windows: Windows a clip, instead of those of the views.
    """
    return pipeline.evaluation_dataset(
        found.data_source(),
        dataclasses.replace(clip, texts=1),
        tokenizer,
        batch_size=job.options.batch_size,
        windows=windows or job.views.windows,
        crops=job.views.crops,
        label_names=label_names,
    )


def minimal_clip_spec(clip: ClipSpec, modalities: Sequence[str]) -> ClipSpec:
    """Minimal clip specification: without what the model does not read, since decoding costs most.

    The number of frames stays: it places the windows.
    """
    if "audio" not in modalities:
        clip = dataclasses.replace(clip, audio="none")
    if "video" not in modalities:
        clip = dataclasses.replace(clip, height=16, width=16)
    return clip


@contextlib.contextmanager
def reading(
    job: Job, found: EvaluationSource, doing: str
) -> Iterator[Callable[[int], None] | None]:
    """Context of a pass over records: errors name the record, a bar shows the progress.

    Yields:
        Function that takes the number of clips done, or None when nothing is to be shown.
    """
    with read_errors(found.path, splits=pipeline.EVALUATION_SPLITS):
        if job.quiet:
            yield None
            return
        total = min((x for x in (found.records, job.options.limit) if x), default=None)
        with progress_bar(doing, total, "clips") as bar:
            yield lambda done: bar.update(done - bar.n)
