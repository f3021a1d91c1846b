"""Servable models of a trained model: one per tower, or a classifier."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

import vatt_tf
from vatt_tf.data.schema import MODALITIES, ClipSpec
from vatt_tf.data.text.known_words import VOCABULARY
from vatt_tf.errors import NO_TEXT_TOWER, UserError
from vatt_tf.evaluation.calibration import how_to_measure
from vatt_tf.evaluation.collect.embeddings import run_step
from vatt_tf.export import inputs
from vatt_tf.losses.contrastive import l2_normalize
from vatt_tf.models import io

CLASSIFIER = "classifier"
DESCRIBE = "describe"

Outputs = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Servable:
    """Model to export.

    Attributes:
        name: Folder name: ``video``, ``audio``, ``text`` or ``classifier``.
        description: Result of the signature ``describe``.
        clip: Shape of the clips that it was trained with.
        signatures: Signature -> modality -> its input.
        forward: Maps the model's inputs (the results of ``Signature.prepare`` by modality) to its
            outputs.
        any_size: Modalities of which clips of other sizes than ``clip`` may be sent.
        tokenizer: Of a model that reads text, else None.
    """

    name: str
    description: dict[str, Any]
    clip: ClipSpec
    signatures: Mapping[str, Mapping[str, inputs.Signature]]
    forward: Callable[[Mapping[str, Any]], Outputs]
    any_size: tuple[str, ...]
    tokenizer: Any = None

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a signature ``vocabulary``."""
        return self.name == "text"

    def module(self) -> tuple[tf.Module, dict[str, Any]]:
        """Traces the signatures.

        Returns:
            The object to save, which holds just the weights that the signatures use, and the
            concrete functions by signature.
        """
        functions = {
            name: _trace([part.input for part in parts.values()], self._call(parts))
            for name, parts in self.signatures.items()
        }
        query = tf.TensorSpec([None], tf.string, name="query")
        functions[DESCRIBE] = _trace([query], self._describe)
        if self.counts_tokens:
            text = tf.TensorSpec([None], tf.string, name="text")
            functions[VOCABULARY] = _trace([text], self.tokenizer.count_tokens)
        module = tf.Module(self.name)
        weights = {
            id(weight): weight
            for function in functions.values()
            for weight in function.graph.variables
        }
        module.weights = list(weights.values())
        module.tokenizer = self.tokenizer
        return module, functions

    def _call(self, parts: Mapping[str, inputs.Signature]) -> Callable[..., Outputs]:
        def call(*values: tf.Tensor) -> Outputs:
            values = inputs.with_equal_rows([part.input.name for part in parts.values()], values)
            pairs = zip(parts.items(), values, strict=True)
            return self.forward(
                {modality: part.prepare(value) for (modality, part), value in pairs}
            )

        return call

    def _describe(self, query: tf.Tensor) -> Outputs:
        content = tf.constant(json.dumps(self.description))
        return {"description": tf.fill(tf.shape(tf.ensure_shape(query, [None])), content)}


def read_servables(
    path: str | os.PathLike, models: Sequence[str] | None = None
) -> tuple[Servable, ...]:
    """Loads a run directory or weights folder.

    Args:
        path: Run directory (its newest checkpoint) or weights folder.
        models: Names of the models; None for all of the folder.

    Raises:
        UserError: If the folder holds no model or not the named ones.
    """
    path = os.fspath(path)
    kind = io.read_description(path).get("kind", "vatt")
    # Served in float32 whatever the policy of the process: it may have trained in bfloat16.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        found = _classifier(path) if kind in io.CLASSIFIER_KINDS else _towers(path)
    finally:
        keras.config.set_dtype_policy(policy)
    unknown = [name for name in models or () if name not in found]
    if unknown or models is not None and not models:
        raise UserError(
            f"models={','.join(models or ()) or 'none'}: {path} has {', '.join(found)}"
            + (f" ({_why_no_text(path)})" if "text" in unknown else "")
        )
    return tuple(servable for name, servable in found.items() if not models or name in models)


def _why_no_text(path: str) -> str:
    """Reason why a run directory or weights folder has no text model."""
    model = io.read_description(path)["model"]
    if "text" in (model.get("modalities") or MODALITIES):
        return "text needs a tokenizer, which it has not"
    return NO_TEXT_TOWER


def missing_text(path: str | os.PathLike) -> str:
    """Reason why the export has no text model; "" where it has one."""
    description = io.read_description(os.fspath(path))
    if description.get("kind", "vatt") in io.CLASSIFIER_KINDS or description["tokenizer"]:
        return ""
    return _why_no_text(os.fspath(path))


