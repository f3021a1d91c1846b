"""Pre-training: a VATT from clips and their captions, scored by retrieval."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from vatt_tf import paths
from vatt_tf.data.input.pipeline import EVALUATION_SPLITS, TRAINING_SPLITS
from vatt_tf.data.schema import MODALITIES
from vatt_tf.data.shards.contents import contents
from vatt_tf.data.shards.index import HOW_TO_MAKE_SHARDS, index_source
from vatt_tf.data.shards.summary import read_inventory, refuse_shared
from vatt_tf.data.text.tokenizer import TOKENIZERS, load_tokenizer
from vatt_tf.errors import UserError
from vatt_tf.evaluation.source import find_source
from vatt_tf.losses.objective import chance_level_loss
from vatt_tf.models.initial import changed_options
from vatt_tf.models.io import load_pretrained, read_description, save_description
from vatt_tf.models.transfer import transfer_common_towers, transfer_weights
from vatt_tf.models.vatt import VATT, build_vatt
from vatt_tf.training.gradients.contrastive import Gather, PretrainStep
from vatt_tf.training.monitoring.guards import Chance, Guard, Temperature
from vatt_tf.training.tasks.config import TrainConfig
from vatt_tf.training.tasks.evaluator import RetrievalEvaluator
from vatt_tf.training.tasks.modalities import check_held_out, with_towers_of_data
from vatt_tf.training.tasks.run_data import StartedRun, run_clip
from vatt_tf.training.tasks.task import Task
from vatt_tf.wording import count_of


class Pretraining(Task):
    """Pre-training task, see :class:`vatt_tf.training.tasks.task.Task`.

    Args:
        config: The run.
        started: The run that is continued: it keeps its vocabulary. None for a new one.

    Raises:
        UserError: If data, vocabulary or initial weights cannot be used.
    """

    config: TrainConfig
    metric = "mean R@10"

    def __init__(self, config: TrainConfig, started: StartedRun | None = None) -> None:
        self.config, self.notes = with_towers_of_data(config, started)
        check_held_out(self.config)
        self.notes += [*_repeated_clips(self.config), *_shared_clips(self.config)]
        self.clip = run_clip(self.config, started)
        own = None if started is None else started.tokenizer()
        self.tokenizer = own
        if own is None and "text" in self.config.model.modalities:
            self.tokenizer = make_tokenizer(self.config)

    def vocabulary_file(self) -> str | None:
        """Vocabulary of a new run; None without one."""
        try:
            return vocabulary_file(self.config)
        except UserError:
            return None

    def model(self) -> VATT:
        """Builds the model with its initial weights."""
        return make_model(self.config, self.tokenizer)

    def describe(self, folder: str, **extra: Any) -> None:
        """Writes ``model.json``."""
        config = self.config
        extra |= {"eval_data": config.eval_data, "seed": config.seed}
        save_description(folder, config.model, self.clip, self.tokenizer, **extra)

    def evaluator(self, model: Any) -> RetrievalEvaluator:
        """Returns the evaluator of the evaluation data."""
        return RetrievalEvaluator(model, self.config.eval_data or "", self.clip, self.tokenizer)

    def guards(self, batch_size: int) -> list[Guard]:
        """Health checks of the chance-level losses and of the temperature."""
        config = self.config
        guess = chance_level_loss(config.objective, batch_size, config.texts)
        return [
            Chance(config.guards, {f"loss/{name}": value for name, value in guess.items()}),
            Temperature(config.guards, config.objective.temperature),
        ]

    def score(self, metrics: dict[str, float]) -> float:
        """Mean R@10 of all directions."""
        return float(np.mean([value for name, value in metrics.items() if name.endswith("/R@10")]))


def _repeated_clips(config: TrainConfig) -> Iterator[str]:
    """A note for each source with fewer clips than a batch has of it."""
    weights = sum(source.weight for source in config.data)
    for source in config.data:
        share = (config.batch_size or 8) * source.weight / weights
        count = contents([source], TRAINING_SPLITS)
        if count is None:
            records = index_source(source, TRAINING_SPLITS, tolerate_damage=True).records
        else:
            records = count.records
        times = math.ceil(share) / max(records, 1)
        if times > 1:
            yield (
                f"{source.path} has {count_of(records, 'clip')}, a batch takes {share:g} of it: it "
                "holds clips several times, as negatives of themselves, so that no model gets a "
                f"contrastive loss below about ln {times:.3g} = {math.log(times):.2f}; with "
                f"BATCH_SIZE up to {max(2, int(records * weights / source.weight))} it can reach 0"
            )


def _shared_clips(config: TrainConfig) -> list[str]:
    """Refuses to evaluate on training clips; notes on shards of which it cannot be told.

    Raises:
        UserError: A held-out clip is a training clip.
    """
    if not config.evaluate_every or not config.eval_data or config.allow_shared_clips:
        return []
    source = find_source(config.eval_data).data_source()
    held_out = read_inventory(source, EVALUATION_SPLITS)
    notes = []
    for data in config.data:
        clips = read_inventory(data, TRAINING_SPLITS, like=held_out)
        refuse_shared(clips, held_out, config.name)
        if clips.unread:
            notes.append(
                f"{data.path}: {count_of(clips.unread, 'shard')} without a table of clips "
                f"(clips/*.csv), too large to be read: whether clips of {config.eval_data} are "
                "in them is not known"
            )
    return notes


def make_step(
    config: TrainConfig, model: Any, micro_batch_size: int, gather: Gather = tf.identity
) -> PretrainStep:
    """Returns the gradient computation, a ``PretrainStep``."""
    return PretrainStep(model, config.objective, micro_batch_size, gather, config.jit_compile)


def make_tokenizer(config: TrainConfig) -> Any:
    """The configured tokenizer, checked against the model's vocabulary."""
    needs_file = TOKENIZERS[config.tokenizer].needs_file
    file = vocabulary_file(config) if needs_file else config.tokenizer
    tokenizer = load_tokenizer(file, config.tokenizer, config.model.text.max_tokens)
    if tokenizer.vocab_size > config.model.text.vocab_size:
        raise UserError(
            f"{file}: {tokenizer.vocab_size} tokens, but text_tower.vocab_size is "
            f"{config.model.text.vocab_size}; raise it or make a smaller vocabulary"
        )
    return tokenizer


