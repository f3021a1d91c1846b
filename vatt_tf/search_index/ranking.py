"""Fusion of the rankings by words and by embedding; merges neighbouring clips. Pure Python.

Clips that hold all words of the query are the first tier: nobody who types words that are in a
caption expects it below clips that only look alike. Inside a tier both rankings are fused by
reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009), which needs no common scale of
cosines and BM25.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Iterable, Sequence

# The constant k of the paper, which sets the weight of the first ranks.
FUSION = 60
# Tolerance in seconds for rounded times.
ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Clip found by words or by embedding.

    Attributes:
        clip: Its number.
        cosine: Of its embedding with the query's; None where there is no query embedding.
        bm25: Of its words, None where it holds none of the query's.
        all_words: Whether it holds all of them.
        near: Whether the embedding found it.
        order: Score of the ranking by embedding, instead of the cosine.
    """

    clip: int
    cosine: float | None = None
    bm25: float | None = None
    all_words: bool = False
    near: bool = False
    order: float | None = None

    @property
    def alike(self) -> float | None:
        """Score of the ranking by embedding."""
        return self.cosine if self.order is None else self.order


def fuse(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Orders candidates: those with all words, then the others, each tier by both rankings.

    Equal ones come by cosine, then in the order of the clips.
    """
    tiers: dict[bool, list[Candidate]] = {True: [], False: []}
    for candidate in candidates:
        tiers[candidate.all_words].append(candidate)
    ordered = []
    for members in tiers.values():
        rankings = (ranks([m.alike for m in members]), ranks([m.bm25 for m in members]))
        scores = [
            sum(1 / (FUSION + rank) for rank in pair if rank is not None)
            for pair in zip(*rankings, strict=True)
        ]
        keys = [
            (-score, -(member.cosine or 0.0), member.clip)
            for score, member in zip(scores, members, strict=True)
        ]
        ordered += [member for _, member in sorted(zip(keys, members, strict=True), key=_first)]
    return ordered


def _first(pair: tuple[tuple, Candidate]) -> tuple:
    return pair[0]


def ranks(scores: Sequence[float | None]) -> list[int | None]:
    """Rank of each score, 1 for the highest; equal scores get the better one, None gets none."""
    ordered = sorted(-score for score in scores if score is not None)
    return [None if s is None else 1 + bisect.bisect_left(ordered, -s) for s in scores]


@dataclasses.dataclass
class Moment:
    """Neighbouring clips of a video.

    Attributes:
        video: Number of the video.
        start: In seconds.
        end: In seconds.
        clips: The candidates in it, best first.
        missing: Whether the video cannot be opened.
    """

    video: int
    start: float
    end: float
    clips: list[Candidate]
    missing: bool = False


class Moments:
    """Merges clips, best first, into moments until there are enough.

    A clip that overlaps a moment is left out: of clips that overlap, the best one counts. A clip
    not further than a stride from a moment becomes a part of it where both hold all words of the
    query, or where its cosine is nearer to that of the best clip than to that of the weakest
    candidate: in a small index every clip is a candidate, and a moment must not become the video.

    Args:
        count: Number of moments, without those of videos that cannot be opened.
        stride: Largest gap inside a moment, in seconds.
        weakest: Lowest cosine of the candidates.
        per_video: Moments of a video at most.
        is_missing: Whether a video cannot be opened.
    """

    def __init__(
        self,
        count: int,
        stride: float,
        weakest: float = 0.0,
        per_video: int | None = None,
        is_missing: Callable[[int], bool] = lambda video: False,
    ):
        self.found: list[Moment] = []
        self._count, self._stride, self._weakest = count, stride, weakest
        self._per_video, self._is_missing = per_video, is_missing
        self._left = {False: count, True: count}
        self._of_video: dict[int, list[Moment]] = {}

    @property
    def full(self) -> bool:
        """Whether there are ``count`` moments."""
        return self._left[False] == 0

    def add(self, candidate: Candidate, video: int, start: float, end: float) -> bool:
        """Adds the next clip; returns False where it would need a further moment."""
        others = self._of_video.setdefault(video, [])
        if any(_overlap(start, end, other) for other in others):
            return True
        moment = Moment(video, start, end, [candidate])
        if self._join(others, moment):
            return True
        if self._per_video is not None and len(others) >= self._per_video:
            return True
        moment.missing = self._is_missing(video)
        if not self._left[moment.missing]:
            return moment.missing  # clips that can be opened may still come
        self._left[moment.missing] -= 1
        others.append(moment)
        self.found.append(moment)
        return True

    def _join(self, others: list[Moment], new: Moment) -> bool:
        """Merges a moment into an older one, and both with those that they now touch."""
        for old in others:
            if old is not new and self._belong(old, new, others):
                old.start, old.end = min(old.start, new.start), max(old.end, new.end)
                old.clips += new.clips
                for later in [m for m in others if m is not old and m is not new]:
                    first, second = sorted((old, later), key=self.found.index)
                    if self._belong(first, second, others):
                        first.start = min(first.start, second.start)
                        first.end = max(first.end, second.end)
                        first.clips += second.clips
                        self._drop(second)
                        old = first
                return True
        return False

    def _drop(self, moment: Moment) -> None:
        self.found.remove(moment)
        self._of_video[moment.video].remove(moment)
        self._left[moment.missing] += 1

    def _belong(self, old: Moment, new: Moment, others: list[Moment]) -> bool:
        """Whether a moment is a neighbour of an older one and found for the same reason."""
        gap = max(old.start, new.start) - min(old.end, new.end)
        if gap > self._stride + ROUNDING:
            return False
        start, end = min(old.start, new.start), max(old.end, new.end)
        if any(_overlap(start, end, m) for m in others if m is not old and m is not new):
            return False
        best, other = old.clips[0], new.clips[0]
        if best.all_words or other.all_words:
            return best.all_words and other.all_words
        if best.cosine is None or other.cosine is None:
            return best.cosine is None and other.cosine is None
        return other.cosine >= (best.cosine + self._weakest) / 2


def _overlap(start: float, end: float, moment: Moment) -> bool:
    return start < moment.end - ROUNDING and moment.start < end - ROUNDING
