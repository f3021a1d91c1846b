"""Unit activations of the modality-agnostic backbone by modality (VATT, section 4.2.6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vatt_tf.evaluation.report import elements, figures
from vatt_tf.evaluation.report.heatmap import heatmap

# Columns of the map: neighbouring units are averaged.
COLUMNS = 96


def section(units: Mapping[str, np.ndarray]) -> str:
    """Section with the mean size of the activations by layer, and by layer and unit.

    Args:
        units: modality -> float [layers, d], see ``activations.Activations``.
    """
    if not units:
        return ""
    sizes = {modality: np.abs(values) for modality, values in units.items()}
    layers = len(next(iter(sizes.values())))
    curves = [
        figures.Series(m, np.arange(1, layers + 1, dtype=float), value.mean(axis=1), m)
        for m, value in sizes.items()
    ]
    chart = figures.line_chart(curves, "layer", "", zero=True)
    parts = [
        elements.figure(
            "Mean over the units", chart, elements.legend([(one.name, one.style) for one in curves])
        )
    ]
    binned = {m: _binned(value) for m, value in sizes.items()}
    # One scale for all: the brightest cells do not decide it.
    top = max(float(np.quantile(value, 0.99)) for value in binned.values()) or 1.0
    names = [str(layer) for layer in range(1, layers + 1)]
    for modality, value in binned.items():
        picture = heatmap(
            value / top,
            f"activation of the units by layer for {modality}",
            rows=names,
            row_title="layer",
            column_title=f"units 1 to {units[modality].shape[1]}",
            height=210,
            style=modality,
        )
        parts.append(elements.figure(modality.capitalize(), picture))
    hint = (
        "All modalities pass through the same Transformer. Shown is the size of the mean "
        "activation of its units at the output of each MLP, before the residual is added, over "
        "all clips and tokens. The maps have one scale."
    )
    return elements.card("Nodes of the shared backbone", hint, elements.grid(parts))


def _binned(values: np.ndarray) -> np.ndarray:
    """Means of neighbouring columns: [layers, d] -> [layers, at most COLUMNS]."""
    edges = np.linspace(0, values.shape[1], min(COLUMNS, values.shape[1]) + 1).round().astype(int)
    return np.add.reduceat(values, edges[:-1], axis=1) / np.diff(edges)
