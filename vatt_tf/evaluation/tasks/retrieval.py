"""Zero-shot retrieval between the modalities of a data set (VATT, section 4.2.4 and A.3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet, Labels, multi_hot
from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.evaluation.metrics.bootstrap import bootstrap, weighted_median
from vatt_tf.wording import count_of, fixed, wrapped

# (query, item) in the order of the printed table.
DIRECTIONS = (
    ("text", "video"),
    ("video", "text"),
    ("audio", "video"),
    ("video", "audio"),
    ("text", "audio"),
    ("audio", "text"),
)
# Cosines of float32 unit vectors carry rounding of about 1e-7; closer than this is a tie.
TOLERANCE = 1e-6


def direction_name(query: str, item: str) -> str:
    """Key of a direction in results.json, e.g. ``text_to_video``."""
    return f"{query}_to_{item}"


def directions(block: dict[str, Any]) -> dict[str, Any]:
    """Directions of a block, in the order of the printed table."""
    names = (direction_name(*direction) for direction in DIRECTIONS)
    return {name: block[name] for name in names if name in block}


def retrieval_metrics(embeddings: EmbeddingSet, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Computes the ``retrieval`` block of results.json.

    Headline numbers are paired: clip i's own caption, video or audio is the one right answer to
    query i, even when another clip has the same caption (the two captions then tie).
    ``by_caption`` is added when captions repeat (each different caption once, any clip that has it
    is right) and ``by_class`` when clips have labels (the top item has a class of the query).
    Clips that lack one of the two modalities leave the pool of that direction.

    Returns:
        Dict of JSON values; recalls are fractions.

    Raises:
        UserError: If no two modalities share a space, or no clip has both.
    """
    result: dict[str, Any] = {}
    by_class: dict[str, Any] = {}
    by_caption: dict[str, Any] = {}
    excluded: dict[str, int] = {}
    classes, has_class = _class_groups(embeddings.labels)
    for query, item in DIRECTIONS:
        space = embeddings.space_of(query, item)
        if space is None:
            continue
        both = np.flatnonzero(embeddings.masks[query] & embeddings.masks[item])
        name = direction_name(query, item)
        excluded[name] = len(embeddings) - len(both)
        if not both.size:
            continue
        parts = embeddings.spaces[space]
        captions = np.array([embeddings.caption[i] for i in both], dtype=object)
        values = {m: parts[m][both] for m in (query, item)}
        caption_ids = _caption_ids(captions)
        if "text" in values:
            # Equal captions get equal embeddings to the last bit, whatever batch they were in.
            first = np.unique(caption_ids, return_index=True)[1]
            values["text"] = values["text"][first][caption_ids]
        ranks = metrics.paired_ranks(values[query], values[item], tolerance=tolerance)
        result[name] = {
            **metrics.recall_metrics(ranks),
            "pool_size": len(both),
            "excluded": excluded[name],
            "space": space,
            "chance": metrics.chance_recall(len(both)),
            "confidence": recall_confidence(ranks),
        }
        labelled = has_class[both]
        if labelled.any():
            labels = classes[both][labelled]
            queries, items = values[query][labelled], values[item][labelled]
            by_class[name] = metrics.class_metrics(
                queries, items, labels, labels, tolerance=tolerance
            )
        if "text" in values and caption_ids.max() + 1 < len(both):
            by_caption[name] = _by_caption(values, query, item, caption_ids, tolerance)
    if not result:
        raise UserError(
            "retrieval needs clips with two modalities in one space; clips with each modality: "
            + ", ".join(f"{m} {int(mask.sum())}" for m, mask in embeddings.masks.items())
        )
    block: dict[str, Any] = {
        "pool_size": min(direction["pool_size"] for direction in result.values()),
        "clips": len(embeddings),
        "protocol": {
            "windows": embeddings.windows,
            "window_aggregation": "mean of embeddings, then L2 norm",
            "crop": "centre",
            "similarity": "cosine",
            "captions_per_clip": 1,
            "correct": "the paired clip only",
            "ties": f"expected rank over random order (|difference| <= {tolerance:g})",
            "last_batch": "padded and masked, no clip dropped",
        },
        **result,
    }
    if by_caption:
        block["by_caption"] = by_caption
    if by_class:
        block["by_class"] = by_class
    return block


def recall_confidence(ranks: metrics.Ranks) -> dict[str, list[float]]:
    """Bootstrap intervals [low, high] of the recalls, MedR and MnR over other queries.

    Queries are resampled; the pool of items that they are ranked among is not.
    """
    hits = {f"R@{k}": ranks.hits(k) for k in metrics.RECALL_AT}
    expected = ranks.expected

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = {**hits, "MnR": expected + 1.0}
        found = {name: weights @ value / len(value) for name, value in means.items()}
        return {**found, "MedR": weighted_median(expected, weights) + 1.0}

    return bootstrap(statistics, len(expected))


