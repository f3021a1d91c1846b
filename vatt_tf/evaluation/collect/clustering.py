"""Silhouette of a space with the modality as cluster: how far apart the modalities lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from vatt_tf.evaluation.collect.embeddings import EmbeddingSet

# Most clips measured: memory and time grow with the square, by the distances of all pairs.
MOST_CLIPS = 1000


def modality_silhouette(clips: EmbeddingSet, space: str) -> dict[str, Any] | None:
    """Silhouette of a space by modality (Rousseeuw, 1987), with cosine distances.

    Of a vector it is (b - a) / max(a, b), where a is its mean distance from the other vectors of
    its modality and b that from the vectors of the nearest other modality: 1 where each modality
    lies by itself, 0 where they are mixed, below 0 where vectors are nearer to another modality.

    Args:
        clips: Vectors; counted are the clips that have all modalities of the space, at most
            ``MOST_CLIPS`` of them, evenly spaced.
        space: One of its spaces.

    Returns:
        ``mean`` over all vectors, the mean of each modality, and ``clips``, the number of clips;
        None where fewer than two modalities or clips are there.
    """
    from sklearn.metrics import silhouette_samples

    parts = clips.spaces[space]
    chosen = evenly_spaced(np.all([clips.masks[m] for m in parts], axis=0), MOST_CLIPS)
    if len(parts) < 2 or len(chosen) < 2:
        return None
    vectors = np.concatenate([parts[m][chosen] for m in parts]).astype(np.float64)
    labels = np.repeat(np.arange(len(parts)), len(chosen))
    values = silhouette_samples(vectors, labels, metric="cosine")
    of_modalities = values.reshape(len(parts), len(chosen)).mean(axis=1)
    return {
        "mean": float(values.mean()),
        **{m: float(value) for m, value in zip(parts, of_modalities, strict=True)},
        "clips": len(chosen),
    }


def evenly_spaced(mask: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most ``most`` clips of the mask, evenly spaced."""
    own = np.flatnonzero(mask)
    most = min(len(own), most)
    return own[np.linspace(0, len(own) - 1, most).round().astype(int)] if most else own
