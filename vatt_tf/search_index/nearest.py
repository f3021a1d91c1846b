"""Nearest clips of a query by inner product: exact with NumPy, approximate with FAISS.

Embeddings have length 1, so that the inner product is the cosine. FAISS's inverted file (IVF) is
taken for large indexes (figures in docs/search.md); ``embed`` makes it, ``search`` reads it.
"""

from __future__ import annotations

import math
import pathlib
from typing import Any, Protocol

import numpy as np

from vatt_tf.atomic import new_file, read_json, write_json
from vatt_tf.errors import UserError
from vatt_tf.search_index.folder import Clips, IndexFolder
from vatt_tf.unit_length import l2_normalize

# Number of clips from which on FAISS is used; below, an exact search takes a few milliseconds.
APPROXIMATE_FROM = 10_000
# Rows scored at once by the exact search, and added at once to an index.
CHUNK = 65_536
# Points per cluster that k-means is trained on.
TRAINING_POINTS = 64
# The setting is chosen for this recall of the first ten, then doubled: real queries, words above
# all, lie further from the clips than the queries that it is measured with.
RECALL, RECALL_AT, PROBES, SAFETY = 0.98, 10, 128, 2
# Vectors that are compared for each one that is asked for, at least.
VISITED = 8


class Search(Protocol):
    """Interface of a nearest-neighbour search; ``name`` describes the method."""

    name: str

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores float32 and rows int64, both [q, count], best first; row -1: no more."""


class ExactSearch:
    """Compares a query with every vector.

    Args:
        vectors: float32 [n, d]; may be mapped from a file.
    """

    name = "exact search"

    def __init__(self, vectors: np.ndarray):
        self._vectors = vectors

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Search``. Equal scores come in the order of the rows."""
        count = min(count, len(self._vectors))
        scores = np.zeros((len(queries), 0), np.float32)
        rows = np.zeros((len(queries), 0), np.int64)
        for first in range(0, len(self._vectors), CHUNK):
            part = queries @ self._vectors[first : first + CHUNK].T
            taken = min(count, part.shape[1])
            best = np.stack([_best(line, taken) for line in part])
            scores = np.concatenate([scores, np.take_along_axis(part, best, axis=1)], axis=1)
            rows = np.concatenate([rows, best + first], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
            scores = np.take_along_axis(scores, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        return scores, rows


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` highest scores, best first; of equal ones the first."""
    least = np.partition(scores, -count)[-count]  # a partition alone takes any of equal ones
    above = np.flatnonzero(scores >= least)
    return above[np.argsort(-scores[above], kind="stable")[:count]]


class FaissSearch:
    """A FAISS index with its search effort set.

    Args:
        index: FAISS index of inner products.
    """

    name = "approximate search (FAISS)"

    def __init__(self, index: Any):
        self.index = index

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Search``. Lists are read that hold ``VISITED`` times as many vectors or more."""
        parameters = None
        if lists := _lists(self.index):
            needed = math.ceil(VISITED * count * lists / max(self.index.ntotal, 1))
            probes = min(lists, max(effort_of(self.index)["nprobe"], needed))
            parameters = _faiss().SearchParametersIVF(nprobe=probes)
        queries = np.ascontiguousarray(queries, np.float32)
        return self.index.search(queries, count, params=parameters)


def default_factory(vectors: int) -> str:
    """FAISS's factory string for a number of vectors: about 4 sqrt(n) lists."""
    return f"IVF{2 ** round(math.log2(4 * math.sqrt(max(vectors, 1))))},Flat"


def build_faiss(vectors: np.ndarray, factory: str | None = None, seed: int = 0) -> FaissSearch:
    """Trains and fills a FAISS index and sets its search effort.

    Args:
        vectors: float32 [n, d] of length 1; may be mapped from a file.
        factory: FAISS's factory string; ``default_factory`` by default.
        seed: Seed of the sampled training points and queries.
    """
    faiss = _faiss()
    factory = factory or default_factory(len(vectors))
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    rng = np.random.default_rng(seed)
    if not index.is_trained:
        # FAISS would print a warning where an index has fewer than 39 points for each list.
        faiss.extract_index_ivf(index).cp.min_points_per_centroid = 1
        points = TRAINING_POINTS * _lists(index)
        chosen = np.sort(rng.choice(len(vectors), min(points, len(vectors)), replace=False))
        index.train(np.ascontiguousarray(vectors[chosen], np.float32))
    for first in range(0, len(vectors), CHUNK):
        index.add(np.ascontiguousarray(vectors[first : first + CHUNK], np.float32))
    _set_effort(index, vectors, rng)
    return FaissSearch(index)


def _set_effort(index: Any, vectors: np.ndarray, rng: np.random.Generator) -> None:
    """Doubles the search effort until sample queries reach the recall, and once more."""
    space = _faiss().ParameterSpace()
    lists = _lists(index)
    name, effort, most = ("nprobe", 4, lists) if lists else ("efSearch", 16, 4096)
    pairs = np.sort(rng.choice(len(vectors), (2, min(PROBES, len(vectors) // 2)), replace=False))
    first, second = vectors[pairs[0]], vectors[pairs[1]]
    # Points of the index, and points half-way between two of them.
    middle = l2_normalize(first + second, dtype=None)
    queries = np.concatenate([first, middle]).astype(np.float32)
    exact = ExactSearch(vectors).search(queries, RECALL_AT)[1]
    while effort < most:
        space.set_index_parameter(index, name, effort)
        if recall(index.search(queries, RECALL_AT)[1], exact) >= RECALL:
            break
        effort *= 2
    space.set_index_parameter(index, name, min(SAFETY * effort, most))


def effort_of(index: Any) -> dict[str, int]:
    """Search effort: ``nprobe`` of an inverted file, else ``efSearch``."""
    inner = _faiss().downcast_index(index)
    return {"nprobe": inner.nprobe} if _lists(index) else {"efSearch": inner.hnsw.efSearch}


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Fraction of the exact neighbours [q, k] that are among the found ones [q, k]."""
    hits = (exact[:, :, None] == found[:, None, :]).any(axis=2)
    return float(hits.mean())


def open_search(index: IndexFolder, space: str, clips: Clips, exact: bool = False) -> Search:
    """Opens the search over the clips of an index in a space.

    Large indexes have a FAISS index (see ``update_faiss``). While it is missing or older than the
    clips, every clip is compared: that takes less than making it.

    Args:
        index: The index.
        space: One of its spaces.
        clips: ``index.clips()``.
        exact: Compare with every clip in any case.
    """
    path = _faiss_path(index, space)
    if not exact and len(clips) >= APPROXIMATE_FROM and _is_current(index, path):
        return FaissSearch(_faiss().read_index(str(path)))
    return ExactSearch(index.vectors(space, clips))


def update_faiss(index: IndexFolder, space: str, clips: Clips) -> None:
    """Writes the FAISS index of a space where there are many clips and it is missing or old."""
    path = _faiss_path(index, space)
    if len(clips) < APPROXIMATE_FROM or _is_current(index, path):
        return
    found = build_faiss(index.vectors(space, clips))
    # The description is removed first and written last, so that it never describes another file.
    path.with_suffix(".json").unlink(missing_ok=True)
    with new_file(path) as temporary:
        _faiss().write_index(found.index, str(temporary))
    facts = {"log_bytes": index.log_bytes, "clips": len(clips), **effort_of(found.index)}
    write_json(path.with_suffix(".json"), facts)


def _is_current(index: IndexFolder, path: pathlib.Path) -> bool:
    facts = read_json(path.with_suffix(".json"))
    return isinstance(facts, dict) and facts.get("log_bytes") == index.log_bytes and path.exists()


def _faiss_path(index: IndexFolder, space: str) -> pathlib.Path:
    return index.path / f"nearest_{space}.faiss"


def _lists(index: Any) -> int:
    """Number of lists of an inverted file, 0 for other kinds of index."""
    return getattr(_faiss().downcast_index(index), "nlist", 0)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            f"searching {APPROXIMATE_FROM} clips or more needs FAISS ({error}); install it with "
            "`pip install faiss-cpu`, or compare with every clip by --exact"
        ) from error
    return faiss
