"""Probes: classifiers on frozen features.

Logistic regression and a linear SVM with C chosen on held-out clips, the paper's low-rank
classifier, nearest neighbours, and logistic regression of a few examples a class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.features import FeatureSet
from vatt_tf.evaluation.metrics import classification as classification_metrics
from vatt_tf.evaluation.metrics import probe_classifiers
from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.evaluation.metrics.probe_classifiers import FITS, GRIDS, Scores
from vatt_tf.evaluation.tasks.classification import chance, true_classes
from vatt_tf.evaluation.tasks.probe_multi_label import (
    format_multi_label,
    has_several_classes,
    probe_multi_label,
)
from vatt_tf.wording import METRIC_NAMES, count_of

DEFAULT_KINDS = ("logistic", "svm")
FEW_SHOT_DRAWS = 10
FOLDS = 5


@dataclasses.dataclass(frozen=True)
class _Clips:
    """Features float32 [n, views, d] and classes int64 [n] of clips."""

    features: np.ndarray
    truth: np.ndarray

    def take(self, rows: np.ndarray) -> _Clips:
        return _Clips(self.features[rows], self.truth[rows])

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Each view as an example: [n * views, d] and [n * views]."""
        views = self.features.shape[1]
        flat = self.features.reshape(-1, self.features.shape[-1])
        return flat, np.repeat(self.truth, views)


