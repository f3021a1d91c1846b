"""Folders that hold a model: its description, its tokenizer, its weights.

A run directory and a folder of shared weights have the same ``model.json`` and ``tokenizer/``;
the run directory has checkpoints, the folder has ``model.weights.h5``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from vatt_tf import paths
from vatt_tf.atomic import new_file, new_folder, read_json, write_json
from vatt_tf.data.schema import OLDEST_CLIP, ClipSpec
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.errors import UserError
from vatt_tf.heads.config import HEADS
from vatt_tf.models.classifier import Classifier, build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.multimodal import MultimodalClassifier
from vatt_tf.models.vatt import VATT, build_vatt
from vatt_tf.registry import check_imported, modules_of

Config = VattConfig | ClassifierConfig | MultimodalConfig
Model = VATT | Classifier | MultimodalClassifier

DESCRIPTION = "model.json"
WEIGHTS = "model.weights.h5"
CHECKPOINTS = "checkpoints"
# Of ``model.json``: what an evaluation measured, see ``vatt_tf.evaluation.calibration``.
CALIBRATION = "score_calibration"
_TOKENIZER_FOLDER = "tokenizer"
# Kinds of models in ``model.json``.
_KINDS: dict[str, Any] = {
    "vatt": VattConfig,
    "classifier": ClassifierConfig,
    "multimodal_classifier": MultimodalConfig,
}
CLASSIFIER_KINDS = ("classifier", "multimodal_classifier")


def save_description(
    folder: str,
    config: Config,
    clip: ClipSpec,
    tokenizer: Any,
    **extra: Any,
) -> None:
    """Writes ``model.json`` and ``tokenizer/``: all that is needed to build the model again.

    Args:
        folder: An existing folder.
        config: The model's configuration.
        clip: Shape of the clips that it reads.
        tokenizer: One of ``vatt_tf.data.text.tokenizer``; None where there is none (a classifier
            that reads no text, or converted weights whose vocabulary was not given).
        **extra: Further JSON values, e.g. ``step``.
    """
    description = {
        "format": 1,
        "kind": next(kind for kind, part in _KINDS.items() if type(config) is part),
        "model": config.to_dict(),
        "clip": dataclasses.asdict(clip),
        "modules": modules_of(_parts(config, tokenizer)),
        "tokenizer": None,
        **extra,
    }
    if tokenizer is not None:
        os.makedirs(os.path.join(folder, _TOKENIZER_FOLDER), exist_ok=True)
        file = tokenizer.save(os.path.join(folder, _TOKENIZER_FOLDER))
        description["tokenizer"] = {
            "kind": tokenizer.kind,
            "file": os.path.join(_TOKENIZER_FOLDER, os.path.basename(file)),
            "max_tokens": tokenizer.max_tokens,
        }
    write_json(os.path.join(folder, DESCRIPTION), description)


def _parts(config: Config, tokenizer: Any) -> Iterator[Any]:
    """Classes of the registered parts that a model is made of."""
    yield from map(type, (*config.towers.values(), tokenizer))
    if isinstance(config, VattConfig):
        yield HEADS[config.head.kind]


def update_description(folder: str, **extra: Any) -> None:
    """Adds values to an existing ``model.json``, or replaces those of the same name."""
    write_json(os.path.join(folder, DESCRIPTION), {**read_description(folder), **extra})


def save_weights(folder: str, model: Model) -> str:
    """Writes ``model.weights.h5`` into a folder, whole or not at all."""
    path = os.path.join(folder, WEIGHTS)
    with new_file(path, suffix=".weights.h5") as temporary:  # Keras wants this ending
        model.save_weights(temporary)
    return path


def save_pretrained(
    folder: str, model: Model, clip: ClipSpec, tokenizer: Any, **extra: Any
) -> None:
    """Writes a new folder of shared weights; it appears only when it is complete.

    Args:
        folder: The folder to make.
        model: Built model.
        clip: Shape of the clips that it reads.
        tokenizer: Its tokenizer, or None.
        **extra: Further values for ``model.json``: ``step``, a classifier's ``labels``.

    Raises:
        UserError: If the folder exists.
    """
    with new_folder(folder) as new:
        temporary = str(new)
        save_description(temporary, model.config, clip, tokenizer, **extra)
        save_weights(temporary, model)


def read_description(folder: str) -> dict[str, Any]:
    """The content of ``model.json``.

    Raises:
        UserError: If the folder or the file is not there or not readable.
    """
    path = os.path.join(folder, DESCRIPTION)
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder}: no such folder; expected a run directory of vatt_tf.train or a folder "
            "with converted weights"
        )
    try:
        with open(path, encoding="utf-8") as file:
            description = json.load(file)
    except FileNotFoundError as error:
        found = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
        raise UserError(f"{folder}: holds no {DESCRIPTION} (found: {found})") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if description.get("format") != 1:
        raise UserError(f"{path}: format {description.get('format')!r}, this version reads 1")
    if not isinstance(description.get(CALIBRATION, {}), dict):
        raise UserError(f"{path}: {CALIBRATION} is not an object; remove it, then evaluate again")
    clip = description.get("clip")
    if isinstance(clip, dict) and "audio_resampling" not in clip:
        description["clip"] = {**clip, "audio_resampling": _earlier_resampling(folder, clip)}
    return description


def _earlier_resampling(folder: str, clip: dict[str, Any]) -> str:
    """How a model from before clips had ``audio_resampling`` was trained.

    Every n-th stored sample was taken; that is every sample where the shards, by the run's
    ``data.json``, have the rate of the clip. Nothing was lost then, and nothing must be now.
    """
    for place in (folder, os.path.dirname(folder)):  # the folder ``best`` lies in that of the run
        content: Any = read_json(os.path.join(place, "data.json"))
        try:
            rates = {data["identity"]["settings"]["sample_rate"] for data in content["train"]}
        except (KeyError, TypeError):
            continue
        if rates == {clip.get("sample_rate")}:
            return "filtered"
    return OLDEST_CLIP["audio_resampling"]


def load_pretrained(path: str) -> tuple[VATT, ClipSpec, Any]:
    """Builds the model of a run directory or weights folder and loads its weights.

    A run directory gives its newest checkpoint. Loading is strict: a weight that is missing, left
    over or of another shape is an error.

    Args:
        path: Run directory or weights folder.

    Returns:
        Model, shape of its clips, tokenizer (None for converted weights without a vocabulary).

    Raises:
        UserError: If the folder is not one of the two or the weights do not fit.
    """
    path = paths.expand(path)
    description = _read_kind(path, ("vatt",), "towers and common spaces", "load_classifier")
    return load_model(path), ClipSpec.from_dict(description["clip"]), read_tokenizer(path)


@dataclasses.dataclass(frozen=True)
class LoadedClassifier:
    """A fine-tuned model as it comes from its folder.

    Attributes:
        model: The model with its weights.
        clip: Shape of the clips that it reads.
        labels: Names of the classes in order, or None where they are not known.
        tokenizer: Of a model that reads text, else None.
    """

    model: Classifier | MultimodalClassifier
    clip: ClipSpec
    labels: tuple[str, ...] | None
    tokenizer: Any = None


def load_classifier(path: str) -> LoadedClassifier:
    """Like :func:`load_pretrained`, for a fine-tuned model of one or several modalities."""
    path = paths.expand(path)
    description = _read_kind(path, CLASSIFIER_KINDS, "a classifier", "load_pretrained")
    labels = description.get("labels")
    clip = ClipSpec.from_dict(description["clip"])
    tokenizer = read_tokenizer(path)
    return LoadedClassifier(load_model(path), clip, tuple(labels) if labels else None, tokenizer)


def load_model(path: str) -> Any:
    """The model of a run directory or weights folder, of whatever kind, with its weights.

    Raises:
        UserError: As :func:`load_pretrained`.
    """
    path = paths.expand(path)
    config = read_config(path)
    model = build_vatt(config) if isinstance(config, VattConfig) else build_classifier(config)
    _load_weights(path, model)
    return model


def read_config(path: str) -> Config:
    """Configuration of the model of a run directory or weights folder.

    Raises:
        UserError: If the folder holds no model.
    """
    description = read_description(path)
    kind = description.get("kind", "vatt")
    if kind not in _KINDS:
        raise UserError(
            f"{path}: holds a model of kind {kind!r}; this version reads {', '.join(_KINDS)}"
        )
    check_imported(description.get("modules", ()), path)
    return _KINDS[kind].from_dict(description["model"])


def read_tokenizer(path: str) -> Any:
    """Tokenizer of a run directory or weights folder, or None where none was saved."""
    description = read_description(path)
    stored = description["tokenizer"]
    if stored is None:
        return None
    check_imported(description.get("modules", ()), path)
    file = os.path.join(path, stored["file"])
    return load_tokenizer(file, stored["kind"], stored["max_tokens"])


def _read_kind(path: str, kinds: tuple[str, ...], expected: str, other: str) -> dict[str, Any]:
    description = read_description(path)
    found = description.get("kind", "vatt")
    if found not in kinds:
        raise UserError(
            f"{path}: holds a model of kind {found!r}, expected {expected}; "
            f"vatt_tf.models.io.{other} reads it"
        )
    return description


def newest_checkpoint(folder: str | os.PathLike) -> str | None:
    """Prefix of the newest checkpoint in a folder of checkpoints, None without one.

    ``tf.train.latest_checkpoint`` takes the folder for a pattern and finds nothing in ``a[1]``.
    """
    with paths.readable_by_tensorflow(folder) as readable:
        state = tf.train.get_checkpoint_state(readable)
    if state is None or not state.model_checkpoint_path:
        return None
    prefix = os.path.join(folder, os.path.basename(state.model_checkpoint_path))
    return prefix if os.path.isfile(f"{prefix}.index") else None


def _load_weights(path: str, model: Model) -> None:
    checkpoint = newest_checkpoint(os.path.join(path, CHECKPOINTS))
    weights = os.path.join(path, WEIGHTS)
    if checkpoint is not None:
        read_model(checkpoint, model)
    elif os.path.exists(weights):
        _read_weights(weights, model)
    else:
        raise UserError(f"{path}: holds neither checkpoints nor {WEIGHTS}; train longer first")


def model_variables(model: Any) -> dict[str, tf.Variable]:
    """Path -> variable of all weights (random seeds are functions of the step, not state).

    Raises:
        ValueError: If two weights have the same path.
    """
    named = {weight.path: weight.value for weight in model.weights}
    if len(named) != len(model.weights):
        paths = [weight.path for weight in model.weights]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"several weights share a path: {', '.join(twice)}")
    return named


def weights_hash(model: Any) -> str:
    """SHA-256 of all weights with their names and shapes, as hexadecimal digits.

    Args:
        model: A built VATT or classifier; equal weights give equal hashes, wherever they are from.
    """
    digest = hashlib.sha256()
    for name, variable in sorted(model_variables(model).items()):
        value = np.ascontiguousarray(variable.numpy(), np.float32)
        digest.update(f"{name} {value.shape}\n".encode())
        digest.update(value.data)
    return digest.hexdigest()


def read_model(path: str, model: Any) -> int:
    """Loads the model's weights, and nothing else, from a checkpoint.

    Args:
        path: Prefix of the checkpoint (``.../ckpt-100``).
        model: Built model.

    Returns:
        The step at which it was saved.

    Raises:
        UserError: If a weight is missing, left over or of another shape; lists them.
    """
    with paths.readable_by_tensorflow(path) as readable:
        return _read_model(path, readable, model)


def _read_model(path: str, readable: str, model: Any) -> int:
    try:
        reader = tf.train.load_checkpoint(readable)
        stored = reader.get_variable_to_shape_map()
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({error})") from error
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    wanted = {f"model/{_escape(name)}{suffix}": v for name, v in model_variables(model).items()}
    missing = sorted(set(wanted) - set(stored))
    unused = sorted(key for key in set(stored) - set(wanted) if key.startswith("model/"))
    wrong = [
        f"{key} {tuple(stored[key])} instead of {tuple(variable.shape)}"
        for key, variable in wanted.items()
        if key in stored and tuple(stored[key]) != tuple(variable.shape)
    ]
    if missing or unused or wrong:
        raise UserError(
            f"{path}: does not fit the model; missing: {_listed(missing)}; "
            f"left over: {_listed(unused)}; of another shape: {_listed(wrong)}"
        )
    for key, variable in wanted.items():
        variable.assign(reader.get_tensor(key))
    return int(reader.get_tensor(f"step{suffix}"))


def _escape(name: str) -> str:
    """Spelling of a name in checkpoint keys ('/' separates objects there)."""
    return name.replace(".", "..").replace("/", ".S")


def _listed(names: list[str], most: int = 8) -> str:
    shown = ", ".join(name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for name in names[:most])
    return (shown or "none") + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_weights(path: str, model: Model) -> None:
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{path}: does not fit the model ({error})") from error
    for name, variable in model_variables(model).items():
        if variable.dtype.is_floating and not bool(
            tf.reduce_all(tf.math.is_finite(tf.cast(variable, tf.float32)))
        ):
            raise UserError(f"{path}: {name} holds NaN or Inf")
