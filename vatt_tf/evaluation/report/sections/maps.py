"""Plots that need embeddings: similarity densities and t-SNE maps, before and after the towers."""

from __future__ import annotations

import numpy as np

from vatt_tf.data.schema import MODALITIES
from vatt_tf.evaluation.collect.activations import Activations
from vatt_tf.evaluation.collect.clustering import evenly_spaced, modality_silhouette
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet
from vatt_tf.evaluation.report import elements, figures
from vatt_tf.wording import fixed

# Most points of a t-SNE plot: more take long and add nothing to the picture.
TSNE_POINTS = 600
# Pairs drawn for the histogram of the other (not paired) similarities.
OTHER_PAIRS = 200_000
PAIRS = (("video", "text"), ("video", "audio"), ("audio", "text"))
BEFORE = "before the towers (tokens)"
AFTER = "after the towers (features)"


def similarities(evaluation: EmbeddingSet, inputs: EmbeddingSet | None) -> str:
    """Section with the densities of the similarities of same clips and of other pairs.

    Args:
        evaluation: Embeddings in the common spaces.
        inputs: ``Activations.clips`` of the same model, for the input space.
    """
    charts = []
    for a, b in PAIRS:
        space = evaluation.space_of(a, b)
        if space is None:
            continue
        if inputs is not None:
            charts.append(_density(inputs, "tokens", a, b, f"{a} and {b}, {BEFORE}"))
        charts.append(_density(evaluation, space, a, b, f"{a} and {b}, common space {space}"))
    hint = (
        "How alike one clip is in two modalities, against different clips. The further apart the "
        "two hills, the better the model separates clips. Dotted: means."
    )
    if inputs is not None:
        hint += " Before the towers nothing has brought the modalities together."
    return elements.card("Similarity", hint, elements.grid(charts))


def _density(clips: EmbeddingSet, space: str, a: str, b: str, title: str) -> str:
    parts = clips.spaces[space]
    if a not in parts or b not in parts:
        return ""
    both = np.flatnonzero(clips.masks[a] & clips.masks[b])
    n = len(both)
    if n < 2:
        return ""
    first, second = parts[a][both], parts[b][both]
    random = np.random.default_rng(0)
    count = min(OTHER_PAIRS, n * (n - 1))
    row = random.integers(0, n, count)
    column = (row + random.integers(1, n, count)) % n
    right = np.einsum("nd,nd->n", first, second)
    other = np.einsum("nd,nd->n", first[row], second[column])
    groups = [("other pairs", other, "other"), ("same clip", right, b)]
    names = elements.legend([(name, style) for name, _, style in groups])
    return elements.figure(title, figures.histogram(groups, "cosine similarity"), names)


def modality_maps(evaluation: EmbeddingSet | None, activations: Activations | None) -> list[str]:
    """t-SNE figures by modality: before the towers, after them, then in each common space.

    Features after the towers are shown where they have one width. Where vectors of different
    modalities can be compared, the title has the silhouette by modality.

    Args:
        evaluation: Embeddings in the common spaces.
        activations: Of the same model.
    """
    charts = []
    if activations is not None:
        clips, comparable = activations.clips, activations.comparable
        charts.append(_modality_map(clips, "tokens", BEFORE, "tokens" in comparable))
        if "features" in comparable:
            charts.append(_modality_map(clips, "features", AFTER, True))
    for space in () if evaluation is None else evaluation.spaces:
        charts.append(_modality_map(evaluation, space, f"common space {space}", True))
    return charts


def tsne(evaluation: EmbeddingSet, activations: Activations | None) -> str:
    """Section with the maps of :func:`modality_maps`."""
    hint = (
        "Every mark is one clip seen, heard or told; marks of alike vectors lie together. "
        "Point at a mark to see which clip it is. Axes have no unit. Silhouette by modality, of "
        "the vectors themselves: 1 where each modality lies by itself, 0 where they are mixed."
    )
    charts = modality_maps(evaluation, activations)
    return elements.card("Map of the embeddings (t-SNE)", hint, elements.grid(charts))


