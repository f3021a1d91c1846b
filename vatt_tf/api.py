"""Python API for notebooks and apps: ``vatt_tf.load(path)`` returns a :class:`VattEmbedder`.

Example::

    embedder = vatt_tf.load("runs/quickstart")
    clips = embedder.embed_video(["a.mp4", "b.mp4"])  # [2, d], in the space shared with text
    query = embedder.embed_text("a red circle moves left")  # [d]
    embedder.similarity(query, clips)  # [2] cosines
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vatt_tf import paths, registry
from vatt_tf.data.media.windows import Inputs
from vatt_tf.data.schema import ClipSpec
from vatt_tf.embedder import Embedder, Embeddings, WindowSums, batches, choose_spaces
from vatt_tf.errors import NO_TEXT_TOWER, NO_VOCABULARY, UserError
from vatt_tf.evaluation.collect import embeddings as embeddings_lib


def load(path: str, *, batch_size: int = 8, modules: Sequence[str] = ()) -> VattEmbedder:
    """Loads a trained model for embedding.

    Args:
        path: Run directory (its newest checkpoint is taken) or weights folder.
        batch_size: Windows that go through the model at once.
        modules: Modules of your own to import first, which register parts of the model
            (docs/extending.md).

    Returns:
        The embedder.

    Raises:
        UserError: If there is no usable model at ``path``.
    """
    from vatt_tf.models import io

    registry.import_modules(modules)
    path = paths.expand(path)
    if not pathlib.Path(path).is_dir():
        raise UserError(f"{path}: no such folder; give a run directory or a weights folder")
    model, clip, tokenizer = io.load_pretrained(path)
    return VattEmbedder(model, clip, tokenizer, batch_size=batch_size)


class LocalEmbedder(Embedder[Embeddings]):
    """The embedder of a model in this process: a loaded one, or exported ones.

    Args:
        clip: Shape of the clips that the towers read.
        spaces: Space -> modality -> dimension of the embeddings.
        batch_size: Windows that go through the model at once.

    Raises:
        UserError: If ``batch_size`` is not positive.
    """

    def __init__(self, clip: ClipSpec, spaces: dict[str, dict[str, int]], batch_size: int):
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, found {batch_size}")
        self.clip = clip
        self._spaces = spaces
        self._batch_size = batch_size

    @property
    def spaces(self) -> dict[str, tuple[str, ...]]:
        """Common spaces and the modalities in them, e.g. ``{"va": ("video", "audio"), ...}``."""
        return {name: tuple(parts) for name, parts in self.dimensions.items()}

    @property
    def dimensions(self) -> dict[str, dict[str, int]]:
        """Embedding dimension per space and modality."""
        return self._spaces

    def _embed(
        self, modality: str, make: Callable[[ClipSpec], Inputs], space: str | None
    ) -> Embeddings:
        self._require(modality)
        chosen = choose_spaces(modality, self.spaces, space)
        inputs = make(self.clip)
        sums = WindowSums(inputs)
        for owners, windows in batches(inputs, self._batch_size):
            outputs = self._outputs(modality, windows)
            sums.add(owners, {name: outputs[name] for name in chosen})
        return sums.embeddings(modality, space)

    def _outputs(self, modality: str, windows: np.ndarray) -> Mapping[str, Any]:
        """Outputs of the model for windows of a modality: space -> [n, ..., d]."""
        raise NotImplementedError

    def _require(self, modality: str) -> None:
        if modality == "text" and not any("text" in parts for parts in self.spaces.values()):
            raise UserError(f"embed_text: {NO_TEXT_TOWER}")
        if not any(modality in parts for parts in self.spaces.values()):
            spaces = ", ".join(f"{n} ({' and '.join(p)})" for n, p in self.spaces.items())
            raise UserError(f"this model has no {modality} tower; its spaces: {spaces}")


class VattEmbedder(LocalEmbedder):
    """The embedder of a model that is loaded into this process.

    Args:
        model: A built VATT.
        clip: Shape of the clips that it reads.
        tokenizer: From UTF-8 [n] to what its text tower reads; None where there is no vocabulary.
        batch_size: Windows that go through the model at once.
    """

    def __init__(
        self,
        model: Any,
        clip: ClipSpec,
        tokenizer: Callable[[Any], Any] | None,
        *,
        batch_size: int = 8,
    ):
        super().__init__(clip, _read_spaces(model, clip), batch_size)
        self.model = model
        self.tokenizer = tokenizer
        self._embed_batch = embeddings_lib.embedding_function(model)

    @property
    def config(self) -> Any:
        """The ``VattConfig`` that the model was built from."""
        return self.model.config

    def split_known(self, text: str) -> tuple[list[str], list[str]] | None:
        """See the base class; None where the model was saved without its vocabulary."""
        super()._require("text")
        split = getattr(self.tokenizer, "split_known", None)
        return None if split is None else split(text)

    def _require(self, modality: str) -> None:
        super()._require(modality)
        if modality == "text" and self.tokenizer is None:
            raise UserError(f"embed_text: {NO_VOCABULARY}")

    def _outputs(self, modality: str, windows: np.ndarray) -> Mapping[str, Any]:
        outputs = self._embed_batch({modality: self._tower_inputs(modality, windows)})
        return {space: parts[modality] for space, parts in outputs.items() if modality in parts}

    def _tower_inputs(self, modality: str, windows: np.ndarray) -> np.ndarray:
        """Input of the tower: tokens of strings, samples as [n, samples, 1] or log-mel."""
        if modality == "text":
            assert self.tokenizer is not None
            return np.asarray(self.tokenizer(windows.tolist()))
        if modality == "video":
            return windows
        if self.clip.audio == "waveform" and self.clip.waveform_scaling == "none":
            return windows[..., None]
        from vatt_tf.data.input import audio_ops

        # One at a time, as the pipeline does: how a sum is rounded may depend on the batch.
        return np.stack([audio_ops.audio_frontend(one, self.clip) for one in windows])[..., None]


def _read_spaces(model: Any, clip: ClipSpec) -> dict[str, dict[str, int]]:
    """Space -> modality -> dimension, read off the shapes of the head."""
    towers = {m: tower for m, tower in model.towers.items() if m != "audio" or clip.audio != "none"}
    shapes = model.head.compute_output_shape(
        {modality: (None, tower.output_dim) for modality, tower in towers.items()}
    )
    return {
        space: {m: int(parts[m][-1]) for m in towers if m in parts}
        for space, parts in shapes.items()
    }
