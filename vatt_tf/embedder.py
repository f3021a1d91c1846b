"""The protocol of all embedders, wherever their model is: in this process, exported, on a server.

Windows are averaged, spaces chosen and embeddings scaled to length 1 here and nowhere else. NumPy
and the readers of media files only: the client of a server loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from vatt_tf.data.media.windows import (
    Inputs,
    PathLike,
    Span,
    audio_inputs,
    text_inputs,
    video_inputs,
)
from vatt_tf.data.schema import DEFAULT_PARTNER, ClipSpec
from vatt_tf.errors import UserError
from vatt_tf.unit_length import l2_normalize

Embeddings = np.ndarray | dict[str, np.ndarray]
# What the methods give: Embeddings, or something to await that gives them.
Result = TypeVar("Result", covariant=True)


class Embedder(Generic[Result]):
    """Embeds videos, sounds and strings, and compares them.

    A model has one or more common spaces. With the paper's FAC head these are ``vt`` (video and
    text) and ``va`` (video and audio), so a video has one embedding in each. ``space`` says which
    is meant, best by the modality to compare with: ``embed_video(x, space="audio")`` is comparable
    with ``embed_audio(y)``. Defaults: video -> the space shared with text, audio and text -> the
    space shared with video. The exact space name ("va") works too, and ``space="all"`` gives a
    dict of all.

    Every result is float32 and has length 1 along the last axis. One input gives a vector [d], a
    list or a batch gives a matrix [n, d]. Inputs longer than the clip of the model are covered by
    ``windows`` evenly spaced windows whose embeddings are averaged (mean, then L2 norm); shorter
    ones are repeated from the start.
    """

    def embed_video(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        start: float = 0.0,
        end: float | None = None,
        frame_rate: float | None = None,
        windows: int = 4,
        space: str | None = None,
    ) -> Result:
        """Embeds video files or frames.

        Args:
            source: A path, a list of paths, frames uint8 [T, H, W, 3] (RGB), or a batch uint8
                [N, T, H, W, 3].
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            frame_rate: Frames per second of the given frames; the model's own rate by default.
                Files know theirs.
            windows: Windows averaged when the input is longer than a clip.
            space: See the class.

        Raises:
            UserError: If a file cannot be decoded or the array is not such frames.
        """
        span = Span(start, end, windows)
        return self._embed("video", lambda c: video_inputs(source, c, span, frame_rate), space)

    def embed_audio(
        self,
        source: PathLike | Sequence[PathLike] | np.ndarray,
        *,
        sample_rate: int | None = None,
        start: float = 0.0,
        end: float | None = None,
        windows: int = 4,
        space: str | None = None,
    ) -> Result:
        """Embeds sound files (or the sound of video files) or samples.

        Args:
            source: A path, a list of paths, or samples, floats in [-1, 1] or int16: mono [n], a
                recording [n, channels] of at most 8 channels, which are averaged, or a batch
                [N, n] of mono ones.
            sample_rate: Samples per second of the given samples, 48000 by default. Files know
                theirs.
            start: Where to start, in seconds.
            end: Where to stop, in seconds; None for the end.
            windows: Windows averaged when the input is longer than a clip.
            space: See the class.

        Raises:
            UserError: If a file has no sound or the array is not such samples.
        """
        span = Span(start, end, windows)
        return self._embed("audio", lambda c: audio_inputs(source, c, span, sample_rate), space)

    def embed_text(self, strings: str | Sequence[str], *, space: str | None = None) -> Result:
        """Embeds one string or a list of strings; words beyond the model's token limit are cut.

        Raises:
            UserError: If something is not a string or is empty.
        """
        text_inputs(strings)  # A mistake shows before anything is sent.
        return self._embed("text", lambda _: text_inputs(strings), space)

    def split_known(self, text: str) -> Any:
        """Splits a text into words of the vocabulary and other words.

        Args:
            text: Words with white space between, valid UTF-8.

        Returns:
            Both as they are written; None where the vocabulary is not at hand.

        Raises:
            UserError: If the model reads no text.
        """
        raise NotImplementedError

    def _embed(
        self, modality: str, make: Callable[[ClipSpec], Inputs], space: str | None
    ) -> Result:
        """Embeds the inputs that ``make`` gives for the clip shape of the model."""
        raise NotImplementedError

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
        return np.asarray(l2_normalize(a) @ l2_normalize(b).T, np.float32)


class WindowSums:
    """Outputs of a model, added up over the windows of each input.

    Args:
        inputs: Whose windows they are.
    """

    def __init__(self, inputs: Inputs):
        self._inputs = inputs
        self._windows = np.zeros(inputs.count, np.float32)
        self._sums: dict[str, np.ndarray] = {}

    def add(self, owners: Sequence[int], outputs: Mapping[str, Any]) -> None:
        """Adds the outputs of some windows.

        Args:
            owners: Number of the input of each window.
            outputs: Name -> [windows, ..., d].
        """
        np.add.at(self._windows, owners, 1)
        for name, value in outputs.items():
            value = np.asarray(value, np.float32).reshape(len(owners), -1)
            shape = (self._inputs.count, value.shape[-1])
            np.add.at(self._sums.setdefault(name, np.zeros(shape, np.float32)), owners, value)

    def means(self) -> dict[str, np.ndarray]:
        """Name -> mean over the windows, float32 [d], or [n, d] of several inputs."""
        means = {name: total / self._windows[:, None] for name, total in self._sums.items()}
        return self._as_given(means)

    def embeddings(self, modality: str, space: str | None) -> Embeddings:
        """The result of an embedder, whose outputs were added by the names of their spaces.

        Args:
            modality: Of the inputs, for messages.
            space: What was asked for: all spaces come as a dict only for ``"all"``.

        Raises:
            UserError: If an embedding is not finite.
        """
        # The mean and the sum over the windows of an input have the same direction.
        found = {name: l2_normalize(total) for name, total in self._sums.items()}
        for name, value in found.items():
            if not np.isfinite(value).all():
                raise UserError(f"the {modality} embeddings in space {name} are not finite")
        found = self._as_given(found)
        return found if space == "all" else next(iter(found.values()))

    def _as_given(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value[0] if self._inputs.single else value for name, value in values.items()}


def batches(
    inputs: Inputs, size: int, most_bytes: int | None = None
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Windows of all inputs in batches, with the number of the input of each.

    Args:
        inputs: The inputs.
        size: Windows of a batch, at most.
        most_bytes: Bytes of a batch of more than one window, at most; None for any number.
    """
    owners: list[int] = []
    rows: list[np.ndarray] = []
    total = 0
    for owner, windows in enumerate(inputs.clips):
        for window in windows:
            needed = len(window.item()) if window.dtype == object else window.nbytes
            too_many = most_bytes is not None and total + needed > most_bytes
            if rows and (len(rows) == size or too_many):
                yield owners, np.stack(rows)
                owners, rows, total = [], [], 0
            owners.append(owner)
            rows.append(window)
            total += needed
    if rows:
        yield owners, np.stack(rows)