def uncalibrated(path: str | os.PathLike) -> str:
    """Line about towers without a calibration of scores; "" where all have one."""
    path = os.fspath(path)
    description = io.read_description(path)
    if description.get("kind", "vatt") in io.CLASSIFIER_KINDS:
        return ""
    measured, step = description.get(io.CALIBRATION), run_step(path)
    if measured and measured.get("step") == step:
        return ""
    why = f"measured at step {measured.get('step')}, not {step}; " if measured else ""
    return f"scores: not calibrated; {why}{how_to_measure(path)}, then export again"


def embedding_outputs(model: Any, clip: ClipSpec, modality: str) -> dict[str, dict[str, Any]]:
    """Returns output name -> space, dimension and partner modalities, from the head.

    The only embedding of a tower is called ``embedding``, one of several ``embedding_<space>``.
    """
    there = [name for name in model.towers if name != "audio" or clip.audio != "none"]
    shapes = model.head.compute_output_shape(
        {name: (None, model.tower(name).output_dim) for name in there}
    )
    spaces = {space: parts for space, parts in shapes.items() if modality in parts}
    return {
        "embedding" if len(spaces) == 1 else f"embedding_{space}": {
            "space": space,
            "dim": int(parts[modality][-1]),
            "partners": [name for name in there if name in parts and name != modality],
        }
        for space, parts in spaces.items()
    }


def _towers(path: str) -> dict[str, Servable]:
    model, clip, tokenizer = io.load_pretrained(path)
    digest = io.weights_hash(model)
    found = {"video": _tower(model, clip, "video", digest)}
    if clip.audio != "none" and "audio" in model.towers:
        found["audio"] = _tower(model, clip, "audio", digest)
    if tokenizer is not None and "text" in model.towers:
        found["text"] = _tower(model, clip, "text", digest, tokenizer)
    calibration = io.read_description(path).get(io.CALIBRATION)
    if calibration and calibration.get("model_hash") == digest:
        for servable in found.values():
            servable.description[io.CALIBRATION] = calibration
    return found


def _tower(
    model: Any, clip: ClipSpec, modality: str, digest: str, tokenizer: Any = None
) -> Servable:
    tower = model.tower(modality)
    outputs = embedding_outputs(model, clip, modality)

    def forward(values: Mapping[str, Any]) -> Outputs:
        features = model.encode(values, training=False)
        spaces = model.project(features, training=False)
        results = {
            name: _unit(spaces[output["space"]][modality]) for name, output in outputs.items()
        }
        return {**results, "features": tf.cast(features[modality], tf.float32)}

    return _servable(modality, {modality: tower}, clip, outputs, digest, forward, tokenizer)


def _classifier(path: str) -> dict[str, Servable]:
    loaded = io.load_classifier(path)
    model = loaded.model
    if "text" in model.towers and loaded.tokenizer is None:
        raise UserError(f"{path}: the model reads text, but the folder has no tokenizer")

    def forward(values: Mapping[str, Any]) -> Outputs:
        outputs = model(values, training=False)
        return {name: tf.cast(outputs[name], tf.float32) for name in ("logits", "probabilities")}

    servable = _servable(
        CLASSIFIER, model.towers, loaded.clip, {}, io.weights_hash(model), forward, loaded.tokenizer
    )
    if loaded.labels:
        servable.description["labels"] = list(loaded.labels)
    return {CLASSIFIER: servable}


def _servable(
    name: str,
    towers: Mapping[str, Any],
    clip: ClipSpec,
    outputs: dict[str, Any],
    digest: str,
    forward: Callable[[Mapping[str, Any]], Outputs],
    tokenizer: Any,
) -> Servable:
    sized = tuple(modality for modality in towers if modality != "text")
    any_size = tuple(modality for modality in sized if towers[modality].any_size)
    description = {
        "modality": "+".join(towers),  # E.g. "video+audio".
        "clip": dataclasses.asdict(clip),
        "any_size": any_size == sized != (),
        "outputs": outputs,
        "model_hash": digest,
        "vatt_tf": vatt_tf.__version__,
    }
    signatures = inputs.signatures(towers, clip, tokenizer)
    return Servable(name, description, clip, signatures, forward, any_size, tokenizer)


def _unit(embedding: tf.Tensor) -> tf.Tensor:
    """L2-normalises to float32 (a zero vector stays zero)."""
    return l2_normalize(embedding, epsilon=1e-24)


def _trace(specs: list[tf.TensorSpec], call: Callable[..., Outputs]) -> Any:
    function = tf.function(lambda *values: call(*values), input_signature=specs, autograph=False)
    return function.get_concrete_function()
