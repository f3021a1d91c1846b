"""Retrieval and classification metrics as pure NumPy functions, apart from any model.

Ranks are tie-aware. Items that score the same as the correct one are put in order by a coin, and
every number is the expectation over that coin, so a model that gives the same embedding to
everything scores exactly chance (one right item of n: R@k = k / n, MedR = MnR = (n + 1) / 2).
Without ties all numbers are the usual ones. MedR is the median of the 0-based ranks plus 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

RECALL_AT = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Rank of the best right item of each query among the wrong ones.

    Attributes:
        above: int64 [q], wrong items that score strictly more than the best right one.
        level: int64 [q], wrong items that score the same as it.
        right: int64 [q], right items that score the same, itself included (>= 1).
    """

    above: np.ndarray
    level: np.ndarray
    right: np.ndarray

    @property
    def expected(self) -> np.ndarray:
        """Rank of the first right item, 0-based, averaged over orders of the ties: float64 [q]."""
        return self.above + self.level / (self.right + 1.0)

    def hits(self, k: int) -> np.ndarray:
        """Probability that a right item is among the first k: float64 [q]."""
        draws = np.clip(k - self.above, 0, self.level + 1)
        return 1.0 - _miss_probability(self.right, self.level, draws)


def _miss_probability(right: np.ndarray, wrong: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Probability that ``draws`` items taken from right + wrong ones, unseen, are all wrong."""
    right, wrong, draws = (np.asarray(x, np.float64) for x in (right, wrong, draws))
    miss = np.ones(np.broadcast(right, wrong, draws).shape)
    for drawn in range(int(draws.max(initial=0))):
        factor = np.maximum(wrong - drawn, 0.0) / np.maximum(right + wrong - drawn, 1.0)
        miss = np.where(drawn < draws, miss * factor, miss)
    return miss


def _check_matrix(name: str, value: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    if value.ndim != 2 or 0 in value.shape:
        raise ValueError(f"{name} must be a non-empty matrix [n, d], got shape {value.shape}")
    if not np.all(np.isfinite(value)):
        bad = np.flatnonzero(~np.isfinite(value).all(axis=1))
        raise ValueError(
            f"{name} holds NaN or infinity in {bad.size} of {len(value)} rows (first: {bad[0]})"
        )
    return value


def similarity_chunks(
    queries: np.ndarray, items: np.ndarray, chunk: int = 1024
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields (rows, float64 [rows, n] dot products) so that q x n never lies in memory at once."""
    queries, items = _check_matrix("queries", queries), _check_matrix("items", items)
    if queries.shape[1] != items.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} dimensions and items {items.shape[1]}: "
            "they are not from the same space"
        )
    transposed = items.astype(np.float64).T
    for begin in range(0, len(queries), chunk):
        rows = slice(begin, min(begin + chunk, len(queries)))
        yield rows, queries[rows].astype(np.float64) @ transposed


