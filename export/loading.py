"""Exported models in Python: called by signature, as Keras layers, or as an embedder."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from vatt_tf import paths
from vatt_tf.api import LocalEmbedder
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.text.known_words import VOCABULARY, split_known, split_words
from vatt_tf.embedder import dimensions_of
from vatt_tf.errors import NO_TEXT_TOWER, UserError
from vatt_tf.export.versions import PROTO, SignatureInfo, read_signatures, versions_of

MODELS = ("video", "audio", "text", "classifier")
_INPUTS = {"video": "frames", "audio": "waveform", "text": "text"}


class ExportedModel:
    """Exported model, loaded.

    Example::

        model = vatt_tf.export.load("models").video
        model({"frames": frames})["features"]  # float32 [b, d]
        model({"frames_bytes": jpegs}, signature="encoded")
        model.layer()  # the same as a Keras layer

    Args:
        path: Version folder.

    Attributes:
        path: Version folder, absolute.
        version: Its number.
        signatures: Signature -> inputs and outputs with their dtypes and shapes.
        description: Result of its signature ``describe``: modality, clip, outputs, labels, ...
        clip: Shape of the clips that it was trained with.

    Raises:
        UserError: If the folder holds no model that ``vatt_tf.export`` wrote.
    """

    def __init__(self, path: str | os.PathLike):
        # Registers the tokenizers' ops before a graph that has them is loaded.
        import tensorflow_text  # noqa: F401

        self.path = pathlib.Path(paths.expand(path)).resolve()
        if not self.path.name.isdigit():
            raise UserError(f"{self.path}: expected a version folder, e.g. {self.path / '1'}")
        self.version = int(self.path.name)
        self.signatures: dict[str, SignatureInfo] = read_signatures(self.path)
        if "describe" not in self.signatures:
            raise UserError(f"{self.path}: has no signature 'describe'; vatt_tf.export writes one")
        try:
            with paths.readable_by_tensorflow(self.path) as readable:
                self._model = tf.saved_model.load(readable)
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise UserError(f"{self.path}: cannot be loaded ({_short(error)})") from error
        answer = self({"query": np.array([b""], object)}, signature="describe")
        self.description: dict[str, Any] = json.loads(answer["description"][0])
        self.clip = ClipSpec.from_dict(self.description["clip"])

    def __call__(
        self, inputs: Mapping[str, np.ndarray], signature: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            inputs: Arrays by input name, each with the batch axis first.
            signature: Name of the signature.

        Returns:
            Arrays by output name.

        Raises:
            UserError: If the signature or an input does not fit.
        """
        if signature not in self.signatures:
            raise UserError(f"signature {signature!r}: this model has {', '.join(self.signatures)}")
        expected = self.signatures[signature].inputs
        if set(inputs) != set(expected):
            raise UserError(
                f"{signature} takes {', '.join(expected)}, found {', '.join(inputs) or 'nothing'}"
            )
        tensors = {}
        for name, value in inputs.items():
            tensors[name] = tf.convert_to_tensor(value)
            if tensors[name].dtype.name != expected[name].dtype:
                raise UserError(f"{name} is {tensors[name].dtype.name}, expected {expected[name]}")
        try:
            outputs = self._model.signatures[signature](**tensors)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise UserError(_short(error)) from error
        return {name: value.numpy() for name, value in outputs.items()}

    def layer(self, signature: str = "serving_default") -> Any:
        """The signature as a frozen ``keras.layers.TFSMLayer`` (it loads the model once more)."""
        import keras

        # Frozen: names of its variables are invalid for Keras optimizers. Float32: a signature
        # takes one dtype, and under a mixed policy Keras would cast sound to another.
        with paths.readable_by_tensorflow(self.path) as readable:
            layer = keras.layers.TFSMLayer(
                readable, call_endpoint=signature, trainable=False, dtype="float32"
            )
        layer.filepath = str(self.path)  # as in its configuration
        return layer