def _class_groups(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Classes of clips as ``class_metrics`` takes them, and whether a clip has any, bool [n]."""
    has_class = np.array([bool(own) for own in labels])
    names = list(dict.fromkeys(name for own in labels for name in own))
    if any(len(own) > 1 for own in labels):
        return multi_hot(labels, names), has_class
    number = {name: c for c, name in enumerate(names)}
    return np.array([number[own[0]] if own else -1 for own in labels]), has_class


def _caption_ids(captions: np.ndarray) -> np.ndarray:
    """Ids of captions, equal for equal ones, from 0 in order of first appearance: int [n]."""
    ids: dict[str, int] = {}
    return np.array([ids.setdefault(caption, len(ids)) for caption in captions])


def _by_caption(
    values: dict[str, np.ndarray],
    query: str,
    item: str,
    caption_ids: np.ndarray,
    tolerance: float,
) -> dict[str, Any]:
    """Retrieval with every different caption once: any clip that has it is a right answer."""
    first = np.unique(caption_ids, return_index=True)[1]
    text, other = values["text"][first], values[item if query == "text" else query]
    own = np.arange(len(first))
    if query == "text":
        ranks = metrics.relevance_ranks(text, other, own, caption_ids, tolerance=tolerance)
        right, pool = np.bincount(caption_ids), len(other)
    else:
        ranks = metrics.correspondence_ranks(other, text, caption_ids, tolerance=tolerance)
        right, pool = np.ones(len(other), np.int64), len(text)
    return {
        **metrics.recall_metrics(ranks),
        "queries": len(ranks.above),
        "pool_size": pool,
        "chance": metrics.chance_group_recall(right, pool),
    }


def format_retrieval(block: dict[str, Any]) -> str:
    """Formats the block as the table that ``vatt_tf.evaluate`` prints."""
    head = f"{'direction':<16}{'R@1':>15}{'R@5':>15}{'R@10':>15}{'MedR':>15}{'MnR':>15}{'pool':>7}"
    lines = [head, "-" * len(head)]

    def row(name: str, part: dict[str, Any]) -> str:
        chance = part["chance"]
        cells = [f"{100 * part[k]:.1f} ({100 * chance[k]:.1f})" for k in ("R@1", "R@5", "R@10")]
        cells += [f"{part[k]:.1f} ({chance[k]:.1f})" for k in ("MedR", "MnR")]
        return (
            f"{name.replace('_to_', ' -> '):<16}"
            + "".join(f"{cell:>15}" for cell in cells)
            + f"{part['pool_size']:>7}"
        )

    names = list(directions(block))
    lines += [row(name, block[name]) for name in names]
    lines.append("(recall in %, chance in brackets; MedR and MnR count from 1, lower is better)")
    for name in names:
        low, high = block[name]["confidence"]["R@1"]
        lines.append(
            f"{name.replace('_to_', ' -> '):<16}R@1 within [{100 * low:.1f}, {100 * high:.1f}] % "
            "(95 % of the bootstrap over queries)"
        )
    if block.get("random_weights"):
        lines += ["", "the same towers at random weights:"]
        lines += [row(name, part) for name, part in directions(block["random_weights"]).items()]
    if block.get("by_caption"):
        lines += ["", "by caption (each different caption once, any clip that has it is right):"]
        lines += [row(name, part) for name, part in block["by_caption"].items()]
    if block.get("by_class"):
        lines += ["", "by class (precision@1: the top item has a class of the query):"]
        lines += [
            f"{name.replace('_to_', ' -> '):<16}{100 * part['precision@1']:.1f} % "
            f"(chance {100 * part['chance']:.1f} %, "
            f"{count_of(part['queries'], 'query', 'queries')})"
            for name, part in block["by_class"].items()
        ]
    for name in names:
        if block[name]["excluded"]:
            lines.append(
                f"{name.replace('_to_', ' -> ')}: {block[name]['excluded']} of {block['clips']} "
                "clips lack a modality and are not in the pool"
            )
    if block.get("silhouette"):
        found = (f"{space} {fixed(part['mean'], 2)}" for space, part in block["silhouette"].items())
        lines += ["", f"silhouette by modality (1: apart, 0: mixed): {', '.join(found)}"]
    protocol = block["protocol"]
    lines += [
        "",
        wrapped(
            f"protocol: {count_of(protocol['windows'], 'window')} a clip, "
            f"{protocol['window_aggregation']}; "
            f"{protocol['crop']} crop; {protocol['similarity']}; correct: {protocol['correct']}; "
            f"ties: {protocol['ties']}"
        ),
    ]
    return "\n".join(lines)