def _count(
    scores: np.ndarray, best: np.ndarray, counted: np.ndarray | None, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Counts, per row, the scores above ``best`` and those within ``tolerance`` of it."""
    above = scores > (best + tolerance)[:, None]
    same = np.abs(scores - best[:, None]) <= tolerance
    if counted is not None:
        above &= counted
        same &= counted
    return above.sum(axis=1), same.sum(axis=1)


def paired_ranks(
    queries: np.ndarray,
    items: np.ndarray,
    *,
    chunk: int = 1024,
    tolerance: float = 0.0,
) -> Ranks:
    """Ranks item i among all items for query i.

    Args:
        queries: [n, d] embeddings (normalise them first for cosine similarity).
        items: [n, d] embeddings, row i being the one correct answer to query i.
        chunk: Queries scored at once (memory: chunk x n float64).
        tolerance: Scores closer than this to the correct item's are ties. Rounding alone moves the
            dot product of two unit float32 vectors by about 1e-7.

    Raises:
        ValueError: If the shapes differ, or an embedding is not finite.
    """
    if len(queries) != len(items):
        raise ValueError(
            f"paired ranks need as many items as queries, got {len(items)} and {len(queries)}"
        )
    return correspondence_ranks(
        queries, items, np.arange(len(items)), chunk=chunk, tolerance=tolerance
    )


def correspondence_ranks(
    queries: np.ndarray,
    items: np.ndarray,
    item_of_query: np.ndarray,
    *,
    chunk: int = 1024,
    tolerance: float = 0.0,
) -> Ranks:
    """Ranks the item ``item_of_query[i]`` among all items for query i.

    Several queries may ask for the same item. Two clips with the captions a, b and c, where a and b
    describe clip 0 and c describes clip 1, give text->video queries (a, b, c) with
    ``item_of_query = [0, 0, 1]``. The way back (several correct items for a query) is
    :func:`relevance_ranks`.

    Args:
        queries: [q, d] embeddings.
        items: [n, d] embeddings.
        item_of_query: int [q], index of the correct item of each query.
        chunk: Queries scored at once.
        tolerance: See :func:`paired_ranks`.
    """
    item_of_query = np.asarray(item_of_query)
    if item_of_query.shape != (len(queries),):
        raise ValueError(
            f"item_of_query must have shape ({len(queries)},), got {item_of_query.shape}"
        )
    if item_of_query.size and not (0 <= item_of_query.min() and item_of_query.max() < len(items)):
        raise ValueError(f"item_of_query must lie in [0, {len(items)})")
    above, same = np.empty((2, len(queries)), np.int64)
    for rows, scores in similarity_chunks(queries, items, chunk):
        best = np.take_along_axis(scores, item_of_query[rows, None], axis=1)[:, 0]
        above[rows], same[rows] = _count(scores, best, None, tolerance)
    return Ranks(above, same - 1, np.ones_like(same))


def relevance_ranks(
    queries: np.ndarray,
    items: np.ndarray,
    query_group: np.ndarray,
    item_group: np.ndarray,
    *,
    chunk: int = 1024,
    tolerance: float = 0.0,
) -> Ranks:
    """Ranks the best item of the query's own group (its class, clip or caption) for each query.

    Any item of the group is a right answer, so that only the wrong items above the best right one
    push it down. With the captions a and b for clip 0 and c for clip 1, video->text has
    ``query_group = [0, 1]`` and ``item_group = [0, 0, 1]``. Clips with several classes have several
    groups; an item that shares one with the query is right.

    Args:
        queries: [q, d] embeddings.
        items: [n, d] embeddings.
        query_group: int [q], or bool [q, groups].
        item_group: int [n], or bool [n, groups].
        chunk: Queries scored at once.
        tolerance: See :func:`paired_ranks`.

    Raises:
        ValueError: If a query has no right item.
    """
    query_group, item_group = np.asarray(query_group), np.asarray(item_group)
    several = query_group.shape[1:]
    if query_group.shape != (len(queries), *several) or item_group.shape != (len(items), *several):
        raise ValueError(
            f"groups must have shapes ({len(queries)},) and ({len(items)},) or with groups, got "
            f"{query_group.shape} and {item_group.shape}"
        )
    above, level, right = np.empty((3, len(queries)), np.int64)
    for rows, scores in similarity_chunks(queries, items, chunk):
        relevant = _share_group(query_group[rows], item_group)
        if not relevant.any(axis=1).all():
            lost = rows.start + int(np.flatnonzero(~relevant.any(axis=1))[0])
            raise ValueError(f"query {lost} (group {query_group[lost]}) has no right item")
        best = np.where(relevant, scores, -np.inf).max(axis=1)
        above[rows], level[rows] = _count(scores, best, ~relevant, tolerance)
        right[rows] = _count(scores, best, relevant, tolerance)[1]
    return Ranks(above, level, right)


def _share_group(query_group: np.ndarray, item_group: np.ndarray) -> np.ndarray:
    """Whether query and item have a group in common, bool [q, n]."""
    if query_group.ndim == 1:
        return query_group[:, None] == item_group[None, :]
    return query_group.astype(np.float32) @ item_group.astype(np.float32).T > 0


def recall_metrics(ranks: Ranks, ks: Sequence[int] = RECALL_AT) -> dict[str, float]:
    """R@k as fractions, MedR and MnR (1-based) of a set of queries."""
    expected = ranks.expected
    result = {f"R@{k}": float(ranks.hits(k).mean()) for k in ks}
    result["MedR"] = float(np.median(expected) + 1.0)
    result["MnR"] = float(expected.mean() + 1.0)
    return result


def chance_recall(pool_size: int, ks: Sequence[int] = RECALL_AT) -> dict[str, float]:
    """Chance-level R@k when one of ``pool_size`` items is right."""
    return chance_group_recall(np.ones(1, np.int64), pool_size, ks)


def chance_group_recall(
    right: np.ndarray, pool_size: int, ks: Sequence[int] = RECALL_AT
) -> dict[str, float]:
    """Chance-level R@k when ``right[i]`` of ``pool_size`` items are right."""
    right = np.asarray(right, np.int64)
    random = Ranks(np.zeros_like(right), pool_size - right, right)
    return recall_metrics(random, ks)


def class_metrics(
    queries: np.ndarray,
    items: np.ndarray,
    query_labels: np.ndarray,
    item_labels: np.ndarray,
    *,
    tolerance: float = 0.0,
) -> dict[str, float]:
    """Class-level relevance: a hit is any item that has a class of the query.

    Args:
        queries: [q, d] embeddings.
        items: [n, d] embeddings.
        query_labels: int [q], or bool [q, classes] for clips with several classes.
        item_labels: int [n], or bool [n, classes].
        tolerance: See :func:`paired_ranks`.

    Returns:
        ``precision@1`` (the top item has a class of the query), ``chance`` (the same for random
        scores) and ``queries``. Queries whose class no item has are left out of all three.
    """
    query_labels, item_labels = np.asarray(query_labels), np.asarray(item_labels)
    rows = range(0, len(query_labels), 1024)
    counts = [_share_group(query_labels[i : i + 1024], item_labels).sum(axis=1) for i in rows]
    of_query = np.concatenate(counts)
    present = of_query > 0
    if not present.any():
        raise ValueError("no query has a class that occurs among the items")
    ranks = relevance_ranks(
        queries[present], items, query_labels[present], item_labels, tolerance=tolerance
    )
    return {
        "precision@1": float(ranks.hits(1).mean()),
        "chance": chance_group_recall(of_query[present], len(item_labels), (1,))["R@1"],
        "queries": int(present.sum()),
    }


def top_k_hits(
    scores: np.ndarray, labels: np.ndarray, k: int = 1, tolerance: float = 0.0
) -> np.ndarray:
    """Probability, float64 [n], that the true class is among the k best (ties by a coin).

    Args:
        scores: [n, classes].
        labels: int [n], the true class.
        k: Number of classes that count.
        tolerance: See :func:`paired_ranks`.
    """
    scores, labels = _check_matrix("scores", scores).astype(np.float64), np.asarray(labels)
    if labels.shape != (len(scores),):
        raise ValueError(f"labels must have shape ({len(scores)},), got {labels.shape}")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels must lie in [0, {scores.shape[1]}), found {labels.min()}..{labels.max()}"
        )
    best = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    above, same = _count(scores, best, None, tolerance)
    return Ranks(above, same - 1, np.ones_like(same)).hits(k)
