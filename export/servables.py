"""A trained model taken apart into the models that are served: one per tower, or a classifier."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import vatt_tf
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError
from vatt_tf.export import inputs
from vatt_tf.models import io
from vatt_tf.models.vatt import MODALITIES

CLASSIFIER = "classifier"
DESCRIBE = "describe"

Outputs = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Servable:
    """A model to be written.

    Attributes:
        name: Folder name: ``video``, ``audio``, ``text`` or ``classifier``.
        description: What the signature ``describe`` answers.
        clip: Shape of the clips that it was trained with.
        signatures: How it is called.
        forward: Maps what the model reads (the result of ``Signature.prepare``) to its outputs.
        any_size: Whether clips of other sizes than ``clip`` may be sent.
        tokenizer: The text model's, else None.
    """

    name: str
    description: Mapping[str, Any]
    clip: ClipSpec
    signatures: tuple[inputs.Signature, ...]
    forward: Callable[[tf.Tensor], Outputs]
    any_size: bool
    tokenizer: Any = None

    @property
    def modality(self) -> str:
        """What it reads."""
        return self.description["modality"]

    def module(self) -> tuple[tf.Module, dict[str, Any]]:
        """Traces the signatures.

        Returns:
            The object to save, which holds just the weights that the signatures use, and the
            concrete functions by signature.
        """
        functions = {
            signature.name: _trace(signature.input, self._call(signature))
            for signature in self.signatures
        }
        functions[DESCRIBE] = _trace(tf.TensorSpec([None], tf.string, name="query"), self._describe)
        module = tf.Module(self.name)
        weights = {
            id(weight): weight
            for function in functions.values()
            for weight in function.graph.variables
        }
        module.weights = list(weights.values())
        module.tokenizer = self.tokenizer
        return module, functions

    def _call(self, signature: inputs.Signature) -> Callable[[tf.Tensor], Outputs]:
        return lambda value: self.forward(signature.prepare(value))

    def _describe(self, query: tf.Tensor) -> Outputs:
        content = tf.constant(json.dumps(self.description))
        return {"description": tf.fill(tf.shape(tf.ensure_shape(query, [None])), content)}


def read_servables(
    path: str | os.PathLike, models: Sequence[str] | None = None
) -> tuple[Servable, ...]:
    """Loads a run directory or weights folder.

    Args:
        path: Run directory (its newest checkpoint) or weights folder.
        models: Names of the models wanted; None for all that there are.

    Raises:
        UserError: If the folder holds no model or not the ones wanted.
    """
    path = os.fspath(path)
    kind = io.read_description(path).get("kind", "vatt")
    # Served in float32 whatever the policy of the process: it may have trained in bfloat16.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        found = _classifier(path) if kind == CLASSIFIER else _towers(path)
    finally:
        keras.config.set_dtype_policy(policy)
    unknown = [name for name in models or () if name not in found]
    if unknown or models is not None and not models:
        raise UserError(
            f"models={','.join(models or ()) or 'none'}: {path} has {', '.join(found)}"
            + (" (text needs a tokenizer, which it has not)" if "text" in unknown else "")
        )
    return tuple(servable for name, servable in found.items() if not models or name in models)


def weights_hash(model: Any) -> str:
    """SHA-256 of all weights with their names and shapes, as hexadecimal digits.

    Args:
        model: A built VATT or classifier; equal weights give equal hashes, wherever they are from.
    """
    digest = hashlib.sha256()
    for name, variable in sorted(io.model_variables(model).items()):
        value = np.ascontiguousarray(variable.numpy(), np.float32)
        digest.update(f"{name} {value.shape}\n".encode())
        digest.update(value.data)
    return digest.hexdigest()


def embedding_outputs(model: Any, clip: ClipSpec, modality: str) -> dict[str, dict[str, Any]]:
    """Output name -> space, dimension and the other modalities in it, read off the head.

    The only embedding of a tower is called ``embedding``, one of several ``embedding_<space>``.
    """
    there = [name for name in MODALITIES if name != "audio" or clip.audio != "none"]
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
    digest = weights_hash(model)
    found = {"video": _tower(model, clip, "video", digest)}
    if clip.audio != "none":
        found["audio"] = _tower(model, clip, "audio", digest)
    if tokenizer is not None:
        found["text"] = _tower(model, clip, "text", digest, tokenizer)
    return found


def _tower(
    model: Any, clip: ClipSpec, modality: str, digest: str, tokenizer: Any = None
) -> Servable:
    tower = model.tower(modality)
    outputs = embedding_outputs(model, clip, modality)

    def forward(value: tf.Tensor) -> Outputs:
        features = model.encode({modality: value}, training=False)
        spaces = model.project(features, training=False)
        results = {
            name: _unit(spaces[output["space"]][modality]) for name, output in outputs.items()
        }
        return {**results, "features": tf.cast(features[modality], tf.float32)}

    signatures = (
        inputs.text_signatures(tokenizer)
        if modality == "text"
        else _clip_signatures(modality, clip, tower)
    )
    any_size = getattr(tower, "any_size", False)
    description = _description(modality, clip, outputs, any_size, digest)
    return Servable(modality, description, clip, signatures, forward, any_size, tokenizer)


def _classifier(path: str) -> dict[str, Servable]:
    loaded = io.load_classifier(path)
    model, clip = loaded.model, loaded.clip
    modality, any_size = model.config.modality, model.tower.any_size

    def forward(value: tf.Tensor) -> Outputs:
        outputs = model({modality: value}, training=False)
        return {name: tf.cast(outputs[name], tf.float32) for name in ("logits", "probabilities")}

    description = _description(modality, clip, {}, any_size, weights_hash(model))
    if loaded.labels:
        description["labels"] = list(loaded.labels)
    signatures = _clip_signatures(modality, clip, model.tower)
    return {CLASSIFIER: Servable(CLASSIFIER, description, clip, signatures, forward, any_size)}


def _clip_signatures(modality: str, clip: ClipSpec, tower: Any) -> tuple[inputs.Signature, ...]:
    make = {"video": inputs.video_signatures, "audio": inputs.audio_signatures}[modality]
    return make(clip, tower)


def _description(
    modality: str, clip: ClipSpec, outputs: dict[str, Any], any_size: bool, digest: str
) -> dict[str, Any]:
    return {
        "modality": modality,
        "clip": dataclasses.asdict(clip),
        "any_size": any_size,
        "outputs": outputs,
        "model_hash": digest,
        "vatt_tf": vatt_tf.__version__,
    }


def _unit(embedding: tf.Tensor) -> tf.Tensor:
    """Float32 of length 1 (a zero vector stays zero)."""
    return tf.math.l2_normalize(tf.cast(embedding, tf.float32), axis=-1, epsilon=1e-24)


def _trace(spec: tf.TensorSpec, call: Callable[[tf.Tensor], Outputs]) -> Any:
    function = tf.function(lambda value: call(value), input_signature=[spec], autograph=False)
    return function.get_concrete_function()
