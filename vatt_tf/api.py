"""Python API for notebooks and apps: ``vatt_tf.load(path)`` returns a :class:`VattEmbedder`.

Example::

    embedder = vatt_tf.load("runs/quickstart")
    clips = embedder.embed_video(["a.mp4", "b.mp4"])  # [2, d], in the space shared with text
    query = embedder.embed_text("a red circle moves left")  # [d]
    embedder.similarity(query, clips)  # [2] cosines
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vatt_tf import paths
from vatt_tf.data.media.windows import (
    Inputs,
    PathLike,
    Span,
    audio_inputs,
    text_inputs,
    video_inputs,
)
from vatt_tf.data.schema import DEFAULT_PARTNER, ClipSpec
from vatt_tf.errors import NO_TEXT_TOWER, NO_VOCABULARY, UserError
from vatt_tf.evaluation.collect import embeddings as embeddings_lib
from vatt_tf.evaluation.metrics import retrieval as metrics


def load(path: str, *, batch_size: int = 8) -> VattEmbedder:
    """Loads a trained model for embedding.

    Args:
        path: Run directory (its newest checkpoint is taken) or weights folder.
        batch_size: Windows that go through the model at once.

    Returns:
        The embedder.

    Raises:
        UserError: If there is no usable model at ``path``.
    """
    from vatt_tf.models import io

    path = paths.expand(path)
    if not pathlib.Path(path).is_dir():
        raise UserError(f"{path}: no such folder; give a run directory or a weights folder")
    model, clip, tokenizer = io.load_pretrained(path)
    return VattEmbedder(model, clip, tokenizer, batch_size=batch_size)


class Embedder:
    """Embeds videos, sounds and strings, and compares them: a loaded model, or exported ones.

    A model has one or more common spaces. With the paper's FAC head these are ``vt`` (video and
    text) and ``va`` (video and audio), so a video has one embedding in each. ``space`` selects
    one, best by the modality to compare with: ``embed_video(x, space="audio")`` is comparable with
    ``embed_audio(y)``. Defaults: video -> the space shared with text, audio and text -> the
    space shared with video. The exact space name ("va") works too, and ``space="all"`` gives a
    dict of all.

    Every result is float32 and has length 1 along the last axis. One input gives a vector [d], a
    list or a batch gives a matrix [n, d]. Inputs longer than the clip of the model are covered by
    ``windows`` evenly spaced windows whose embeddings are averaged (mean, then L2 norm); shorter
    ones are repeated from the start.

    Args:
        clip: Shape of the clips that the towers read.
        spaces: Space -> modality -> dimension of the embeddings.
        embed: From modality -> batch to space -> modality -> embeddings.
        tokenizer: From UTF-8 [n] to what the text tower reads; None where there is no vocabulary.
        batch_size: Windows that go through the model at once.

    Raises:
        UserError: If ``batch_size`` is not positive.
    """

    def __init__(
        self,
        clip: ClipSpec,
        spaces: dict[str, dict[str, int]],
        embed: Callable[[dict[str, np.ndarray]], Mapping[str, Mapping[str, Any]]],
        tokenizer: Callable[[Any], Any] | None,
        batch_size: int,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, found {batch_size}")
        self.clip = clip
        self.tokenizer = tokenizer
        self._spaces = spaces
        self._embed = embed
        self._batch_size = batch_size

    @property
    def spaces(self) -> dict[str, tuple[str, ...]]:
        """Common spaces and the modalities in them, e.g. ``{"va": ("video", "audio"), ...}``."""
        return {name: tuple(parts) for name, parts in self.dimensions.items()}

    @property
    def dimensions(self) -> dict[str, dict[str, int]]:
        """Embedding dimension per space and modality."""
        return self._spaces

    def embed_video(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        start: float = 0.0,
        end: float | None = None,
        frame_rate: float | None = None,
        windows: int = 4,
        space: str | None = None,
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Embeds video files or frames.

        Args:
            source: A path, a list of paths, frames uint8 [T, H, W, 3] (RGB), or a batch uint8
                [N, T, H, W, 3].
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            frame_rate: Frames per second of the given frames; the model's own rate by default.
                Files have their own.
            windows: Windows averaged when the input is longer than a clip.
            space: See the class.

        Raises:
            UserError: If a file cannot be decoded or the array is not such frames.
        """
        self._require("video")
        span = Span(start, end, windows)
        return self._run("video", video_inputs(source, self.clip, span, frame_rate), space)

    def embed_audio(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        sample_rate: int | None = None,
        start: float = 0.0,
        end: float | None = None,
        windows: int = 4,
        space: str | None = None,
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Embeds sound files (or the sound of video files) or samples.

        Args:
            source: A path, a list of paths, mono samples [n], or a batch [N, n]: floats in [-1, 1]
                or int16.
            sample_rate: Samples per second of the given samples, 48000 by default. Files have
                their own.
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            windows: Windows averaged when the input is longer than a clip.
            space: See the class.

        Raises:
            UserError: If a file has no sound or the array is not such samples.
        """
        self._require("audio")
        span = Span(start, end, windows)
        return self._run("audio", audio_inputs(source, self.clip, span, sample_rate), space)

    def embed_text(
        self, strings: str | Sequence[str], *, space: str | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Embeds one string or a list of strings; words beyond the model's token limit are cut.

        Raises:
            UserError: If something is not a string or is empty.
        """
        self._require("text")
        if self.tokenizer is None:
            raise UserError(f"embed_text: {NO_VOCABULARY}")
        inputs = text_inputs(strings)
        values = [string.item() for windows in inputs.clips for string in windows]
        tokens = np.asarray(self.tokenizer(values))
        rows = (iter([row]) for row in tokens)
        return self._run("text", dataclasses.replace(inputs, clips=rows), space)

    def split_known(self, text: str) -> tuple[list[str], list[str]] | None:
        """Splits the words of a text into those in the model's vocabulary and the others.

        Args:
            text: Words with white space between, valid UTF-8.

        Returns:
            Both as they are written; None where the vocabulary is not at hand.

        Raises:
            UserError: If the model reads no text.
        """
        self._require("text")
        split = getattr(self.tokenizer, "split_known", None)
        return None if split is None else split(text)

    @staticmethod
    def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosine similarity of embeddings of one space.

        Args:
            a: [d] or [n, d].
            b: [d] or [m, d].

        Returns:
            float32 scalar, [m], [n] or [n, m]: an axis per input that is a matrix.

        Raises:
            UserError: If the dimensions differ.
        """
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        for name, value in (("first", a), ("second", b)):
            if value.ndim not in (1, 2):
                raise UserError(
                    f"similarity: the {name} input has shape {value.shape}, want [n, d]"
                )
        if a.shape[-1] != b.shape[-1]:
            raise UserError(
                f"similarity: the embeddings have {a.shape[-1]} and {b.shape[-1]} dimensions, so "
                'they are of different spaces; compare e.g. embed_video(x, space="audio") with '
                "embed_audio(y)"
            )
        a, b = metrics.l2_normalize(a), metrics.l2_normalize(b)
        return np.asarray(a @ b.T, np.float32)

    # --- Through the model ---

    def _run(
        self, modality: str, inputs: Inputs, space: str | None
    ) -> np.ndarray | dict[str, np.ndarray]:
        chosen = self._resolve(modality, space)
        sums: dict[str, np.ndarray] = {}
        waiting: list[tuple[int, np.ndarray]] = []

        def flush() -> None:
            outputs = self._embed({modality: np.stack([window for _, window in waiting])})
            owners = [owner for owner, _ in waiting]
            for name in chosen:
                value = np.asarray(outputs[name][modality], np.float32).reshape(len(owners), -1)
                total = sums.setdefault(name, np.zeros((inputs.count, value.shape[-1]), np.float32))
                np.add.at(total, owners, value)
            waiting.clear()

        for owner, windows in enumerate(inputs.clips):
            for window in windows:
                waiting.append((owner, self._tower_input(modality, window)))
                if len(waiting) == self._batch_size:
                    flush()
        if waiting:
            flush()
        # The mean and the sum over the windows of a clip have the same direction.
        results = {name: metrics.l2_normalize(value) for name, value in sums.items()}
        for name, value in results.items():
            if not np.isfinite(value).all():
                raise UserError(f"the {modality} embeddings in space {name} are not finite")
        results = {name: value[0] if inputs.single else value for name, value in results.items()}
        return results if space == "all" else results[chosen[0]]

    def _tower_input(self, modality: str, window: np.ndarray) -> np.ndarray:
        """Input of the tower for a window."""
        del modality
        return window

    def _require(self, modality: str) -> None:
        if modality == "text" and not any("text" in parts for parts in self.spaces.values()):
            raise UserError(f"embed_text: {NO_TEXT_TOWER}")
        if not any(modality in parts for parts in self.spaces.values()):
            spaces = ", ".join(f"{n} ({' and '.join(p)})" for n, p in self.spaces.items())
            raise UserError(f"this model has no {modality} tower; its spaces: {spaces}")

    def _resolve(self, modality: str, space: str | None) -> list[str]:
        """Names of the spaces that ``space`` selects."""
        own = {name: parts for name, parts in self.spaces.items() if modality in parts}
        if space == "all":
            return list(own)
        if space is None:
            partner = DEFAULT_PARTNER[modality]
            return [next((n for n, parts in own.items() if partner in parts), next(iter(own)))]
        if space in own:
            return [space]
        found = [name for name, parts in own.items() if space in parts and space != modality]
        if not found:
            partners = sorted({m for parts in own.values() for m in parts} - {modality})
            raise UserError(
                f"space={space!r} for {modality}: expected the modality to compare with "
                f"({', '.join(partners)}), a space name ({', '.join(own)}) or 'all'"
            )
        return found[:1]


class VattEmbedder(Embedder):
    """The embedder of a model that is loaded into this process.

    Args:
        model: A built VATT.
        clip: Shape of the clips that it reads.
        tokenizer: Its tokenizer; None where there is no vocabulary.
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
        embed = embeddings_lib.embedding_function(model)
        super().__init__(clip, _read_spaces(model, clip), embed, tokenizer, batch_size)
        self.model = model

    @property
    def config(self) -> Any:
        """The ``VattConfig`` that the model was built from."""
        return self.model.config

    def _tower_input(self, modality: str, window: np.ndarray) -> np.ndarray:
        """Input of the tower: samples as [samples, 1] or log-mel."""
        if modality != "audio":
            return window
        if self.clip.audio == "waveform" and self.clip.waveform_scaling == "none":
            return window[:, None]
        from vatt_tf.data.input import audio_ops

        return np.asarray(audio_ops.audio_frontend(window, self.clip))[..., None]


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