def _modality_map(clips: EmbeddingSet | None, space: str, title: str, comparable: bool) -> str:
    if clips is None:
        return ""
    found = modality_silhouette(clips, space) if comparable else None
    if found is not None:
        title = f"{title}, silhouette {fixed(found['mean'], 2)}"
    parts = clips.spaces[space]
    present = [m for m in MODALITIES if m in parts and clips.masks[m].any()]
    if len(present) < 2:
        return ""
    chosen = {m: evenly_spaced(clips.masks[m], TSNE_POINTS // len(present)) for m in present}
    flat = project(np.concatenate([parts[m][chosen[m]] for m in present]))
    if flat is None:
        return ""
    ends = np.cumsum([len(chosen[m]) for m in present])[:-1]
    series = [
        figures.Series(m, xy[:, 0], xy[:, 1], m, [_describe(clips, i, m) for i in chosen[m]])
        for m, xy in zip(present, np.split(flat, ends), strict=True)
    ]
    names = elements.legend([(one.name, one.style) for one in series])
    return elements.figure(title, figures.scatter(series), names)


def class_maps(clips: EmbeddingSet) -> list[str]:
    """t-SNE figures of each modality before and after its tower, a colour per class (figure 2).

    Args:
        clips: ``Activations.clips`` with labels.
    """
    charts = []
    for modality in clips.spaces["features"]:
        for space, where in (("tokens", BEFORE), ("features", "after the tower")):
            charts.append(_class_map(clips, space, modality, f"{modality} {where}"))
    return charts


def classes(clips: EmbeddingSet) -> str:
    """Section with the maps of :func:`class_maps`."""
    hint = (
        "Every mark is one clip, its colour is its class (the ten most frequent ones; the others "
        "are grey). A tower that separates the classes shows them as groups."
    )
    return elements.card("Map of the classes (t-SNE)", hint, elements.grid(class_maps(clips)))


def _class_map(clips: EmbeddingSet, space: str, modality: str, title: str) -> str:
    labelled = np.array([bool(own) for own in clips.labels])
    chosen = evenly_spaced(clips.masks[modality] & labelled, TSNE_POINTS)
    names = np.array([_classes(clips, i) for i in chosen], object)
    flat = project(clips.spaces[space][modality][chosen])
    if flat is None:
        return ""
    found, counts = np.unique(names.astype(str), return_counts=True)
    frequent = sorted(found[np.argsort(-counts, kind="stable")[: figures.NUMBERED]])
    series = []
    for style, name, rows in [
        ("other", "other classes", np.flatnonzero(~np.isin(names.astype(str), frequent))),
        *(
            (figures.numbered_style(i), name, np.flatnonzero(names == name))
            for i, name in enumerate(frequent)
        ),
    ]:
        if len(rows):
            notes = [f"{names[i]} ({_where(clips, chosen[i])})" for i in rows]
            series.append(figures.Series(str(name), flat[rows, 0], flat[rows, 1], style, notes))
    legend = elements.legend([(one.name, one.style) for one in series])
    return elements.figure(title, figures.scatter(series), legend)


def project(points: np.ndarray) -> np.ndarray | None:
    """t-SNE of unit vectors: float [n, d] -> float32 [n, 2]; None for too few to make a map."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(points) < 8:
        return None
    perplexity = float(np.clip(len(points) / 12, 3, 30))
    # Spread out points that coincide (equal captions), so that they do not hide each other.
    points = points + np.random.default_rng(0).normal(0, 1e-4, points.shape)
    # One thread: beside a training run, threads that wait for each other take minutes.
    with threadpool_limits(limits=1):
        return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)


def _describe(clips: EmbeddingSet, i: int, modality: str) -> str:
    words = clips.caption[i] or _classes(clips, i)
    return (
        f"{modality}: {words} ({_where(clips, i)})" if words else f"{modality}: {_where(clips, i)}"
    )


def _classes(clips: EmbeddingSet, i: int) -> str:
    return ", ".join(f"class {one}" if isinstance(one, int) else one for one in clips.labels[i])


def _where(clips: EmbeddingSet, i: int) -> str:
    return f"{clips.filename[i]} at {clips.start[i]:.1f} s"
