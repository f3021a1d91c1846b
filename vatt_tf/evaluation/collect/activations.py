"""Token means, pooled features and unit activations of the towers over a data set.

For the paper's figures (sections 4.2.5, 4.2.6): the input space after tokenisation beside the
output space, and the mean activation of each unit of the modality-agnostic backbone at the output
of the MLPs, before the residual is added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from vatt_tf.encoders.text import word_mask
from vatt_tf.evaluation.collect import batches
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet, add_clips, clip_columns
from vatt_tf.unit_length import l2_normalize


@dataclasses.dataclass(frozen=True)
class Activations:
    """Tokens, features and unit activations of the clips of a data set.

    Attributes:
        clips: The clips in the spaces ``"tokens"`` (mean of the tokens as they enter the tower,
            before positions) and ``"features"`` (pooled output of the tower, before the heads),
            L2-normalised. Where the widths of the modalities differ, the narrower ones end in
            zeros.
        units: modality -> float32 [layers, d], mean over clips and tokens of the MLP outputs of
            the shared Transformer; empty for models that have none.
        comparable: The spaces in which the vectors of all modalities have the same width.
    """

    clips: EmbeddingSet
    units: dict[str, np.ndarray]
    comparable: tuple[str, ...] = ()


def collect_activations(
    model: Any,
    dataset: Iterable[dict[str, Any]],
    *,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Activations:
    """Runs the towers of a model over a data set.

    Args:
        model: A :class:`vatt_tf.models.vatt.VATT` or a classifier. Its clips must have the
            configured size.
        dataset: Batches of ``data.pipeline.evaluation_dataset``; all views of a clip are averaged.
        limit: Stop after that many clips.
        progress: Called with the number of clips done after each batch.

    Raises:
        UserError: If the data set holds no clip.
    """
    towers = _towers(model)
    shared = getattr(model.config, "kind", "") == "agnostic"
    function = batches.compiled(lambda inputs: _look(towers, inputs, shared))
    table = batches.ClipTable()
    rows: dict[tuple[str, str], list[np.ndarray]] = {}
    masks: dict[str, list[np.ndarray]] = {}
    units: dict[str, np.ndarray] = {}
    for batch, valid in batches.real_clips(dataset, limit, progress):
        present = [m for m in towers if m in batch]
        for m in present:
            masks.setdefault(m, []).append(batches.has_modality(batch, m)[valid])
        means: dict[tuple[str, str], Any] = {}
        for inputs, share in batches.view_inputs(batch, present):
            for space, parts in function({m: inputs[m] for m in present}).items():
                for m, value in parts.items():
                    value = share * np.asarray(value, np.float32)[valid]
                    means[space, m] = means.get((space, m), 0.0) + value
        for (space, m), value in means.items():
            if space == "units":
                units[m] = units.get(m, 0.0) + value[masks[m][-1]].sum(axis=0, dtype=np.float64)
            else:
                rows.setdefault((space, m), []).append(value)
        add_clips(table, batch, valid)
    merged = {m: np.concatenate(parts) for m, parts in masks.items()}
    clips = EmbeddingSet(
        spaces={
            space: _padded(
                {
                    m: np.where(merged[m][:, None], np.concatenate(value), 0.0)
                    for (s, m), value in rows.items()
                    if s == space
                }
            )
            for space in ("tokens", "features")
        },
        masks=merged,
        **clip_columns(table),
    )
    counts = {m: max(int(mask.sum()), 1) for m, mask in merged.items()}
    unit_means = {m: (v / counts[m]).astype(np.float32) for m, v in units.items()}
    widths: dict[str, set[int]] = {}
    for (space, _), value in rows.items():
        widths.setdefault(space, set()).add(value[0].shape[1])
    return Activations(
        clips, unit_means, tuple(s for s, found in widths.items() if len(found) == 1)
    )


def _towers(model: Any) -> dict[str, Any]:
    """Modality -> encoder of a VATT or a classifier."""
    return dict(model.towers)


def _padded(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pads unit vectors with zeros to one width, which changes no length and no angle."""
    widest = max(value.shape[1] for value in parts.values())
    return {
        modality: l2_normalize(np.pad(value, ((0, 0), (0, widest - value.shape[1]))))
        for modality, value in parts.items()
    }


def _look(
    towers: Mapping[str, Any], inputs: Mapping[str, Any], shared: bool
) -> dict[str, dict[str, Any]]:
    """``tokens`` [B, d] and ``features`` [B, d] of every modality, ``units`` [B, layers, d]."""
    found: dict[str, dict[str, Any]] = {"tokens": {}, "features": {}}
    for modality, value in inputs.items():
        tower = towers[modality]
        tokens, mask = _tokens(tower, value)
        found["tokens"][modality] = _mean(tokens, None if mask is None else mask[:, 1:])
        if shared:
            units, features = _walk(tower, tokens, mask)
            found.setdefault("units", {})[modality] = ops.stack(units, axis=1)
        else:
            features = tower(value, training=False)["features_pooled"]
        found["features"][modality] = features
    return found


def _tokens(tower: Any, value: Any) -> tuple[Any, Any]:
    """Tokens [B, N, d] before positions, and the mask [B, 1 + N] of [AGG] and words or None."""
    mask = None
    if hasattr(tower, "patch_embedding"):
        tokens = tower.patch_embedding(value)
    else:
        ids = ops.cast(value, "int32")
        tokens, mask = tower.word_embedding(ids), word_mask(ids)
    if hasattr(tower, "pre_projection"):
        tokens = ops.gelu(tower.pre_projection(tokens), approximate=False)
    return tokens, mask


def _walk(tower: Any, tokens: Any, mask: Any) -> tuple[Sequence[Any], Any]:
    """Runs the rest of ``TransformerEncoder`` layer by layer and records the MLP outputs.

    Returns:
        Mean MLP output of every block, [B, d] each, and the pooled features [B, output_dim].
    """
    tokens = tower.agg_token(tower.positions(tokens))
    bias = tower.transformer.attention_bias(tokens, mask)
    units = []
    for block in tower.transformer.blocks:
        tokens = tokens + block.attention(block.attention_norm(tokens), bias=bias)
        hidden = ops.gelu(block.mlp_hidden(block.mlp_norm(tokens)), approximate=False)
        hidden = block.mlp_output(hidden)
        units.append(_mean(hidden, mask))
        tokens = tokens + hidden
    pooled = tower.transformer.final_norm(tokens)[:, 0]
    if tower.config.post_projection:
        pooled = ops.gelu(tower.post_projection(pooled), approximate=False)
    return units, pooled


def _mean(tokens: Any, mask: Any) -> Any:
    """Mean over the tokens that are not padding: [B, N, d], [B, N] or None -> float32 [B, d]."""
    tokens = ops.cast(tokens, "float32")
    if mask is None:
        return ops.mean(tokens, axis=1)
    weights = ops.cast(mask, "float32")[:, :, None]
    return ops.sum(tokens * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)
