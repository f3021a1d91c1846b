"""Bootstrap confidence intervals over clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

DRAWS = 1000
LEVEL = 0.95
# Weights that are held at once: 32 MB.
_CHUNK = 4_000_000

Statistics = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def bootstrap(
    statistics: Statistics | Mapping[str, np.ndarray],
    count: int | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, list[float]]:
    """Percentile intervals of statistics over clips that are drawn again with replacement.

    Args:
        statistics: Name -> float [n], for the mean of these values; or a function that takes
            how often each clip was drawn, float64 [draws, n], and gives name -> float [draws].
        count: Number of clips n; only a function needs it.
        draws: Number of resamples.
        seed: Seed of the resamples; same seed, same interval.
        level: Fraction of the resamples within the interval.

    Returns:
        Name -> [low, high]. Draws for which a statistic is NaN do not count; a name whose draws
        are all NaN is left out.

    Raises:
        ValueError: If there is no clip.
    """
    if callable(statistics):
        function = statistics
    else:
        values = {name: np.asarray(value, np.float64) for name, value in statistics.items()}
        count = len(next(iter(values.values())))

        def function(weights: np.ndarray) -> dict[str, np.ndarray]:
            return {name: weights @ value / len(value) for name, value in values.items()}

    if not count:
        raise ValueError("the bootstrap needs at least one clip")
    generator = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {}
    rows = max(1, _CHUNK // count)
    for begin in range(0, draws, rows):
        drawn = (generator.integers(0, count, count) for _ in range(min(rows, draws - begin)))
        weights = np.stack([np.bincount(d, minlength=count) for d in drawn]).astype(np.float64)
        for name, value in function(weights).items():
            found.setdefault(name, []).append(value)
    tails = [(1 - level) / 2, (1 + level) / 2]
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    return {
        name: [float(x) for x in np.nanquantile(value, tails)]
        for name, value in joined.items()
        if not np.isnan(value).all()
    }


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median of each resample.

    Args:
        values: float [n].
        weights: float [draws, n], how often each value was drawn (whole numbers).

    Returns:
        float [draws]; with an even number of values the mean of the two in the middle.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    total = reached[:, -1:]
    low = (reached > (total - 1) // 2).argmax(axis=1)
    high = (reached > total // 2).argmax(axis=1)
    ordered = np.asarray(values, np.float64)[order]
    return (ordered[low] + ordered[high]) / 2