def probe(
    train: FeatureSet,
    test: FeatureSet,
    val: FeatureSet | None = None,
    *,
    kinds: Sequence[str] = DEFAULT_KINDS,
    shots: Sequence[int] = (),
    steps: int = probe_classifiers.LOW_RANK_STEPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits classifiers on the features of ``train`` and measures them on ``test``.

    Features that keep their views (``FeatureSet.by_view``) are used view by view: each one of a
    training clip is an example, and the class scores of a test clip are averaged. Where clips have
    several classes, one classifier per class is measured by mean average precision
    (:func:`probe_multi_label`).

    Args:
        train: Training clips.
        test: Clips to measure on; no choice is made on them.
        val: Clips to choose C and the number of neighbours on; stratified cross-validation on
            ``train`` without them.
        kinds: Which classifiers, keys of ``probe_classifiers.FITS``.
        shots: Examples per class of the few-shot table, each with ``FEW_SHOT_DRAWS`` draws of the
            examples and logistic regression.
        steps: Steps of the low-rank classifier.
        seed: Seed of folds, draws and the low-rank classifier.

    Returns:
        The ``probe`` block of results.json without its head.

    Raises:
        UserError: If fewer than two classes have training clips, a class of ``test`` or ``val`` has
            none, or a class has fewer than the examples that ``shots`` asks for.
    """
    parts = {"train": train, "test": test, **({} if val is None else {"val": val})}
    if has_several_classes(list(parts.values())):
        if shots:
            raise UserError("--shots takes clips of one class each; these have several")
        return probe_multi_label(parts, kinds=kinds, grids=GRIDS, seed=seed)
    truth = {
        name: true_classes(part.labels, part.filename, part.label_names)
        for name, part in parts.items()
    }
    classes = _check_classes(truth, train.label_names)
    clips = {name: _clips(part, truth[name], classes) for name, part in parts.items()}
    names = [train.label_names[c] for c in classes]
    _check_shots(clips["train"].truth, names, shots)
    block: dict[str, Any] = {
        "modality": train.modality,
        "classes": len(names),
        "labels": names,
        "pool_size": len(clips["test"].truth),
        "clips": len(test) + test.left_out,
        "train_pool_size": len(clips["train"].truth),
        "feature_size": train.features.shape[1],
        "chance": chance(len(names)),
    }
    for kind in kinds:
        setting, chosen = _choose(kind, clips, len(names), steps, seed)
        scores = _fit(kind, clips["train"], len(names), setting, steps, seed)
        block[kind] = {**_measure(scores, clips["test"]), **chosen}
    if shots:
        block["few_shot"] = _few_shot(clips, len(names), shots, seed)
    return block


def _check_classes(truth: dict[str, np.ndarray], names: Sequence[str]) -> list[int]:
    """Classes that have training clips; every class of the other sets must be one of them."""
    classes = sorted(set(truth["train"].tolist()) - {-1})
    if len(classes) < 2:
        single = ", ".join(names[c] for c in classes) or "no class"
        raise UserError(
            f"the training clips have {single} only; a probe needs clips of at least two classes"
        )
    for part in truth:
        found = sorted(set(truth[part].tolist()) - {-1})
        if not found:
            raise UserError(
                f"no {part} clip has a label: give labels to `vatt_tf.prepare` by a manifest CSV "
                "with the column `label`"
            )
        strange = [names[c] for c in found if c not in classes]
        if strange:
            raise UserError(
                f"{count_of(len(strange), 'class', 'classes')} of the {part} clips without a "
                "training clip "
                f"({', '.join(strange[:10])}): split the data so that every class is in train"
            )
    return classes


def _clips(part: FeatureSet, truth: np.ndarray, classes: Sequence[int]) -> _Clips:
    """The clips that have a class, their classes numbered as in ``classes``."""
    features = part.features[:, None] if part.by_view is None else part.by_view
    labelled = truth >= 0
    return _Clips(features[labelled], np.searchsorted(classes, truth[labelled]))


def _check_shots(truth: np.ndarray, names: Sequence[str], shots: Sequence[int]) -> None:
    counts = np.bincount(truth, minlength=len(names))
    least = int(counts.argmin())
    if shots and max(shots) > counts[least]:
        raise UserError(
            f"--shots={','.join(map(str, shots))}: class {names[least]!r} has "
            f"{count_of(counts[least], 'training clip')} only; ask for at most that many"
        )


def _fit(
    kind: str, train: _Clips, classes: int, setting: float | None, steps: int, seed: int
) -> Scores:
    options = {"steps": steps, "seed": seed} if kind == "low_rank" else {}
    return FITS[kind](*train.examples(), classes, setting, **options)


def _scores(scores: Scores, clips: _Clips) -> np.ndarray:
    """Class scores of clips, averaged over their views: float64 [n, C]."""
    count, views, size = clips.features.shape
    found = scores(clips.features.reshape(-1, size))
    return found.reshape(count, views, -1).mean(axis=1)


def _choose(
    kind: str, clips: dict[str, _Clips], classes: int, steps: int, seed: int
) -> tuple[float | None, dict[str, Any]]:
    """Best setting of a classifier (the smallest of equals), and its entry in the block."""
    if kind not in GRIDS:
        return None, {}
    name, grid = GRIDS[kind]
    train = clips["train"]
    if "val" in clips:
        folds, where = [(train, clips["val"])], "val"
    else:
        count = min(FOLDS, int(np.bincount(train.truth, minlength=classes).min()))
        if count < 2:
            middle = grid[len(grid) // 2]
            return middle, {name: middle, "chosen_on": "nothing: a class has one clip"}
        from sklearn.model_selection import StratifiedKFold

        split = StratifiedKFold(count, shuffle=True, random_state=seed)
        rows = split.split(train.truth, train.truth)
        folds = [(train.take(a), train.take(b)) for a, b in rows]
        where = f"{count}-fold cross-validation on train"
    accuracy = {}
    for setting in grid:
        hits = [
            _hits(_fit(kind, fitted, classes, setting, steps, seed), held_out)
            for fitted, held_out in folds
        ]
        accuracy[setting] = float(np.concatenate(hits).mean())
    best = max(grid, key=lambda setting: (accuracy[setting], -setting))
    tried = {f"{setting:g}": round(value, 4) for setting, value in accuracy.items()}
    return best, {name: best, "chosen_on": where, "tried": tried}


def _hits(scores: Scores, clips: _Clips) -> np.ndarray:
    """Whether the best class is the true one: float64 [n]."""
    return metrics.top_k_hits(_scores(scores, clips), clips.truth)


def _measure(scores: Scores, clips: _Clips) -> dict[str, Any]:
    found = classification_metrics.single_label_metrics(_scores(scores, clips), clips.truth)
    return {name: found[name] for name in found if not name.startswith("class_")}


def _few_shot(
    clips: dict[str, _Clips], classes: int, shots: Sequence[int], seed: int
) -> dict[str, Any]:
    """Top-1 of logistic regression on a few clips a class: mean and deviation over the draws."""
    train = clips["train"]
    found: dict[str, Any] = {}
    for count in shots:
        accuracy = []
        for draw in range(FEW_SHOT_DRAWS):
            generator = np.random.default_rng((seed, count, draw))
            rows = [
                generator.choice(np.flatnonzero(train.truth == c), count, replace=False)
                for c in range(classes)
            ]
            scores = _fit("logistic", train.take(np.concatenate(rows)), classes, 1.0, 0, seed)
            accuracy.append(_hits(scores, clips["test"]).mean())
        found[str(count)] = {
            "mean": float(np.mean(accuracy)),
            "std": float(np.std(accuracy)),
            "draws": FEW_SHOT_DRAWS,
        }
    return found


def format_probe(block: dict[str, Any]) -> str:
    """Formats the block as the table that ``vatt_tf.evaluate`` prints."""
    if block.get("multi_label"):
        return format_multi_label(block, GRIDS)
    guess = block["chance"]
    columns = [name for name in ("top1", "top5", "mean_class_accuracy") if name in guess]
    head = f"{'classifier':<12}" + "".join(f"{METRIC_NAMES[name]:>32}" for name in columns)
    lines = [head, "-" * len(head)]
    for kind in (k for k in FITS if k in block):
        part = block[kind]
        cells = ""
        for name in columns:
            low, high = part["confidence"][name]
            cell = f"{100 * part[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            cells += f"{cell + f' ({100 * guess[name]:.1f})':>32}"
        lines.append(f"{kind:<12}{cells}")
    lines.append("(%, 95 % interval of the bootstrap over clips, chance in brackets)")
    for kind, (name, *_) in GRIDS.items():
        if kind in block:
            part = block[kind]
            lines.append(f"{kind}: {name} = {part[name]:g}, chosen on {part['chosen_on']}")
    for count, part in block.get("few_shot", {}).items():
        lines.append(
            f"{count_of(int(count), 'example')} a class: top-1 {100 * part['mean']:.1f} +- "
            f"{100 * part['std']:.1f} % ({count_of(part['draws'], 'draw')}, logistic regression)"
        )
    lines.append(
        f"{block['modality']} features of {block['feature_size']} numbers; "
        f"{count_of(block['train_pool_size'], 'training clip')}, "
        f"{count_of(block['pool_size'], 'test clip')}, "
        f"{count_of(block['classes'], 'class', 'classes')}"
    )
    return "\n".join(lines)
