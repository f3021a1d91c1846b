"""The same clip on two sides: same file, overlapping times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

# Ends of stored clips are rounded to whole frames, so that neighbours may overlap a little.
SLACK_SECONDS = 0.1

Span = tuple[Hashable, float, float]  # file, start and end in seconds


def same_clips(first: Sequence[Span], second: Sequence[Span]) -> list[tuple[int, int]]:
    """Pairs (i, j) of spans of the same file that overlap by more than a frame's rounding."""
    by_file: dict[Hashable, list[int]] = defaultdict(list)
    for j, span in enumerate(second):
        by_file[span[0]].append(j)
    pairs = []
    for i, (file, start, end) in enumerate(first):
        for j in by_file.get(file, ()):
            _, other_start, other_end = second[j]
            overlap = min(end, other_end) - max(start, other_start)
            shorter = min(end - start, other_end - other_start)
            if overlap > min(SLACK_SECONDS, shorter / 2):
                pairs.append((i, j))
    return pairs


def tell_some(items: Sequence[str], count: int = 10) -> str:
    """The first items for a message, and how many more there are."""
    more = f" ... and {len(items) - count} more" if len(items) > count else ""
    return "; ".join(items[:count]) + more