def choose_spaces(
    modality: str, spaces: Mapping[str, Collection[str]], space: str | None
) -> list[str]:
    """Names of the spaces that are meant.

    Args:
        modality: What is embedded.
        spaces: Space -> modalities in it.
        space: See :class:`Embedder`.

    Raises:
        UserError: If there is no such space.
    """
    own = {name: parts for name, parts in spaces.items() if modality in parts}
    if space == "all":
        return list(own)
    if space in own:
        return [space]
    wanted = DEFAULT_PARTNER[modality] if space is None else space
    found = [name for name, parts in own.items() if wanted in parts and wanted != modality]
    if not found and space is not None:
        partners = sorted({m for parts in own.values() for m in parts} - {modality})
        raise UserError(
            f"space={space!r} for {modality}: expected the modality to compare with "
            f"({', '.join(partners)}), a space name ({', '.join(own)}) or 'all'"
        )
    return [*found, *own][:1]


def dimensions_of(
    towers: Iterable[tuple[str, Mapping[str, Mapping[str, Any]]]],
) -> dict[str, dict[str, int]]:
    """Space -> modality -> dimension, also of modalities whose tower is not there.

    Args:
        towers: Modality of each exported tower, and its outputs as it describes them.
    """
    found: dict[str, dict[str, int]] = {}
    for modality, outputs in towers:
        for output in outputs.values():
            if output.get("space"):
                for part in (modality, *output["partners"]):
                    found.setdefault(output["space"], {})[part] = int(output["dim"])
    return {space: found[space] for space in sorted(found)}
