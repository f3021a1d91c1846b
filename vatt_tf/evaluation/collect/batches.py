"""Helpers of all evaluations: compiled calls, batches without padding, clip names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import UserError

Batch = dict[str, np.ndarray]
Function = Callable[[dict[str, Any]], Any]


def compiled(forward: Function) -> Function:
    """Compiles a function of a dict of inputs [B, ...].

    There is one graph per set of inputs and clip shape, for any number of rows.
    """
    import tensorflow as tf

    graphs: dict[tuple, Any] = {}

    def call(inputs: dict[str, Any]) -> Any:
        tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
        key = tuple((name, t.dtype, tuple(t.shape[1:])) for name, t in sorted(tensors.items()))
        if key not in graphs:
            signature = {
                n: tf.TensorSpec([None, *t.shape[1:]], t.dtype) for n, t in tensors.items()
            }
            graphs[key] = tf.function(forward, input_signature=[signature], autograph=False)
        return graphs[key](tensors)

    return call


def real_clips(
    dataset: Iterable[dict[str, Any]],
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yields batches of ``data.pipeline.evaluation_dataset`` and the rows that are clips.

    Args:
        dataset: Batches; the last one may be padded.
        limit: Stop after that many clips.
        progress: Called with the number of clips done after each batch.

    Yields:
        The batch as NumPy arrays and int64 [clips], its rows that count.

    Raises:
        UserError: If the data set holds no clip.
    """
    done = 0
    for tensors in dataset:
        batch = {key: np.asarray(value) for key, value in tensors.items()}
        rows = np.flatnonzero(batch["valid"])
        if limit is not None:
            rows = rows[: limit - done]
        if not rows.size:
            break
        yield batch, rows
        done += len(rows)
        if progress is not None:
            progress(done)
        if limit is not None and done >= limit:
            break
    if not done:
        raise UserError("the data set to evaluate on holds no clip")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of a model for the clips of a data set; row i of everything is clip i.

    Attributes:
        values: float32 ``[n, ...]``.
        clips: ``filename``, ``start`` and ``end`` in seconds, ``labels`` ``[n, C]``, and
            ``left_out``, the number of clips that have none of the modalities and no row.
        strips: Frame strips, see :class:`ClipTable`.
    """

    values: np.ndarray
    clips: dict[str, Any]
    strips: list[bytes]


def collect_outputs(
    dataset: Iterable[dict[str, Any]],
    modalities: Sequence[str],
    run: Callable[[Batch], np.ndarray],
    name: str,
    *,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    strip_frames: int = 0,
) -> Outputs:
    """Runs a function over every clip that has one of the modalities.

    Args:
        dataset: Batches of ``data.pipeline.evaluation_dataset(label_names=...)``.
        modalities: Those that the function reads.
        run: A batch -> float32 ``[b, ...]``.
        name: Of the outputs, for messages.
        limit: Stop after that many clips.
        progress: Called with the number of clips done after each batch.
        strip_frames: Frames per clip kept as a small JPEG, 0 for none.

    Raises:
        UserError: If no clip has one of the modalities, or an output is not finite.
    """
    table, found, left_out = ClipTable(strip_frames), [], 0
    for batch, rows in real_clips(dataset, limit, progress):
        present = np.any([has_modality(batch, m) for m in modalities], axis=0)
        usable = rows[present[rows]]
        left_out += len(rows) - len(usable)
        if usable.size:
            found.append(run(batch)[usable])
            table.add(batch, usable, ("filename", "start", "end", "labels"))
    if not found:
        raise UserError(
            f"none of the {left_out} clips has {' or '.join(modalities)}, which the model reads; "
            "evaluate it on data that have it"
        )
    values, names = np.concatenate(found), table.strings("filename")
    check_finite(values, names, name)
    clips = {n: table.column(n).astype(np.float32) for n in ("start", "end", "labels")}
    return Outputs(values, {**clips, "filename": names, "left_out": left_out}, table.strips)


def check_finite(values: np.ndarray, names: Sequence[str], what: str) -> None:
    """Refuses outputs ``[n, ...]`` that are not finite.

    Raises:
        UserError: Names the first of the n clips.
    """
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if bad.size:
        raise UserError(
            f"{what} of {bad.size} of {len(names)} clips are NaN or infinite (first: "
            f"{names[bad[0]]}): the weights are broken or the run diverged; evaluate an earlier "
            "checkpoint"
        )


def has_modality(batch: Batch, modality: str) -> np.ndarray:
    """Whether the clips have the modality (text: in their first caption), bool [b]."""
    return batch[f"{modality}_mask"].reshape(len(batch["valid"]), -1)[:, 0] > 0


def view_inputs(batch: Batch, modalities: Sequence[str]) -> list[tuple[Batch, float]]:
    """Distinct views of a batch as inputs of a model, with their weights in a mean.

    See :func:`numbered_views`.

    Returns:
        Pairs of inputs [b, ...] with their ``<modality>_mask`` float32 [b], and the weight.
    """
    count = view_count(batch, modalities)
    return [(view, len(numbers) / count) for view, numbers in numbered_views(batch, modalities)]


def numbered_views(batch: Batch, modalities: Sequence[str]) -> list[tuple[Batch, list[int]]]:
    """Distinct views of a batch as inputs of a model, and the indices of each.

    View ``v`` of the video, window ``v // crops``, goes with that window of the sound; the first
    caption goes with each view. Views that are equal, because clips are as short as one window,
    are listed once.

    Args:
        batch: ``video`` [b, windows * crops, ...], ``audio`` [b, windows, ...], ``text``
            [b, P, L] and their masks.
        modalities: Those that the model reads.

    Returns:
        Pairs of inputs [b, ...] with their ``<modality>_mask`` float32 [b], and the views that
        they are.
    """
    clips = {m: batch[m] for m in modalities if m != "text"}
    count = view_count(batch, modalities)
    fixed: Batch = {f"{m}_mask": has_modality(batch, m).astype(np.float32) for m in modalities}
    if "text" in modalities:
        fixed["text"] = batch["text"][:, 0]
    views: list[tuple[Batch, list[int]]] = []
    for v in range(count):
        view = {m: value[:, v * value.shape[1] // count] for m, value in clips.items()}
        for earlier, numbers in views:
            if all(_same(view[m], earlier[m]) for m in view):
                numbers.append(v)
                break
        else:
            views.append(({**view, **fixed}, [v]))
    return views


def view_count(batch: Batch, modalities: Sequence[str]) -> int:
    """Number of views of each clip, equal ones included."""
    return max((batch[m].shape[1] for m in modalities if m != "text"), default=1)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    # Different views mostly differ in their first clip already.
    return np.array_equal(a[0], b[0]) and np.array_equal(a, b)


class ClipTable:
    """Collects metadata of the clips, and frame strips of them on request.

    Args:
        strip_frames: Frames per clip kept as a small JPEG for the report, 0 for none.
    """

    def __init__(self, strip_frames: int = 0) -> None:
        self._strip_frames = strip_frames
        self._strips: list[bytes] = []
        self._any_video = False
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, batch: Batch, rows: np.ndarray, names: Sequence[str]) -> None:
        """Appends rows of a batch: those of the columns ``names`` that the batch has."""
        for name in names:
            if name in batch:
                self._parts.setdefault(name, []).append(batch[name][rows])
        if self._strip_frames and "video" in batch:
            self._strips += [frame_strip(batch["video"][i, 0], self._strip_frames) for i in rows]
            self._any_video |= bool(has_modality(batch, "video")[rows].any())

    @property
    def strips(self) -> list[bytes]:
        """Frame strips, one per clip; none where no clip has frames."""
        return self._strips if self._any_video else []

    def column(self, name: str) -> np.ndarray:
        """All rows of a column."""
        return np.concatenate(self._parts[name])

    def strings(self, name: str) -> list[str]:
        """All rows of a column of strings."""
        return [as_text(value) for value in self.column(name)]


def frame_strip(video: np.ndarray, frames: int, height: int = 72) -> bytes:
    """JPEG of ``frames`` evenly spaced frames of a uint8 clip [T, H, W, 3], side by side."""
    import tensorflow as tf

    index = np.linspace(0, len(video) - 1, frames).round().astype(int)
    chosen = video[index]
    height = min(height, chosen.shape[1])
    width = max(1, round(chosen.shape[2] * height / chosen.shape[1]))
    small = tf.image.resize(chosen, (height, width), method="area").numpy()
    strip = np.concatenate(list(small.round().clip(0, 255).astype(np.uint8)), axis=1)
    return tf.io.encode_jpeg(strip, quality=80).numpy()


def as_text(value: bytes | str) -> str:
    """Decodes a string of the pipeline."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
