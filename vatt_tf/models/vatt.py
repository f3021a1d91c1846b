"""The VATT model: three towers and the head that compares what they see, hear and read."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from vatt_tf.encoders.agnostic import AgnosticEncoder
from vatt_tf.errors import UserError
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.models.base import ConfiguredModel
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.features import pooled_features

Model = TypeVar("Model", bound=keras.Model)


@keras.saving.register_keras_serializable("vatt_tf")
class VATT(ConfiguredModel):
    """Video-audio-text Transformer (Akbari et al., NeurIPS 2021).

    Towers turn raw inputs into features (:meth:`encode`), the head maps features into common spaces
    (:meth:`project`); calling the model does both. The head computes in float32 under every dtype
    policy, because BatchNorm statistics and similarities need it.

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the towers; Keras's global policy by default.

    Call arguments:
        inputs: Dict with any of ``video`` (uint8, or float in [-1, 1], [B, T, H, W, 3]), ``audio``
            ([B, samples, 1] or [B, frames, mel, 1]) and ``text`` (integer [B, P, L] or [B, L]).
        training: Switches dropout, DropToken and batch statistics on.

    Attributes:
        objective: What Keras's own ``fit`` minimises.

    Returns:
        Dict from space to a dict from modality to embedding, float32, not normalised; e.g. with the
        FAC head ``{"va": {"video": [B, 512], "audio": [B, 512]}, "vt": {"video": [B, 256],
        "text": [B, P, 256]}}``.
    """

    config_class = VattConfig

    def __init__(self, config: VattConfig, name: str = "vatt", **kwargs: Any) -> None:
        super().__init__(config, name=name, **kwargs)
        policy = self.dtype_policy
        # Named attributes: TensorFlow checkpoints silently skip layers kept in dicts.
        if config.kind == "agnostic":
            self.agnostic_tower = AgnosticEncoder(
                config.agnostic, config.towers, dtype=policy, name="agnostic"
            )
        else:
            for modality in config.modalities:
                tower = config.tower(modality).build(dtype=policy, name=modality)
                setattr(self, f"{modality}_tower", tower)
        self.head = config.head.build(dtype="float32", name="head")
        self.objective = ObjectiveConfig()

    def tower(self, modality: str) -> keras.layers.Layer:
        """The encoder of one of the model's modalities."""
        if modality not in self.config.modalities:
            raise ValueError(f"modality must be one of {self.config.modalities}, got {modality!r}")
        if self.config.kind == "agnostic":
            return getattr(self.agnostic_tower, modality)
        return getattr(self, f"{modality}_tower")

    @property
    def towers(self) -> dict[str, keras.layers.Layer]:
        """The encoders by modality."""
        return {modality: self.tower(modality) for modality in self.config.modalities}

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables for the configured input sizes; ``input_shape`` is not read."""
        config = self.config
        if config.kind == "agnostic":
            self.agnostic_tower.build()
        else:
            for modality, tower in self.towers.items():
                tower.build((None, *getattr(config, modality).input_shape))
        self.head.build(
            {modality: (None, tower.output_dim) for modality, tower in self.towers.items()}
        )

    def encode(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Pooled features of the modalities present that the model reads.

        Returns:
            ``video`` [B, d], ``audio`` [B, d], ``text`` [B, P, d] ([B, d] for text [B, L]).
        """
        return {
            modality: pooled_features(tower, inputs[modality], training)
            for modality, tower in self.towers.items()
            if modality in inputs
        }

    def project(
        self, features: Mapping[str, Any], training: bool = False, masks: Any = None
    ) -> dict[str, Any]:
        """Embeddings in the common spaces, float32, of the features of :meth:`encode`.

        Args:
            features: Features by modality.
            training: Whether BatchNorm uses the statistics of the batch.
            masks: Dict of float32 [B], of texts [B, P], 0 for rows that ``masked_statistics`` of
                the head leaves out of them; None: none.
        """
        if not self.config.head.masked_statistics:
            return self.head(features, training=training)
        return self.head(features, training=training, masks=masks)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        masks = {name: inputs[f"{name}_mask"] for name in self.towers if f"{name}_mask" in inputs}
        return self.project(self.encode(inputs, training=training), training, masks)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The contrastive loss of one batch on one device, for Keras's own ``fit``.

        ``vatt_tf.train`` has the same loss over all replicas and micro-batches.

        Args:
            x: A batch of the pipeline. Where it has no ``video_mask``, ``audio_mask`` or
                ``text_mask``, no clip lacks that modality.
            y: Not read: the pairs are in ``x``.
            y_pred: Embeddings by space and modality, of a call.
            sample_weight: Must be None: masks say which clips count.
            training: Not read.

        Raises:
            UserError: When something is asked for that only ``vatt_tf.train`` does.
        """
        if self.objective.statistics_weight or sample_weight is not None:
            raise UserError(
                "fit knows neither sample weights nor contrastive_loss.statistics_weight: give "
                "masks in place of the first, and train with vatt_tf.train for the second"
            )
        masks: dict[str, Any] = {}
        for members in y_pred.values():
            for name, embeddings in members.items():
                mask = x.get(f"{name}_mask")
                masks[name] = ops.ones(ops.shape(embeddings)[:-1]) if mask is None else mask
        return objective(y_pred, y_pred, masks, masks, self.objective)[0]

    def set_word_vectors(self, vectors: np.ndarray) -> None:
        """Puts given word vectors into the word table, e.g. word2vec.

        Args:
            vectors: float [vocab_size, embedding_dim].

        Raises:
            UserError: When the shape differs from the configured one.
        """
        table = self.tower("text").word_embedding.embeddings
        if tuple(vectors.shape) != tuple(table.shape):
            raise UserError(
                f"word vectors have shape {tuple(vectors.shape)}, the text tower wants "
                f"{tuple(table.shape)}: set text_tower.vocab_size and text_tower.embedding_dim"
            )
        table.assign(vectors)


def build_vatt(config: VattConfig, dtype: Any = None) -> VATT:
    """Makes a model with all its variables.

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the towers, e.g. ``"mixed_bfloat16"``; Keras's global one by default.
    """
    model = VATT(config, dtype=dtype)
    model.build()
    return model


def abstract_vatt(config: VattConfig) -> VATT:
    """A VATT whose variables have names and shapes but no memory, see :func:`abstract`."""
    return abstract(lambda: build_vatt(config))


def abstract(build: Callable[[], Model]) -> Model:
    """Makes a model whose variables have names and shapes but no memory, to count and compare.

    LBS has 1.7 GB of weights; this takes none of it. The model cannot be called.

    Args:
        build: Makes the model and its variables.
    """
    made: list[Model] = []

    def make() -> None:
        with keras.StatelessScope(initialize_variables=False):
            made.append(build())

    # In its own thread: Keras keeps the list of variables that wait for a value per thread, and
    # those of this model must never get one.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def parameter_counts(model: ConfiguredModel) -> dict[str, int]:
    """Parameters of a built (or abstract) model.

    Returns:
        One count per tower (a shared Transformer counts in each), ``head``, and over the whole
        model ``total`` and ``trainable``, every variable once.
    """
    counts = {modality: _count(tower.weights) for modality, tower in model.towers.items()}
    counts["head"] = _count(model.head.weights)
    counts["total"] = _count(model.weights)
    counts["trainable"] = _count(model.trainable_weights)
    return counts


def _count(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
