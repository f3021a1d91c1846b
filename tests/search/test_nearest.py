"""Exact and approximate search, and when which one is taken."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest

from tests.search.test_folder import add, opened
from vatt_tf.errors import UserError
from vatt_tf.search_index import benchmark, nearest
from vatt_tf.search_index.folder import open_index

RNG = np.random.default_rng(0)


def unit(*shape):
    value = RNG.normal(size=shape).astype(np.float32)
    return value / np.linalg.norm(value, axis=-1, keepdims=True)


@pytest.fixture(name="clusters", scope="module")
def make_clusters():
    centres = unit(40, 32)
    return [
        benchmark.clustered(count, centres, 0.5, np.random.default_rng(count))
        for count in (4000, 50)
    ]


@pytest.mark.parametrize("count", [1, 7, 100])
def test_exact_search_is_a_full_sort(monkeypatch, count):
    monkeypatch.setattr(nearest, "CHUNK", 13)  # several, the last one not full
    vectors, queries = unit(50, 8), unit(3, 8)
    scores, rows = nearest.ExactSearch(vectors).search(queries, count)
    every = queries @ vectors.T
    expected = np.argsort(-every, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(every, expected, axis=1), atol=1e-6)


def test_equal_scores_come_in_order():
    vectors = np.ones((20, 4), np.float32)
    assert nearest.ExactSearch(vectors).search(vectors[:1], 20)[1].tolist() == [list(range(20))]


@pytest.mark.parametrize("count", [1, 3, 8, 80])
def test_equal_scores_at_the_cut_come_in_order(monkeypatch, count):
    monkeypatch.setattr(nearest, "CHUNK", 700)
    vectors = np.tile(np.eye(4, dtype=np.float32)[:1], (1000, 1))
    vectors[500] *= 2
    expected = sorted(range(1000), key=lambda row: (row != 500, row))[:count]
    assert nearest.ExactSearch(vectors).search(vectors[:1], count)[1].tolist() == [expected]


def test_faiss_finds_as_many_as_are_asked_for(clusters):
    vectors, queries = clusters
    found = nearest.build_faiss(vectors)
    for count in (100, 1000, 4000):
        _, rows = found.search(queries[:5], count)
        _, exact = nearest.ExactSearch(vectors).search(queries[:5], count)
        assert (rows >= 0).all()
        shared = [len(np.intersect1d(a, b)) / count for a, b in zip(rows, exact, strict=True)]
        assert np.mean(shared) >= 0.98


@pytest.mark.parametrize("factory", [None, "IVF64,SQfp16", "HNSW16"])
def test_faiss_finds_what_exact_search_finds(clusters, factory):
    vectors, queries = clusters
    found = nearest.build_faiss(vectors, factory)
    exact = nearest.ExactSearch(vectors).search(queries, 10)
    scores, rows = found.search(queries, 10)
    assert nearest.recall(rows, exact[1]) >= 0.95
    np.testing.assert_allclose(scores[:, 0], exact[0][:, 0], atol=1e-3)
    effort = nearest.effort_of(found.index)
    assert all(value > 1 for value in effort.values()), effort


def test_the_same_index_every_time(clusters):
    vectors, queries = clusters
    first, second = (nearest.build_faiss(vectors).search(queries, 10) for _ in range(2))
    np.testing.assert_array_equal(first[1], second[1])


def test_default_factory():
    assert nearest.default_factory(1_000_000) == "IVF4096,Flat"
    assert nearest.default_factory(10_000) == "IVF512,Flat"


def test_recall():
    exact = np.array([[1, 2], [3, 4]])
    assert nearest.recall(np.array([[2, 1], [3, 9]]), exact) == 0.75


def test_large_indexes_use_faiss_and_keep_it(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "APPROXIMATE_FROM", 60)
    built = []
    original = nearest.build_faiss
    monkeypatch.setattr(nearest, "build_faiss", lambda v: built.append(len(v)) or original(v))

    def search(exact=False):
        index = open_index(tmp_path)
        return nearest.open_search(index, "vt", index.clips(), exact)

    def update(**clips):
        with opened(tmp_path) as index:
            for name, count in clips.items():
                add(index, f"{name}.mp4", count, 0.5)
            nearest.update_faiss(index, "vt", index.clips())

    update(a=59)
    assert isinstance(search(), nearest.ExactSearch) and not built
    update(b=41)
    assert search().name == "approximate search (FAISS)"
    assert search().index.ntotal == 100
    update()
    assert built == [100]  # it was kept
    effort = nearest.effort_of(search().index)
    facts = json.loads((tmp_path / "nearest_vt.json").read_text())
    assert facts["clips"] == 100 and facts["nprobe"] == effort["nprobe"] > 1
    assert isinstance(search(exact=True), nearest.ExactSearch)
    with opened(tmp_path) as index:
        index.mark("b.mp4", False)
        add(index, "c.mp4", 31, 0.2)
    found = search()  # older than the clips
    assert (
        isinstance(found, nearest.ExactSearch)
        and len(found.search(np.ones((1, 3)), 99)[1][0]) == 90
    )
    update()
    assert search().index.ntotal == 90 and built == [100, 90]
    (tmp_path / "nearest_vt.faiss").unlink()
    assert isinstance(search(), nearest.ExactSearch)
    assert not list(tmp_path.glob("*.tmp*"))


def test_without_faiss(monkeypatch):
    original = builtins.__import__

    def no_faiss(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_faiss)
    with pytest.raises(UserError, match="needs FAISS.*pip install faiss-cpu.*--exact"):
        nearest.build_faiss(unit(100, 4))


def test_faiss_prints_nothing(capfd):
    vectors = np.eye(64, dtype=np.float32)
    nearest.build_faiss(vectors, "IVF8,Flat")
    assert capfd.readouterr() == ("", "")


def test_benchmark(tmp_path, capsys):
    out = tmp_path / "numbers.json"
    flags = ["--vectors=1500", "--dim=16", "--clusters=30", "--queries=20", f"--out={out}"]
    assert benchmark.main([*flags, "--factories", "IVF64,Flat", "HNSW16"]) == 0
    printed = capsys.readouterr().out
    assert "1,500 vectors of 16 dimensions from 30 clusters" in printed
    result = json.loads(out.read_text())
    assert [row["index"] for row in result["indexes"]] == ["exact (NumPy)", "IVF64,Flat", "HNSW16"]
    exact, *others = result["indexes"]
    assert exact["recall@10"] == 1.0 and exact["p50_ms"] > 0
    assert all(row["recall@10"] >= 0.9 and row["build_seconds"] >= 0 for row in others)
    small = ["--vectors=50", "--dim=4", "--clusters=2", "--queries=2", "--factories"]
    out = f"--out={tmp_path / 'few.json'}"
    for wrong in ("Flat", "no_such_index"):
        assert benchmark.main([*small, wrong, out]) == 2
        assert f"error: --factories={wrong}: FAISS cannot" in capsys.readouterr().err
    assert benchmark.main([*small, "HNSW4", out, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "") and (tmp_path / "few.json").exists()
    with pytest.raises(SystemExit):
        benchmark.main(["--vectors=0"])
    assert "expected a whole number >= 1, found '0'" in capsys.readouterr().err
