"""Retrieval examples of the report: a query and its first five clips as frame strips."""

from __future__ import annotations

import html

import numpy as np

from vatt_tf.evaluation.collect.embeddings import EmbeddingSet
from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.evaluation.report import elements
from vatt_tf.wording import fixed

SHOWN = 5
# Queries per direction, taken from the best to the worst ranks so that failures show as well.
QUANTILES = (0.1, 0.4, 0.65, 0.9)


def section(evaluation: EmbeddingSet) -> str:
    """HTML of the examples: captions that look for clips, then sounds that look for clips."""
    parts = [_direction(evaluation, query) for query in ("text", "audio")]
    body = "".join(part for part in parts if part)
    hint = (
        "Queries picked evenly from the best ranks to the worst, with their first five clips. The "
        "query's own clip is framed; numbers are cosines."
    )
    return elements.card("Examples", hint, body)


def _direction(evaluation: EmbeddingSet, query: str) -> str:
    space = evaluation.space_of(query, "video")
    if space is None:
        return ""
    both = np.flatnonzero(evaluation.masks[query] & evaluation.masks["video"])
    if len(both) < 2:
        return ""
    asked = evaluation.spaces[space][query][both]
    clips = evaluation.spaces[space]["video"][both]
    ranks = metrics.paired_ranks(asked, clips, tolerance=1e-6).expected
    order = np.argsort(ranks, kind="stable")
    chosen = dict.fromkeys(int(order[int(q * (len(order) - 1))]) for q in QUANTILES)
    title = {"text": "Caption to clip", "audio": "Sound to clip"}[query]
    return f"<h3>{title}</h3>" + "".join(
        _example(evaluation, query, both, i, clips @ asked[i], ranks[i]) for i in chosen
    )


def _example(
    evaluation: EmbeddingSet,
    query: str,
    both: np.ndarray,
    own: int,
    scores: np.ndarray,
    rank: float,
) -> str:
    first = np.argsort(-scores, kind="stable")[:SHOWN]
    caption = html.escape(evaluation.caption[both[own]])
    if query == "text":
        asked = f"<q>{caption}</q>"
    else:
        asked = f"<span>sound of</span>{_image(evaluation, both[own])}<span>{caption}</span>"
    place = f"own clip at rank {rank + 1:g} of {len(both)}"
    tiles = []
    for number, j in enumerate(first, start=1):
        hit = j == own
        mark = f"<b>{number} \N{CHECK MARK} own clip</b>" if hit else f"<b>{number}</b>"
        words = evaluation.caption[both[j]] or evaluation.filename[both[j]]
        tiles.append(
            f'<div class="result{" hit" if hit else ""}">{_image(evaluation, both[j])}<div>'
            f'<div class="place">{mark}<span>{fixed(scores[j], 2)}</span></div>'
            f"{html.escape(words)}</div></div>"
        )
    return (
        f'<div class="example"><div class="query">{asked}<span class="rank">{place}</span></div>'
        f'<div class="results">{"".join(tiles)}</div></div>'
    )


def _image(evaluation: EmbeddingSet, clip: int) -> str:
    if not evaluation.strips:
        return ""
    return elements.strip(evaluation.strips[clip])
