"""Plots of the report that need the embeddings: similarity histograms and t-SNE maps."""

from __future__ import annotations

import numpy as np

from vatt_tf.evaluation import figures
from vatt_tf.evaluation.embeddings import MODALITIES, EmbeddingSet

# Points of a t-SNE plot: more takes long and shows no more.
TSNE_POINTS = 600
# Pairs drawn for the histogram of the other (not paired) similarities.
OTHER_PAIRS = 200_000


def _pairs(evaluation: EmbeddingSet) -> list[tuple[str, str, str, np.ndarray]]:
    """(space, modality, modality, clips that have both) of every pair that shares a space."""
    found = []
    for a, b in (("video", "text"), ("video", "audio"), ("audio", "text")):
        space = evaluation.space_of(a, b)
        if space is not None:
            both = np.flatnonzero(evaluation.masks[a] & evaluation.masks[b])
            if len(both) > 1:
                found.append((space, a, b, both))
    return found


def similarities(evaluation: EmbeddingSet) -> str:
    """Section with the densities of the similarities of same clips and of other pairs."""
    random = np.random.default_rng(0)
    charts = []
    for space, a, b, both in _pairs(evaluation):
        first, second = evaluation.spaces[space][a][both], evaluation.spaces[space][b][both]
        n = len(both)
        count = min(OTHER_PAIRS, n * (n - 1))
        row = random.integers(0, n, count)
        column = (row + random.integers(1, n, count)) % n
        right = np.einsum("nd,nd->n", first, second)
        other = np.einsum("nd,nd->n", first[row], second[column])
        groups = [("other pairs", other, "other"), ("same clip", right, b)]
        charts.append(
            figures.figure(
                f"{a} and {b} (space {space})",
                figures.histogram(groups, "cosine similarity"),
                figures.legend([(name, style) for name, _, style in groups]),
            )
        )
    hint = (
        "How alike the embeddings of one clip are, against those of different clips. The further "
        "apart the two hills, the better the model tells clips apart. Dotted: means."
    )
    return figures.card("Similarity", hint, f'<div class="charts">{"".join(charts)}</div>')


def tsne_maps(evaluation: EmbeddingSet) -> str:
    """Section with one t-SNE map per common space."""
    charts = []
    for space, parts in evaluation.spaces.items():
        present = [m for m in MODALITIES if m in parts and evaluation.masks[m].any()]
        if len(present) < 2:
            continue
        places = _project(evaluation, space, present)
        if places is None:
            continue
        series = [
            figures.Series(m, xy[:, 0], xy[:, 1], m, [_describe(evaluation, i, m) for i in clips])
            for m, (clips, xy) in places.items()
        ]
        charts.append(
            figures.figure(
                f"space {space}",
                figures.scatter(series),
                figures.legend([(one.name, one.style) for one in series]),
            )
        )
    hint = (
        "Every mark is one clip seen, heard or told; marks of alike embeddings lie together. "
        "Point at a mark to see which clip it is. Axes have no unit."
    )
    return figures.card(
        "Map of the embeddings (t-SNE)", hint, f'<div class="charts">{"".join(charts)}</div>'
    )


def _project(
    evaluation: EmbeddingSet, space: str, present: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Modality -> (clip indices, [n, 2]) on one map."""
    from sklearn.manifold import TSNE

    clips = {}
    for m in present:
        own = np.flatnonzero(evaluation.masks[m])
        most = min(len(own), TSNE_POINTS // len(present))
        clips[m] = own[np.linspace(0, len(own) - 1, most).round().astype(int)]
    points = np.concatenate([evaluation.spaces[space][m][clips[m]] for m in present])
    if len(points) < 8:
        return None
    perplexity = float(np.clip(len(points) / 12, 3, 30))
    # Spread out points that coincide (equal captions), so that they do not hide each other.
    points = points + np.random.default_rng(0).normal(0, 1e-4, points.shape)
    flat = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    ends = np.cumsum([len(clips[m]) for m in present])[:-1]
    return {m: (clips[m], xy) for m, xy in zip(present, np.split(flat, ends), strict=True)}


def _describe(evaluation: EmbeddingSet, i: int, modality: str) -> str:
    words = evaluation.caption[i] or evaluation.label_text[i]
    where = f"{evaluation.filename[i]} at {evaluation.start[i]:.1f} s"
    return f"{modality}: {words} ({where})" if words else f"{modality}: {where}"
