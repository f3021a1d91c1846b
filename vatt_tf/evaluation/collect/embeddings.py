"""Runs a model over a finite data set and collects the embeddings of every clip.

The windows of a clip are averaged as the paper does for retrieval: the mean of the embeddings, then
the L2 norm (VATT, A.3.3). The last, partly filled batch counts like any other.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vatt_tf.data.schema import MODALITIES, split_labels
from vatt_tf.evaluation.collect import batches
from vatt_tf.unit_length import l2_normalize

# Classes by name; by index for records that name none.
Labels = list[tuple[str | int, ...]]
_LABELS = ("label_text", "label_index")


@dataclasses.dataclass
class EmbeddingSet:
    """Embeddings and metadata of the clips of a data set; row i of everything is clip i.

    Attributes:
        spaces: space name -> modality -> float32 [n, d], L2-normalised; rows of clips that lack the
            modality are zero.
        masks: modality -> bool [n], whether the clip has it.
        filename: The n file names.
        start: float32 [n], start of the clip in its file, in seconds.
        labels: The classes of the n clips by name; by index (int) for records that name none.
        caption: The n captions that were embedded (the one that overlaps the clip most).
        strips: A few frames of each clip side by side as JPEG bytes; empty unless asked for.
        windows: Windows averaged per clip.
    """

    spaces: dict[str, dict[str, np.ndarray]]
    masks: dict[str, np.ndarray]
    filename: list[str]
    start: np.ndarray
    labels: Labels
    caption: list[str]
    strips: list[bytes] = dataclasses.field(default_factory=list)
    windows: int = 1

    def __len__(self) -> int:
        return len(self.filename)

    def space_of(self, a: str, b: str) -> str | None:
        """Name of the first space that holds both modalities, or None."""
        return next((name for name, part in self.spaces.items() if a in part and b in part), None)


def embedding_function(model: Any) -> Callable[[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Compiles ``project(encode(inputs))``: dict of inputs -> space -> modality -> [B, d]."""

    def forward(inputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return model.project(model.encode(inputs, training=False), training=False)

    return batches.compiled(forward)


def embed_batch(
    embed: Callable[[dict[str, Any]], dict[str, dict[str, Any]]], batch: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Embeds one batch, window by window, and averages.

    Args:
        embed: See :func:`embedding_function`.
        batch: "video" [b, windows, ...], "audio" [b, windows, ...] and "text" int32 [b, L], any of
            them.

    Returns:
        space -> modality -> float32 [b, d], L2-normalised.
    """
    total: dict[str, dict[str, np.ndarray]] = {}

    def add(outputs: dict[str, dict[str, Any]], weight: float) -> None:
        for space, parts in outputs.items():
            for modality, value in parts.items():
                value = weight * np.asarray(value, np.float32).reshape(len(value), -1)
                sums = total.setdefault(space, {})
                sums[modality] = sums[modality] + value if modality in sums else value

    clips: dict[str, np.ndarray] = {m: batch[m] for m in ("video", "audio") if m in batch}
    if clips:
        windows = _different_windows(clips)
        for w in windows:
            add(embed({m: value[:, w] for m, value in clips.items()}), 1.0 / len(windows))
    if "text" in batch:
        add(embed({"text": batch["text"]}), 1.0)
    return {
        space: {m: l2_normalize(value) for m, value in parts.items()}
        for space, parts in total.items()
    }


def _different_windows(clips: dict[str, np.ndarray]) -> range:
    """Windows to run: all, or the first where clips are so short that all are equal."""
    count = next(iter(clips.values())).shape[1]
    for value in clips.values():
        if any(not np.array_equal(value[:, w], value[:, 0]) for w in range(1, count)):
            return range(count)
    return range(1)


def embed_dataset(
    model: Any,
    dataset: Iterable[dict[str, Any]],
    *,
    embed: Callable[[dict[str, Any]], dict[str, dict[str, Any]]] | None = None,
    limit: int | None = None,
    strip_frames: int = 0,
    progress: Callable[[int], None] | None = None,
) -> EmbeddingSet:
    """Embeds every clip of an evaluation data set.

    Args:
        model: A :class:`vatt_tf.models.vatt.VATT`.
        dataset: Batches of ``data.pipeline.evaluation_dataset``.
        embed: The compiled function of the model; give it when the same model is evaluated often.
        limit: Stop after that many clips.
        strip_frames: Frames per clip kept as a small JPEG for the report, 0 for none.
        progress: Called with the number of clips done after each batch.

    Raises:
        UserError: If the data set holds no clip, or an embedding is not finite.
    """
    embed = embed or embedding_function(model)
    table = batches.ClipTable(strip_frames)
    rows: dict[tuple[str, str], list[np.ndarray]] = {}
    present: dict[str, list[np.ndarray]] = {}
    windows = 1
    for batch, valid in batches.real_clips(dataset, limit, progress):
        inputs: dict[str, np.ndarray] = {m: batch[m] for m in ("video", "audio") if m in batch}
        if "text" in batch:
            inputs["text"] = batch["text"][:, 0]
        windows = next((v.shape[1] for m, v in inputs.items() if m != "text"), windows)
        outputs = embed_batch(embed, inputs)
        for space, parts in outputs.items():
            for modality, value in parts.items():
                rows.setdefault((space, modality), []).append(value[valid])
        for modality in MODALITIES:
            if modality in inputs:
                mask = batches.has_modality(batch, modality)
                present.setdefault(modality, []).append(mask[valid])
        add_clips(table, batch, valid)
    filename = table.strings("filename")
    masks = {modality: np.concatenate(parts) for modality, parts in present.items()}
    spaces: dict[str, dict[str, np.ndarray]] = {}
    for (space, modality), values in rows.items():
        value = np.where(masks[modality][:, None], np.concatenate(values), 0.0)
        batches.check_finite(value, filename, f"{modality} embeddings")
        spaces.setdefault(space, {})[modality] = value
    return EmbeddingSet(spaces, masks, **clip_columns(table), windows=windows)


def add_clips(table: batches.ClipTable, batch: batches.Batch, rows: np.ndarray) -> None:
    """Adds the columns of an :class:`EmbeddingSet` for some rows of a batch."""
    first_caption = {**batch, "caption": batch["caption"][:, 0]}
    table.add(first_caption, rows, ("filename", "start", *_LABELS, "caption"))


def clip_columns(table: batches.ClipTable) -> dict[str, Any]:
    """The clips of :func:`add_clips` as fields of an :class:`EmbeddingSet`."""
    names, indices = (map(split_labels, table.strings(name)) for name in _LABELS)
    return {
        "start": table.column("start").astype(np.float32),
        "labels": [n or tuple(map(int, i)) for n, i in zip(names, indices, strict=True)],
        **{name: table.strings(name) for name in ("filename", "caption")},
        "strips": table.strips,
    }


def multi_hot(labels: Labels, names: Sequence[str | int]) -> np.ndarray:
    """The classes of clips, bool [n, classes]; those that ``names`` lacks do not count."""
    number = {name: c for c, name in enumerate(names)}
    found = np.zeros((len(labels), len(names)), bool)
    for row, own in zip(found, labels, strict=True):
        row[[number[name] for name in own if name in number]] = True
    return found


def embed_strings(
    model: Any, tokenizer: Callable[[Any], Any], strings: list[str], batch_size: int = 256
) -> dict[str, np.ndarray]:
    """Embeds strings: space -> float32 [n, d], L2-normalised."""
    embed = embedding_function(model)
    parts: dict[str, list[np.ndarray]] = {}
    for begin in range(0, len(strings), batch_size):
        tokens = np.asarray(tokenizer(strings[begin : begin + batch_size]))
        for space, value in embed_batch(embed, {"text": tokens}).items():
            if "text" in value:
                parts.setdefault(space, []).append(value["text"])
    return {space: np.concatenate(value) for space, value in parts.items()}


def run_step(run_dir: str | pathlib.Path) -> int | None:
    """Optimizer step of the weights that ``load_pretrained`` takes from a run or weights folder."""
    import json
    import re

    from vatt_tf.models.io import CHECKPOINTS, newest_checkpoint

    run_dir = pathlib.Path(run_dir)
    found = re.search(r"-(\d+)$", newest_checkpoint(run_dir / CHECKPOINTS) or "")
    if found:
        return int(found.group(1))
    if (run_dir / "model.json").is_file():
        return json.loads((run_dir / "model.json").read_text(encoding="utf-8")).get("step")
    return None
