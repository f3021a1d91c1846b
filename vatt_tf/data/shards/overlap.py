"""The same clip on two sides: same file, overlapping times."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

# Ends of stored clips are rounded to whole frames, so that neighbours may overlap a little.
SLACK_SECONDS = 0.1
# So many pairs of spans of one file are compared one by one; more are sorted.
FEW_PAIRS = 256

Span = tuple[Hashable, float, float]  # file, start and end in seconds


def same_clips(first: Sequence[Span], second: Sequence[Span]) -> list[tuple[int, int]]:
    """Pairs (i, j) of spans of the same file that overlap by more than a frame's rounding.

    Every span that overlaps one of the other side is in a pair, but not every pair is listed:
    their number can grow with the square of the number of spans.
    """
    sides: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for j, span in enumerate(second):
        sides[span[0]][1].append(j)
    for i, span in enumerate(first):
        if span[0] in sides:
            sides[span[0]][0].append(i)
    pairs: list[tuple[int, int]] = []
    for ours, theirs in sides.values():
        if len(ours) * len(theirs) <= FEW_PAIRS:
            found = [(i, j) for i in ours for j in theirs if _overlap(first[i], second[j])]
            pairs += _one_for_each(found, found)
        else:
            a = np.array([first[i][1:] for i in ours], np.float64)
            b = np.array([second[j][1:] for j in theirs], np.float64)
            forward = [(ours[i], theirs[j]) for i, j in _partners(a, b)]
            backward = [(ours[i], theirs[j]) for j, i in _partners(b, a)]
            pairs += _one_for_each(forward, backward)
    return sorted(pairs)


def _one_for_each(
    forward: Sequence[tuple[int, int]], backward: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """One pair for each span of the first side, then one for each other span of the second."""
    by_first: dict[int, int] = {}
    for i, j in forward:
        by_first.setdefault(i, j)
    by_second = {j: i for i, j in by_first.items()}
    rest: dict[int, int] = {}
    for i, j in backward:
        if j not in by_second:
            rest.setdefault(j, i)
    return [*by_first.items(), *((i, j) for j, i in rest.items())]


def _overlap(first: Span, second: Span) -> bool:
    (_, start, end), (_, other_start, other_end) = first, second
    overlap = min(end, other_end) - max(start, other_start)
    shorter = min(end - start, other_end - other_start)
    return overlap > min(SLACK_SECONDS, shorter / 2)


def _partners(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """(i, j) for each span of the first side that overlaps one of the second, in O(n log n).

    For spans of a positive length, ``_overlap`` is the same as one of two conditions: the second
    begins at least ``slack`` before the end of the first and ends as much after its start, where
    ``slack`` depends on the first alone; or the middle of the second lies inside the first.
    """
    (a_start, a_end), (b_start, b_end) = first.T, second.T
    used = np.flatnonzero(b_end > b_start)
    if not len(used):
        return []
    partner = np.full(len(first), -1)

    # The latest end among the spans that begin early enough decides the first condition.
    order = used[np.argsort(b_start[used], kind="stable")]
    latest = np.maximum.accumulate(b_end[order])
    new = np.concatenate([[True], latest[1:] > latest[:-1]])
    holder = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    slack = np.minimum(SLACK_SECONDS, (a_end - a_start) / 2)
    count = np.searchsorted(b_start[order], a_end - slack, side="left")
    last = np.maximum(count - 1, 0)
    good = (count > 0) & (latest[last] > a_start + slack)
    partner[good] = holder[last[good]]

    middle = b_start + (b_end - b_start) / 2
    order = used[np.argsort(middle[used], kind="stable")]
    at = np.searchsorted(middle[order], a_start, side="right")
    nearest = order[np.minimum(at, len(order) - 1)]
    good = (at < len(order)) & (middle[nearest] < a_end) & (partner < 0)
    partner[good] = nearest[good]
    partner[a_end <= a_start] = -1
    return [(i, j) for i, j in enumerate(partner.tolist()) if j >= 0]


def tell_some(items: Sequence[str], count: int = 10) -> str:
    """The first items for a message, and how many more there are."""
    more = f" ... and {len(items) - count} more" if len(items) > count else ""
    return "; ".join(items[:count]) + more


def content_hash(frames: Iterable[bytes], waveform: np.ndarray | None) -> str:
    """A short hash (16 hex digits) of what a record shows and sounds like."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(len(frame).to_bytes(8, "little") + frame)
    if waveform is not None:
        digest.update(np.ascontiguousarray(waveform, "<f4").tobytes())
    return digest.hexdigest()[:16]
