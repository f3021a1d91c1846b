"""Calibration of cosines by the fractions of held-out true and random pairs that score higher.

A cosine of 0.4 is high in one model and low in another. ``vatt_tf.evaluate`` measures the cosines
of held-out pairs and keeps their quantiles in ``model.json``, ``vatt_tf.export`` copies them, and
``vatt_tf.search`` prints them beside its scores::

    {"model_hash": "...", "step": 3000, "data": "quickstart/val", "clips": 225, "windows": 4,
     "spaces": {"vt": {"text": {"true": {"pairs": 225, "quantiles": [...]}, "random": {...}}}}}
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.wording import count_of

if TYPE_CHECKING:
    from vatt_tf.evaluation.collect.embeddings import EmbeddingSet

# Levels of the quantiles: denser at the top, where the best of many clips lie.
LEVELS = np.append(np.arange(100) / 100, [0.995, 0.999, 0.9995, 0.9999, 1.0])
# Most clips whose pairs are the random ones: the number of pairs is its square.
MOST_CLIPS = 1000
# Cosines of float32 vectors, and the stored quantiles, are rounded.
TOLERANCE = 1e-6


# --- Measured by evaluations ---


def measure(embeddings: EmbeddingSet) -> dict[str, Any]:
    """Quantiles of the cosines of queries with videos, by common space and modality of the query.

    True pairs are a clip's own caption (or sound) and video. Random pairs are those of different
    clips; two clips with the same caption are neither, because either one is right.

    Args:
        embeddings: Of held-out clips.

    Returns:
        Space -> modality -> ``"true"`` and ``"random"`` -> ``pairs``, their number, and
        ``quantiles``, ascending, at ``LEVELS``. A modality without such pairs is left out.
    """
    from vatt_tf.evaluation.collect.clustering import evenly_spaced

    found: dict[str, Any] = {}
    captions = np.unique(np.array(embeddings.caption, dtype=object), return_inverse=True)[1]
    has_caption = np.array([bool(caption) for caption in embeddings.caption])
    for space, parts in embeddings.spaces.items():
        for query in [name for name in parts if name != "video" and "video" in parts]:
            both = embeddings.masks[query] & embeddings.masks["video"]
            queries, videos = parts[query], parts["video"]
            chosen = evenly_spaced(both, MOST_CLIPS)
            cosines = queries[chosen].astype(np.float64) @ videos[chosen].astype(np.float64).T
            same = captions[chosen, None] == captions[chosen]
            random = ~(same & has_caption[chosen])
            np.fill_diagonal(random, False)
            if random.any():
                own = np.einsum("nd,nd->n", queries[both], videos[both], dtype=np.float64)
                found.setdefault(space, {})[query] = {
                    "true": _quantiles(own),
                    "random": _quantiles(cosines[random]),
                }
    return found


def _quantiles(cosines: np.ndarray) -> dict[str, Any]:
    return {"pairs": len(cosines), "quantiles": np.quantile(cosines, LEVELS).round(6).tolist()}


def store(folder: str, calibration: Mapping[str, Any], split: str | None) -> str:
    """Stores a calibration in ``model.json``; returns a line about it for the user.

    A calibration of --limit does not replace one of all clips.

    Args:
        folder: Run directory or weights folder.
        calibration: See the module.
        split: Split that the clips are of. Those of ``train`` are not held out, and not stored.
    """
    from vatt_tf.models import io

    path = os.path.join(folder, io.DESCRIPTION)
    if split == "train":
        return "scores: not calibrated, because clips of training are not held out"
    if not calibration["spaces"]:
        return "scores: not calibrated, because no two clips make a random pair"
    before = io.read_description(folder).get(io.CALIBRATION)
    if before and calibration.get("limit") and not before.get("limit"):
        return f"scores: {path} keeps the calibration by all clips ({_origin(before)})"
    io.update_description(folder, **{io.CALIBRATION: calibration})
    counts = ", ".join(
        f"{pairs['true']['pairs']:,} true and {pairs['random']['pairs']:,} random pairs "
        f"({query} -> video)"
        for parts in calibration["spaces"].values()
        for query, pairs in parts.items()
    )
    instead = ""
    if before and _origin(before) != _origin(calibration):
        instead = f", in place of those of {_origin(before)}"
    return f"scores: calibrated by {counts}{instead}; written: {path}"


def short_path(path: str) -> str:
    """Last two names of a path; an exported model holds no more of it."""
    return "/".join(pathlib.PurePath(path).parts[-2:])


# --- Read by searches ---


@dataclasses.dataclass(frozen=True)
class Cosines:
    """Cosines of measured pairs.

    Attributes:
        pairs: Number of pairs.
        quantiles: float64 [105], ascending, at ``LEVELS``.
    """

    pairs: int
    quantiles: np.ndarray

    def __post_init__(self) -> None:
        ascending = bool((np.diff(self.quantiles) >= 0).all())  # False for NaN
        if self.pairs < 1 or self.quantiles.shape != LEVELS.shape or not ascending:
            raise ValueError(f"expected at least a pair and {len(LEVELS)} ascending quantiles")

    def higher(self, score: float) -> float:
        """Fraction of the pairs that score higher."""
        return round(1.0 - float(np.interp(score + TOLERANCE, self.quantiles, LEVELS)), 6)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Calibration of the scores of one modality of queries.

    Attributes:
        true: Cosines of held-out pairs that belong together.
        random: Cosines of held-out pairs that do not.
        origin: Their data and the step of the weights, for messages.
    """

    true: Cosines
    random: Cosines
    origin: str

    def higher(self, score: float) -> tuple[float, float]:
        """Fractions of the true and of the random pairs that score higher."""
        return self.true.higher(score), self.random.higher(score)

    def __str__(self) -> str:
        return f"{self.true.pairs:,} true and {self.random.pairs:,} random pairs ({self.origin})"


def how_to_measure(run_dir: str) -> str:
    """Command that measures a calibration, for messages."""
    flag = shlex.quote(f"--run_dir={run_dir}")
    return f"python -m vatt_tf.evaluate {flag} --data=SHARDS --task=retrieval measures it"


def read(stored: Any, space: str, query: str, model_hash: str, where: str) -> Calibration | str:
    """Returns the calibration of a modality of queries, or why there is none.

    Args:
        stored: See the module; None where nothing was measured.
        space: Common space of the scores.
        query: Modality of the query.
        model_hash: Of the weights that give the scores.
        where: Place of the model, for messages.

    Raises:
        UserError: If what is stored is no calibration.
    """
    if stored is None:
        return ""
    try:
        origin = _origin(stored)
        if stored["model_hash"] != model_hash:
            return f"what is there was measured with other weights ({origin})"
        pairs = stored["spaces"].get(space, {}).get(query)
        if pairs is None:
            return f"queries by {query} were not measured ({origin})"
        true, random = (
            Cosines(int(pairs[kind]["pairs"]), np.array(pairs[kind]["quantiles"], np.float64))
            for kind in ("true", "random")
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{where}: its score_calibration cannot be read ({type(error).__name__}: {error}); "
            "measure it again with python -m vatt_tf.evaluate --task=retrieval"
        ) from error
    return Calibration(true, random, origin)


def _origin(stored: Mapping[str, Any]) -> str:
    """Description of the data and the weights of a measurement."""
    limited = f"the first {count_of(stored['limit'], 'clip')} of " if "limit" in stored else ""
    return f"{limited}{stored.get('data')}, step {stored.get('step')}"
