"""Towers of a pre-training run: those of the modalities that its clips have.

A tower whose modality no clip has would keep its random weights and give plausible, meaningless
embeddings. The run has no such tower, so that nothing later can use it.
"""

from __future__ import annotations

import dataclasses

from vatt_tf.data.input.pipeline import EVALUATION_SPLITS, TRAINING_SPLITS
from vatt_tf.data.schema import MODALITIES
from vatt_tf.data.shards.contents import contents
from vatt_tf.errors import HOW_TO_ADD_WORDS, PUBLISHED_WEIGHTS, UserError
from vatt_tf.evaluation.source import find_source
from vatt_tf.models.io import read_description
from vatt_tf.training.tasks.config import TrainConfig
from vatt_tf.training.tasks.run_data import StartedRun


def with_towers_of_data(
    config: TrainConfig, started: StartedRun | None
) -> tuple[TrainConfig, list[str]]:
    """Returns the run without the towers that its data cannot train.

    A run that is continued keeps the towers that it has. Shards without a manifest count as having
    what the configuration reads, and so do initial weights: their towers were trained before.

    Args:
        config: The run as configured.
        started: The run that is continued, or None.

    Returns:
        The run as it is trained, and notes for the user.

    Raises:
        UserError: The clips have neither sound nor captions, or the configured run learns from
            nothing else than what is absent.
    """
    counts = contents(config.data, TRAINING_SPLITS)
    absent = set()
    if counts is not None and counts.records:
        absent |= set() if counts.with_audio else {"audio"}
        # Counted are captions in clips; whether some lie near enough only the records tell.
        absent |= set() if counts.with_captions or config.caption_distance else {"text"}
    shown = ", ".join(str(source.path) for source in config.data)
    if absent == {"audio", "text"}:
        raise UserError(
            f"{shown}: no clip has sound and none has captions, so there is nothing that a clip "
            f"could be learned from. Add sound, or {HOW_TO_ADD_WORDS}; {PUBLISHED_WEIGHTS}"
        )
    configured = config.model.modalities
    if started is not None:
        own = started.description.get("model", {}).get("modalities") or MODALITIES
        gone = [name for name in configured if name not in own]
        notes = [
            f"{started.folder} was started on clips without {_WHAT[name]} and stays without a "
            f"tower for them; to learn from them, train in another --run_dir, with "
            f"train.initial_weights='{started.folder}' to keep what is learned"
            for name in gone
            if name not in absent
        ]
        return _without(config, gone, shown), notes
    if config.initial_weights is not None:
        trained = read_description(config.initial_weights).get("model", {})
        absent -= set(trained.get("modalities") or MODALITIES)
    gone = [name for name in configured if name in absent]
    return _without(config, gone, shown), [_note(name, shown) for name in gone]


def check_held_out(config: TrainConfig) -> None:
    """Checks that the held-out clips can be evaluated; else the first evaluation would fail.

    Raises:
        UserError: The run evaluates, and no held-out clip has what its towers compare.
    """
    if not config.evaluate_every or not config.eval_data:
        return
    counts = contents([find_source(config.eval_data).data_source()], EVALUATION_SPLITS)
    if counts is None:
        return
    words = counts.with_captions or bool(config.caption_distance)
    there = {"audio": counts.with_audio, "text": words}
    compared = [name for name in config.model.modalities if name in there]
    if not any(there[name] for name in compared):
        what = " or ".join(_WHAT[name] for name in compared)
        raise UserError(
            f"{config.eval_data}: none of the {counts.records} held-out clips has {what}, so there "
            "is nothing to evaluate them by: hold out more (prepare --val_fraction), or train with "
            "EVAL_DATA=None and train.evaluate_every=0"
        )


_WHAT = {"audio": "sound", "text": "captions"}


def _note(modality: str, shown: str) -> str:
    if modality == "text":
        return (
            f"no clip of {shown} has captions: the run trains the towers for video and sound and "
            f"has no text tower, so it can be searched by example and by sound, not by words. To "
            f"add words, {HOW_TO_ADD_WORDS}"
        )
    return (
        f"no clip of {shown} has sound: the run trains the towers for video and text and has no "
        "audio tower, so it can be searched by example and by words, not by sound"
    )


def _without(config: TrainConfig, gone: list[str], shown: str) -> TrainConfig:
    """Returns the run without some towers and their losses."""
    if not gone:
        return config
    what = " and ".join(_WHAT[name] for name in gone)
    model, objective = config.model, config.objective
    kept = [name for name in model.modalities if name not in gone]
    video_audio = 0.0 if "audio" in gone else objective.video_audio
    video_text = 0.0 if "text" in gone else objective.video_text
    if len(kept) < 2 or not video_audio + video_text > 0:
        raise UserError(
            f"{shown}: no clip has {what}, and the configured run learns from nothing else "
            f"(vatt.modalities={model.modalities}, contrastive_loss.video_audio="
            f"{objective.video_audio:g}, contrastive_loss.video_text={objective.video_text:g})"
        )
    return dataclasses.replace(
        config,
        model=model.with_modalities(kept),
        objective=dataclasses.replace(objective, video_audio=video_audio, video_text=video_text),
        word_vectors=None if "text" in gone else config.word_vectors,
    )
