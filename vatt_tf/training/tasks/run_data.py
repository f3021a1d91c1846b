"""Data identity, vocabulary and classes of a run, compared whenever the run resumes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

from vatt_tf.data.schema import ANY_DISTANCE, OLDEST_CLIP, ClipSpec
from vatt_tf.data.shards.index import DataSource
from vatt_tf.data.shards.provenance import DataSet, data_sets, differences, read_data
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.errors import UserError
from vatt_tf.models.initial import CLIP_OPTIONS
from vatt_tf.models.io import CHECKPOINTS, DESCRIPTION, read_description, read_tokenizer
from vatt_tf.output_folder import listed
from vatt_tf.training.tasks.config import RunConfig
from vatt_tf.wording import count_of


@dataclasses.dataclass(frozen=True)
class StartedRun:
    """Run directory with trained weights.

    Attributes:
        folder: The run directory.
        description: Content of its model.json.
    """

    folder: str
    description: dict[str, Any]

    @property
    def labels(self) -> list[str] | None:
        """Names of the classes; None where labels are not read."""
        return self.description.get("labels")

    @property
    def clip(self) -> dict[str, Any]:
        """Fields of the clips that it was trained on, as far as model.json has them."""
        return {**OLDEST_CLIP, **self.description.get("clip", {})}

    def tokenizer(self) -> Any:
        """The run's own tokenizer, or None."""
        return read_tokenizer(self.folder)


def started_run(run_dir: str) -> StartedRun | None:
    """Returns the run in a folder; None before its first checkpoint."""
    if not os.path.exists(os.path.join(run_dir, CHECKPOINTS, "checkpoint")):
        return None
    if not os.path.exists(os.path.join(run_dir, DESCRIPTION)):
        return None
    return StartedRun(run_dir, read_description(run_dir))


def training_data(sources: Sequence[DataSource]) -> list[DataSet]:
    """Data sets of the run's sources, in order."""
    return [each for source in sources for each in data_sets(source.path, ("train",))]


def check_data(run: StartedRun, now: Sequence[DataSet], continue_on_new_data: bool) -> list[str]:
    """Compares the current data with those that the run was trained on.

    Args:
        run: The run.
        now: The data sets of this start.
        continue_on_new_data: Whether other data are permitted.

    Returns:
        Notes for the user.

    Raises:
        UserError: They are other data.
    """
    before = read_data(run.folder)
    if not before:
        return [
            f"{run.folder} was started before runs kept the identity of their data: taken to be "
            f"trained on {_names(now)}"
        ]
    changes = differences(before, now)
    if changes and not continue_on_new_data:
        raise UserError(
            f"{run.folder}: trained on {_names(before)}; now {_names(now)}: {'; '.join(changes)}. "
            "Nothing was changed: train in another --run_dir, or give --continue_on_new_data to "
            "go on with the weights and the vocabulary of this run"
        )
    if changes:
        return [f"{run.folder} goes on with other data: {_names(now)}, before {_names(before)}"]
    return [
        f"{new.path} has no identity (made by an earlier version or another program): taken for "
        "the data that the run was trained on"
        for old, new in zip(before, now, strict=True)
        if old.identity is None or new.identity is None
    ]


def _names(sets: Sequence[DataSet]) -> str:
    return " and ".join(map(str, sets))


def check_classes(run: StartedRun, labels: Sequence[str] | None, given_by: str) -> None:
    """Checks that the classes are those of the run's outputs.

    Args:
        run: The run.
        labels: Classes of this start in index order; None for a task that reads none.
        given_by: Where they come from, for the message.

    Raises:
        UserError: They are others, or in another order.
    """
    before = run.labels
    now = None if labels is None else list(labels)
    if before is None or now is None or before == now:
        return
    new = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    if new or gone:
        change = f"{listed(new) or 'none'} new, {listed(gone) or 'none'} gone"
    else:
        at = next(i for i, (old, name) in enumerate(zip(before, now, strict=True)) if old != name)
        change = f"in another order: class {at} was {before[at]}, is {now[at]}"
    raise UserError(
        f"{run.folder}: trained on {count_of(len(before), 'class', 'classes')}; {given_by} has "
        f"{len(now)}, {change}. "
        "The outputs of a run keep their classes; nothing was changed: restore them, or train in "
        "another --run_dir"
    )


def run_clip(config: RunConfig, started: StartedRun | None) -> ClipSpec:
    """The clips of a run: read as bound, else as the run that is continued has read them.

    Args:
        config: The run.
        started: The run that is continued; None for a new one.
    """
    # Before there was a distance, the nearest caption was taken however far away it was.
    before = {} if started is None else {"caption_distance": ANY_DISTANCE, **started.clip}
    options = (*CLIP_OPTIONS, "caption_distance")
    kept = {name: before[name] for name in options if name in before}
    return dataclasses.replace(config.clip, **{**kept, **config.bound_clip_options})


def check_clip(run: StartedRun, clip: ClipSpec) -> None:
    """Checks that shape and rates of the clips are those that the run was trained on.

    Raises:
        UserError: A field of ``clip`` differs from the run's model.json.
    """
    before = run.clip
    now = json.loads(json.dumps(dataclasses.asdict(clip)))
    changes = [
        f"{name} was {before[name]!r}, is {value!r}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
    if changes:
        raise UserError(
            f"{run.folder}: trained on other clips: {'; '.join(changes)}. Nothing was changed: "
            "give the configuration and the initial weights of the run, or another --run_dir"
        )


def vocabulary_notes(run: StartedRun, own: Any, file: str | None) -> list[str]:
    """Returns notes on words of the data that are not in the run's vocabulary.

    Args:
        run: The run.
        own: Its tokenizer.
        file: Vocabulary of the data, or None where there is none.
    """
    if own is None or file is None or not hasattr(own, "words"):
        return []
    try:
        words = load_tokenizer(file, own.kind, own.max_tokens).words
    except UserError:
        return []
    if words == own.words:
        return []
    unknown = [word for word in words if word not in set(own.words)]
    return [
        f"{run.folder} keeps its own vocabulary of {len(own.words)} words; of the {len(words)} in "
        f"{file} it does not know {len(unknown)}{f' ({listed(unknown)})' if unknown else ''}"
    ]