def vocabulary_file(config: TrainConfig) -> str:
    """Vocabulary of a new run: the configured file, that of the weights, or that of the data."""
    return config.tokenizer_file or _with_weights(config) or tokenizer_beside(config.data[0].path)


def _with_weights(config: TrainConfig) -> str | None:
    """Tokenizer of the initial weights, to which their word table belongs."""
    if config.initial_weights is None:
        return None
    description = read_description(config.initial_weights)
    stored = description["tokenizer"]
    if stored is None and "text" not in (description["model"].get("modalities") or MODALITIES):
        return None
    if stored is None:
        raise UserError(
            f"train.initial_weights={config.initial_weights}: holds no vocabulary; convert it with "
            "--vocabulary, or set train.tokenizer_file to the one that it was trained with"
        )
    return os.path.join(config.initial_weights, stored["file"])


def tokenizer_beside(path: str | tuple[str, ...]) -> str:
    """The ``tokenizer`` folder that ``prepare`` writes above the splits."""
    shards = pathlib.Path(paths.expand(path if isinstance(path, str) else path[0]))
    found = paths.find(str(shards))
    for place in (shards, *map(pathlib.Path, found[:1])):
        for folder in (place, *place.parents[:2]):
            if (folder / "tokenizer").is_dir():
                return paths.as_text(folder / "tokenizer")
    if not found:
        raise UserError(f"{shards}: nothing there; {HOW_TO_MAKE_SHARDS}")
    raise UserError(f"{shards}: no folder tokenizer/ beside these shards; set train.tokenizer_file")


def _transfer(source: VATT, model: VATT, name: str) -> list[str]:
    """Transfers the initial weights of the towers that the run has."""
    new = [tower for tower in model.towers if tower not in source.towers]
    if not new or not set(source.towers) <= set(model.towers):
        return transfer_weights(source, model, name)
    tables = transfer_common_towers(source, model, name)
    what = "" if source.config.head == model.config.head else ", and so do the common spaces"
    print(f"{name}: has no {' and no '.join(new)} tower: it starts from random weights{what}")
    return tables


def make_model(config: TrainConfig, tokenizer: Any) -> VATT:
    """Builds a model with its initial weights, a function of Keras's seed."""
    model = build_vatt(config.model)
    if config.initial_weights is not None:
        for line in changed_options(config.initial_weights, config.clip, config.name):
            print(line)
        source, _, _ = load_pretrained(config.initial_weights)
        for path in _transfer(source, model, config.initial_weights):
            print(f"{config.initial_weights}: {path} interpolated to {config.clip}")
    if config.word_vectors is not None:
        from vatt_tf.data.text.word_vectors import load_word_vectors

        vectors, missing = load_word_vectors(config.word_vectors, tokenizer.words)
        # The table may have more rows than the vocabulary has words; no id refers to them.
        unused = max(config.model.text.vocab_size - len(vectors), 0)
        model.set_word_vectors(np.pad(vectors, ((0, unused), (0, 0))))
        print(f"{config.word_vectors}: no vector for {len(missing)} of {len(vectors)} words")
    return model
