"""Weights of the released VATT code in our model (docs/reference.md, Checkpoint layout).

checkpoint -> configuration (recognise.py) -> names of our variables (official_names.py) -> checked
values -> our model
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.layers.transformer.positions import interpolation_matrix
from vatt_tf.models.classifier import Classifier, build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import VATT, abstract, build_vatt
from vatt_tf.pretrained.official_names import classifier_keys, model_keys
from vatt_tf.pretrained.recognise import recognise
from vatt_tf.pretrained.source import SourceCheckpoint

# Name fragment of variables that our model does not have -> why.
_LEFT_OUT = {
    ".OPTIMIZER_SLOT": "optimizer state",
    "optimizer/": "optimizer state",
    "save_counter": "counts the saved checkpoints",
    "global_step": "counts the steps",
    "_CHECKPOINTABLE_OBJECT_GRAPH": "describes the file itself",
}


@dataclasses.dataclass(frozen=True)
class MappedVariable:
    """One of our variables and the source of its value.

    Attributes:
        path: Our variable, e.g. ``vatt/video/transformer/block_0/attention/qkv/kernel``.
        shape: Its shape.
        keys: The official variables, joined along the last axis if there are several.
        source_rows: Rows of the official position table if it has to be interpolated, else None.
    """

    path: str
    shape: tuple[int, ...]
    keys: tuple[str, ...]
    source_rows: int | None = None


def map_variables(
    variables: Sequence[keras.Variable],
    shapes: Mapping[str, tuple[int, ...]],
    keys_of: Callable[[str], list[str]],
    source: str,
) -> tuple[list[MappedVariable], dict[str, str]]:
    """Assigns every official variable to one of ours, or to a reason to leave it out.

    Args:
        variables: Our model's weights; need hold no values.
        shapes: Shape of every variable of the checkpoint.
        keys_of: From the path of one of our variables to its official keys.
        source: Name of the checkpoint, for messages.

    Returns:
        Our variables with their keys; left-out key -> reason.

    Raises:
        UserError: If anything is missing, left over or of another shape; lists it.
    """
    mapped, missing, wrong = [], [], []
    used: set[str] = set()
    for variable in variables:
        keys, shape = tuple(keys_of(variable.path)), tuple(variable.shape)
        used |= set(keys)
        absent = [key for key in keys if key not in shapes]
        if absent:
            missing += absent
            continue
        found = _joined([shapes[key] for key in keys])
        rows = None
        if found != shape:
            if "/positions/" not in variable.path or found[1:] != shape[1:]:
                wrong.append(f"{keys[0]} {found} for {variable.path} {shape}")
                continue
            rows = found[0]
        mapped.append(MappedVariable(variable.path, shape, keys, rows))
    left_out = {
        key: reason
        for key in shapes
        if (reason := next((why for part, why in _LEFT_OUT.items() if part in key), None))
    }
    unused = [key for key in shapes if key not in used and key not in left_out]
    if missing or unused or wrong:
        raise UserError(
            f"{source}: does not map one-to-one; not in the checkpoint: {_listed(missing)}; "
            f"unknown: {_listed(unused)}; of another shape: {_listed(wrong)}"
        )
    return mapped, left_out


def _joined(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes)) if len(shapes) > 1 else shapes[0]


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


@dataclasses.dataclass(frozen=True)
class Converted:
    """Model with official weights, and the record of the conversion.

    Attributes:
        model: Our model.
        description: One line on what the checkpoint is.
        variables: Source of each of our variables.
        left_out: Official variable without a place in our model -> why.
    """

    model: VATT | Classifier
    description: str
    variables: list[MappedVariable]
    left_out: dict[str, str]


def convert_official(
    source: SourceCheckpoint,
    config: VattConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Makes our model from a checkpoint of the released code.

    Position tables whose size differs from the configured one are interpolated in float64
    (docs/reference.md, Position interpolation).

    Args:
        source: The checkpoint.
        config: Towers and head; None takes them from the checkpoint's shapes.
        progress: Called with the variables done and their number.

    Raises:
        UserError: If it is no such checkpoint, does not fit the configuration, or a value cannot
            be read or is not finite.
    """
    found = recognise(source.shapes, source.prefix)
    ours = found.config(config)
    if isinstance(ours, ClassifierConfig):
        kind = ours.tower.input if isinstance(ours.tower, AudioTowerConfig) else "video"

        def build() -> VATT | Classifier:
            return build_classifier(ours, dtype="float32")

        def keys_of(path: str) -> list[str]:
            return classifier_keys(path, kind)

    else:

        def build() -> VATT | Classifier:
            return build_vatt(ours, dtype="float32")

        keys_of = model_keys
    # Everything is checked before the first value is read.
    mapped, left_out = map_variables(abstract(build).weights, source.shapes, keys_of, source.prefix)
    model = build()
    variables = {variable.path: variable for variable in model.weights}
    for done, entry in enumerate(mapped):
        progress(done, len(mapped))
        variables[entry.path].assign(_value(source, entry))
    progress(len(mapped), len(mapped))
    return Converted(model, found.describe(), mapped, left_out)


def _value(source: SourceCheckpoint, entry: MappedVariable) -> np.ndarray:
    parts = [source.read(key) for key in entry.keys]
    value = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    if entry.source_rows is not None:
        matrix = interpolation_matrix(entry.source_rows, entry.shape[0])
        value = matrix @ value.astype(np.float64)
    return value.astype(np.float32)
