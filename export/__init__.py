"""Exports trained weights as versioned SavedModels, and loads them in Python (``vatt_tf.export``).

Example::

    vatt_tf.export.export_models("runs/quickstart", "models")
    models = vatt_tf.export.load("models")
    clips = models.embed_video(["a.mp4", "b.mp4"])  # as with vatt_tf.load
    features = models.video({"frames": frames})["features"]

TensorFlow is imported by the functions, not with the module.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vatt_tf.export.loading import ExportedModels

__all__ = ["export_models", "load"]


def export_models(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    version: int | None = None,
    models: Sequence[str] | None = None,
) -> dict[str, pathlib.Path]:
    """Writes a trained model as SavedModels; see :func:`vatt_tf.export.writer.export_models`."""
    from vatt_tf.export import writer

    return writer.export_models(path, out, version=version, models=models)


def load(path: str | os.PathLike, *, batch_size: int = 8) -> ExportedModels:
    """Loads the newest SavedModels of a folder; see :func:`vatt_tf.export.loading.load`."""
    from vatt_tf.export import loading

    return loading.load(path, batch_size=batch_size)
