"""Towers of a trained model as the start of a classifier."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np
from keras import ops

from vatt_tf.data.schema import MODALITIES, ClipSpec
from vatt_tf.encoders.tower import TowerConfig
from vatt_tf.errors import UserError
from vatt_tf.models import io
from vatt_tf.models.classifier import Classifier
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.multimodal import MultimodalClassifier
from vatt_tf.models.transfer import assign_values
from vatt_tf.wording import count_of

InitialWeights = str | Mapping[str, str]
# From the path of a variable to its path below the tower. The agnostic model keeps a Transformer
# for all towers beside them; a tower of its own gets a copy of it.
_BELOW = re.compile(rf"^[^/]+/(?:(?:agnostic/)?(?:{'|'.join(MODALITIES)})/|agnostic/)")

# How a run reads its clips -> modality of the tower that is trained so.
CLIP_OPTIONS = {"frame_rate": "video", "sample_rate": "audio", "audio_resampling": "audio"}

# Bindings that win over the configuration of the initial weights; they change no weight but
# position tables, which are interpolated.
_FREE = (
    "frames",
    "image_size",
    "samples",
    "mel_frames",
    "max_tokens",
    "trainable_words",
    "drop_token_rate",
    "dropout_rate",
    "position_dropout_rate",
)


def folder_of(initial_weights: InitialWeights | None, modality: str) -> str | None:
    """The folder that a tower starts from: one for all, or one per modality."""
    if initial_weights is None or isinstance(initial_weights, str):
        return initial_weights
    unknown = set(initial_weights) - set(MODALITIES)
    if unknown:
        raise UserError(
            f"initial_weights: unknown modality {', '.join(sorted(unknown))}; expected a folder or "
            f"folders for some of {', '.join(MODALITIES)}"
        )
    return initial_weights.get(modality)


def stored_tower(folder: str, modality: str) -> TowerConfig:
    """Configuration of a tower of a trained model; reads ``model.json`` only.

    A tower of a modality-agnostic model keeps its projections (docs/reference.md, Fine-tuning).

    Args:
        folder: Run directory or weights folder of a VATT model or a classifier.
        modality: ``"video"``, ``"audio"`` or ``"text"``.

    Raises:
        UserError: If the folder holds no model or none that has such a tower.
    """
    config = io.read_config(folder)
    if isinstance(config, VattConfig):
        return config.tower(modality)
    if modality not in config.towers:
        raise UserError(
            f"{folder}: a classifier of {' and '.join(config.modalities)} has no {modality} tower; "
            f"start from a model that reads {modality}"
        )
    return config.towers[modality]


def clip_options(
    initial_weights: InitialWeights | None, bound: Mapping[str, Any]
) -> dict[str, Any]:
    """How a run reads its clips: as bound, else as the initial weights were trained.

    A tower's weights hold for the rates that it was trained at: read at others, the quickstart's
    own weights find half of what they find at theirs.

    Args:
        initial_weights: Folder as in :func:`stored_tower`, or a folder per modality; None: from
            scratch.
        bound: Values of ``CLIP_OPTIONS`` that the run file binds.

    Returns:
        Fields of a ``ClipSpec``; those of a run from scratch that are not bound are left out.

    Raises:
        UserError: If a folder holds no model.
    """
    return {**_stored_options(initial_weights), **bound}


def changed_options(initial_weights: InitialWeights | None, clip: ClipSpec, run: str) -> list[str]:
    """A line for each bound option that differs from that of the initial weights.

    Args:
        initial_weights: As in :func:`clip_options`.
        clip: The clips of the run.
        run: Name of its configurable, ``"train"`` or ``"finetune"``.
    """
    read = {"video": clip.frames > 0, "audio": clip.audio != "none"}
    return [
        f"{folder_of(initial_weights, CLIP_OPTIONS[name])}: trained at {name} {_plain(value)}; "
        f"{run}.{name} = {_plain(getattr(clip, name))} is bound and taken"
        for name, value in _stored_options(initial_weights).items()
        if read[CLIP_OPTIONS[name]] and value != getattr(clip, name)
    ]


def _plain(value: str | float) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}"


def _stored_options(initial_weights: InitialWeights | None) -> dict[str, Any]:
    """How the clips of the initial weights were read."""
    found = {}
    for name, modality in CLIP_OPTIONS.items():
        folder = folder_of(initial_weights, modality)
        if folder is None:
            continue
        clip = ClipSpec.from_dict(io.read_description(folder)["clip"])
        # A classifier of the other modality has a rate that nothing was trained at.
        if clip.frames if modality == "video" else clip.audio != "none":
            found[name] = getattr(clip, name)
    return found


def rebound(tower: Any) -> TowerConfig:
    """A stored tower with the clip size and the rates that are bound in gin."""
    free = {name for name in _bindings(tower) if name in _FREE}
    kept = {
        field.name: getattr(tower, field.name)
        for field in dataclasses.fields(tower)
        if field.name not in free
    }
    return type(tower)(**kept)  # gin fills in what is left out


def _bindings(tower: TowerConfig) -> dict[str, Any]:
    return gin.get_bindings(tower.name)


def _unread(tower: TowerConfig) -> list[str]:
    """A line on the bindings that the stored tower overrules, if there are any."""
    unread = [
        f"{tower.name}.{name} = {value!r} (the weights have {getattr(tower, name)!r})"
        for name, value in sorted(_bindings(tower).items())
        if name not in _FREE and value != getattr(tower, name)
    ]
    return [f"not read: {', '.join(unread)}"] if unread else []


def stored_tokenizer(folder: str) -> Any:
    """The tokenizer that belongs to a text tower, or None where none was saved."""
    return io.read_tokenizer(folder)


def load_initial_weights(
    model: Classifier | MultimodalClassifier,
    initial_weights: InitialWeights,
    labels: Sequence[str] | None,
) -> list[str]:
    """Gives all towers of a classifier trained weights, and the head where its classes are equal.

    Args:
        model: Built classifier.
        initial_weights: Folder as in :func:`stored_tower`, or a folder per modality.
        labels: Names of the model's classes, or None where they are not known.

    Returns:
        What a user should know, a line each: towers that have no folder, bindings of sizes that
        the weights overrule, interpolated tables, head kept or left out.

    Raises:
        UserError: If a folder has no such tower or a weight is missing, left over or of another
            shape; lists them. Then that tower was not changed.
    """
    lines = []
    loaded: dict[str, Any] = {}  # An LBS has 1.7 GB: each folder is read once.
    for modality in model.config.modalities:
        folder = folder_of(initial_weights, modality)
        if folder is None:
            lines.append(f"the {modality} tower starts from random weights")
            continue
        lines += [f"{folder}: {line}" for line in _unread(stored_tower(folder, modality))]
        if folder not in loaded:
            loaded[folder] = io.load_model(folder)
        tables = _assign(model, _values(loaded[folder], modality), folder, modality)
        lines += [f"{folder}: {modality}/{path} interpolated" for path in tables]
    for folder, source in loaded.items():
        if not isinstance(source, (Classifier, MultimodalClassifier)):
            continue
        reason = _head_differs(source, model, folder, labels)
        if reason is None:
            assign_values(_below_head(source), _below_head(model), folder)
        lines.append(f"{folder}: head {'kept' if reason is None else f'left out, {reason}'}")
    return lines


def _values(source: Any, modality: str) -> dict[str, np.ndarray]:
    tower = source.towers[modality]
    return {_BELOW.sub("", w.path): ops.convert_to_numpy(w) for w in tower.weights}


def _assign(
    model: Classifier | MultimodalClassifier,
    values: Mapping[str, np.ndarray],
    folder: str,
    modality: str,
) -> list[str]:
    variables = {_BELOW.sub("", weight.path): weight for weight in model.towers[modality].weights}
    return assign_values(values, variables, f"{os.fspath(folder)} ({modality} tower)")


def _below_head(model: Classifier | MultimodalClassifier) -> dict[str, Any]:
    """Variables behind the towers by path."""
    towers = {id(weight) for tower in model.towers.values() for weight in tower.weights}
    return {weight.path: weight for weight in model.weights if id(weight) not in towers}


def _head_differs(
    source: Classifier | MultimodalClassifier,
    model: Classifier | MultimodalClassifier,
    folder: str,
    labels: Sequence[str] | None,
) -> str | None:
    """Why the head of a source cannot go on in the model, or None."""
    theirs = io.read_description(folder).get("labels")
    if type(source) is not type(model) or source.config.modalities != model.config.modalities:
        return "it belongs to another kind of classifier"
    found, wanted = source.config.num_classes, model.config.num_classes
    if found != wanted:
        return f"it has {count_of(found, 'class', 'classes')}, the data {wanted}"
    if not labels or not theirs or list(theirs) != list(labels):
        return "its classes are not those of the data"
    if {p: w.shape for p, w in _below_head(source).items()} != {
        p: w.shape for p, w in _below_head(model).items()
    }:
        return "it has other sizes or another fusion"
    return None