class ExportedModels(LocalEmbedder):
    """The newest models of a folder, and their towers as an embedder like ``vatt_tf.load``'s.

    Inputs longer than a clip are covered by windows as there; the windows' embeddings have length
    1 already when they are averaged.

    Args:
        models: Models by name.
        batch_size: Windows that go through a model at once.

    Raises:
        UserError: If the towers were not exported from the same weights.
    """

    def __init__(self, models: Mapping[str, ExportedModel], *, batch_size: int = 8):
        self._models = dict(models)
        towers = [model for name, model in self._models.items() if name in _INPUTS]
        for model in towers:
            if model.description["model_hash"] != towers[0].description["model_hash"]:
                raise UserError(
                    f"{towers[0].path} and {model.path} come from different weights, so their "
                    "embeddings cannot be compared; export them together"
                )
        clip = next(iter(towers or self._models.values())).clip
        described = (model.description for model in towers)
        dimensions = dimensions_of((one["modality"], one["outputs"]) for one in described)
        super().__init__(clip, dimensions, batch_size)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models that are there."""
        return tuple(self._models)

    @property
    def video(self) -> ExportedModel | None:
        """The video tower."""
        return self._models.get("video")

    @property
    def audio(self) -> ExportedModel | None:
        """The audio tower."""
        return self._models.get("audio")

    @property
    def text(self) -> ExportedModel | None:
        """The text tower."""
        return self._models.get("text")

    @property
    def classifier(self) -> ExportedModel | None:
        """The fine-tuned classifier."""
        return self._models.get("classifier")

    def split_known(self, text: str) -> tuple[list[str], list[str]] | None:
        """See the base class; None of a text model of an earlier export."""
        self._require("text")
        if VOCABULARY not in self._models["text"].signatures:
            return None
        words = split_words(text)
        strings = np.array([word.encode() for word in words], object)
        return split_known(words, self._models["text"]({"text": strings}, VOCABULARY))

    def _require(self, modality: str) -> None:
        if modality not in self._models:
            if modality == "text" and not any("text" in parts for parts in self._spaces.values()):
                raise UserError(NO_TEXT_TOWER)
            raise UserError(f"there is no {modality} model, only {', '.join(self._models)}")

    def _outputs(self, modality: str, windows: np.ndarray) -> dict[str, np.ndarray]:
        model = self._models[modality]
        outputs = model({_INPUTS[modality]: windows})
        described = model.description["outputs"].items()
        return {output["space"]: outputs[name] for name, output in described}


def load(path: str | os.PathLike, *, batch_size: int = 8) -> ExportedModels:
    """Loads the newest version of each model that ``export_models`` wrote into a folder.

    Args:
        path: Folder of the models.
        batch_size: Windows that go through a model at once when files or arrays are embedded.

    Raises:
        UserError: If the folder holds no exported model.
    """
    folder = pathlib.Path(paths.expand(path))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; python -m vatt_tf.export writes one")
    found = {}
    for name in MODELS:
        versions = {
            number: version
            for number, version in versions_of(folder / name).items()
            if (version / PROTO).is_file()
        }
        if versions:
            found[name] = ExportedModel(versions[max(versions)])
    if not found:
        raise UserError(
            f"{folder}: holds no model; expected a folder that python -m vatt_tf.export wrote, "
            f"with {', '.join(f'{name}/1' for name in MODELS[:3])}"
        )
    return ExportedModels(found, batch_size=batch_size)


def _short(error: Exception) -> str:
    """Shortens an error of TensorFlow to its message, without the graph's node names."""
    message = getattr(error, "message", None) or str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    # The message stands before "[[{{node ...}}]]".
    kept = [line for line in lines if not line.startswith("[[")] or [type(error).__name__]
    stated = re.fullmatch(r"assertion failed: \[(.*)\]", kept[-1])
    return stated.group(1) if stated else kept[-1]
