"""Reads settings, curves, results and size of a run from its directory."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np

from vatt_tf import paths
from vatt_tf.data.schema import MODALITIES
from vatt_tf.wording import count_of


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """Content of a run directory; everything may be missing.

    Attributes:
        folder: The run directory.
        name: Name of the folder.
        summary: The model in a few words.
        description: Content of model.json.
        settings: Binding -> value of config.gin, for values that are plain literals.
        lines: Lines of metrics.jsonl.
        results: Content of results.json.
        parameters: Number of weights, or None without a checkpoint.
    """

    folder: pathlib.Path
    name: str
    summary: str
    description: dict[str, Any]
    settings: dict[str, Any]
    lines: list[dict[str, Any]]
    results: dict[str, Any]
    parameters: int | None

    @property
    def train_lines(self) -> list[dict[str, Any]]:
        """Lines of training, without those of evaluations."""
        return [line for line in self.lines if line.get("kind", "train") == "train"]

    @property
    def eval_lines(self) -> list[dict[str, Any]]:
        """Lines of the evaluations during training."""
        return [line for line in self.lines if line.get("kind") == "eval"]

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Lines of the alerts: ``step``, ``guard``, ``message``."""
        return [line for line in self.lines if line.get("kind") == "alarm"]


def read_run(run_dir: pathlib.Path) -> RunInfo:
    """Reads a run directory; missing files give empty fields."""
    description = _json(run_dir / "model.json")
    return RunInfo(
        folder=run_dir.resolve(),
        name=run_dir.resolve().name,
        summary=_summary(description),
        description=description,
        settings=_settings(run_dir / "config.gin"),
        lines=_metric_lines(run_dir / "metrics.jsonl"),
        results=_json(run_dir / "results.json"),
        parameters=_parameters(run_dir),
    )


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _metric_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without one that a crash has truncated."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _settings(path: pathlib.Path) -> dict[str, Any]:
    """Binding -> value of config.gin, for values that are plain literals."""
    if not path.exists():
        return {}
    from vatt_tf.config import bindings_in

    found = {}
    for name, value in bindings_in(path.read_text(encoding="utf-8")).items():
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue
    return found


def _parameters(run_dir: pathlib.Path) -> int | None:
    """Number of weights by the shapes in the newest checkpoint or the weights file."""
    index = run_dir / "checkpoints"
    if index.is_dir():
        import tensorflow as tf

        from vatt_tf.models.io import newest_checkpoint

        newest = newest_checkpoint(index)
        if newest:
            with paths.readable_by_tensorflow(newest) as prefix:
                shapes = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
            return sum(math.prod(s) for name, s in shapes.items() if name.startswith("model/"))
    if (run_dir / "model.weights.h5").exists():
        import h5py

        sizes: list[int] = []
        with h5py.File(run_dir / "model.weights.h5") as file:
            file.visititems(lambda _, x: sizes.append(getattr(x, "size", 0)))
        return sum(sizes)
    return None


def _summary(description: dict[str, Any]) -> str:
    """Summary of the model: kind, towers, input."""
    model, clip = description.get("model", {}), description.get("clip", {})
    if not model:
        return "video-audio-text Transformer"
    if description.get("kind") == "classifier":
        what = f"classifier of {model.get('num_classes')} classes"
        what += ", several per clip" if model.get("multi_label") else ""
        what += f", {model['fusion'].replace('_', ' ')} of towers" if "fusion" in model else ""
    else:
        kinds = {"specific": "modality-specific", "agnostic": "modality-agnostic"}
        what = f"VATT, {kinds.get(model.get('kind', ''), model.get('kind', ''))}"
    towers = _towers(model)
    sizes = [f"{name} {tower['size']}" for name, tower in towers.items() if "size" in tower]
    parts = [what, ", ".join(sizes)]
    if clip and {"video", "agnostic"} & set(towers):
        parts.append(
            f"{count_of(clip.get('frames', 0), 'frame')} of "
            f"{clip.get('width')}x{clip.get('height')} at "
            f"{clip.get('frame_rate'):g} fps"
        )
    return "; ".join(part for part in parts if part)


def _towers(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> settings of the towers of any kind of model."""
    if "tower" in model:
        return {model.get("modality", ""): model["tower"]}
    shared = model.get("kind") == "agnostic"
    names = ("agnostic",) if shared else model.get("modalities") or MODALITIES
    return {name: model[name] for name in names if model.get(name)}


def train_seconds(lines: list[dict[str, Any]]) -> float | None:
    """Seconds between the log lines, without the pauses of interruptions."""
    times = np.array([line["time"] for line in lines if "time" in line], np.float64)
    if len(times) < 2:
        return None
    gaps = np.diff(times)
    usual = float(np.median(gaps))
    return float(gaps[gaps <= max(20 * usual, 60)].sum() + usual)


def chance_loss(settings: dict[str, Any]) -> float | None:
    """Chance-level loss of a pair: that of equal embeddings (losses/contrastive.py)."""
    batch = settings.get("BATCH_SIZE")
    if not isinstance(batch, int) or batch < 2:
        return None
    kind = settings.get("contrastive_loss.denominator", "joint")
    sizes = {"joint": 2 * batch - 1, "joint_positive_twice": 2 * batch, "symmetric": batch**2}
    return math.log(sizes[kind]) if kind in sizes else None
