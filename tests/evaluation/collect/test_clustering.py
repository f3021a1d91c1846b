"""Silhouette by modality against its definition, and where it is shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from tests.evaluation.report.test_page import check, run_folder
from tests.evaluation.tasks.test_retrieval import make_set, unit
from vatt_tf.evaluation.collect import clustering
from vatt_tf.evaluation.collect.activations import Activations
from vatt_tf.evaluation.collect.clustering import modality_silhouette
from vatt_tf.evaluation.report import page as report
from vatt_tf.evaluation.tasks import retrieval


def clips(n=12, apart=0.0, modalities=("video", "audio", "text"), seed=0):
    rng = np.random.default_rng(seed)
    shift = {m: apart * rng.normal(size=8) for m in modalities}
    shared = rng.normal(size=(n, 8))
    parts = {m: unit(shared + 0.5 * rng.normal(size=(n, 8)) + shift[m]) for m in modalities}
    return make_set({"vat": parts}, [f"caption {i}" for i in range(n)])


def by_definition(parts):
    """Mean of each modality, written from Rousseeuw's definition."""
    means = []
    for own, vectors in parts.items():
        values = []
        for i, x in enumerate(vectors):
            a = np.mean([1 - x @ y for j, y in enumerate(vectors) if j != i])
            b = min(np.mean([1 - x @ y for y in parts[m]]) for m in parts if m != own)
            values.append((b - a) / max(a, b))
        means.append(np.mean(values))
    return means


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_against_the_definition(apart):
    found = clips(apart=apart)
    result = modality_silhouette(found, "vat")
    parts = {m: x.astype(np.float64) for m, x in found.spaces["vat"].items()}
    expected = by_definition(parts)
    np.testing.assert_allclose([result[m] for m in parts], expected, rtol=1e-5, atol=1e-7)
    vectors, labels = np.concatenate(list(parts.values())), np.repeat(range(3), len(found))
    score = silhouette_score(vectors, labels, metric="cosine")
    assert result["mean"] == pytest.approx(score) == pytest.approx(np.mean(expected), rel=1e-5)


def test_apart_is_one_and_mixed_is_zero():
    eye = np.eye(4)
    lines = {m: unit(np.tile(eye[i], (5, 1))) for i, m in enumerate(("video", "text"))}
    far = modality_silhouette(make_set({"vt": lines}, [""] * 5), "vt")
    assert far == {"mean": 1.0, "video": 1.0, "text": 1.0, "clips": 5}
    assert abs(modality_silhouette(clips(300), "vat")["mean"]) < 0.05
    same = unit(np.random.default_rng(0).normal(size=(9, 4)))
    twice = modality_silhouette(make_set({"vt": {"video": same, "text": same}}, [""] * 9), "vt")
    assert twice["mean"] < 0  # Each vector has its nearest one in the other modality.


def test_clips_that_lack_a_modality_do_not_count(monkeypatch):
    found = clips(20)
    found.masks["audio"][[2, 3, 7]] = False
    found.spaces["vat"]["audio"][[2, 3, 7]] = 0
    whole = {m: x[found.masks["audio"]] for m, x in found.spaces["vat"].items()}
    expected = modality_silhouette(make_set({"vat": whole}, [""] * 17), "vat")
    assert modality_silhouette(found, "vat") == expected
    monkeypatch.setattr(clustering, "MOST_CLIPS", 5)
    assert modality_silhouette(found, "vat")["clips"] == 5
    found.masks["text"][1:] = False
    assert modality_silhouette(found, "vat") is None
    assert modality_silhouette(clips(modalities=("video",)), "vat") is None


def test_equal_vectors_give_a_number():
    flat = {m: unit(np.ones((4, 3))) for m in ("video", "text")}
    found = modality_silhouette(make_set({"vt": flat}, [""] * 4), "vt")
    assert json.dumps(found, allow_nan=False) and abs(found["mean"]) <= 1


def test_maps_of_comparable_features_show_it(tmp_path):
    run_folder(tmp_path)
    found = clips(12, apart=2.0)
    parts = found.spaces["vat"]
    inside = make_set({"tokens": parts, "features": parts}, [""] * 12)
    number = f"silhouette {modality_silhouette(found, 'vat')['mean']:.2f}"
    for comparable, shown in (((), 1), (("features",), 2), (("tokens", "features"), 3)):
        path = report.write_report(tmp_path, found, None, Activations(inside, {}, comparable))
        text, _ = check(path)
        assert text.count(number) == shown
        assert ("after the towers (features)" in text) == bool(comparable)


def test_printed_below_the_recalls():
    found = clips(12, apart=2.0)
    block = retrieval.retrieval_metrics(found)
    assert "silhouette" not in retrieval.format_retrieval(block)
    block["silhouette"] = {"vat": {"mean": 0.4567}, "features": {"mean": -0.01}}
    assert "mixed): vat 0.46, features -0.01" in retrieval.format_retrieval(block)


def test_curve_of_the_regularisation_is_no_pair(tmp_path):
    run_folder(tmp_path)
    lines = [
        json.dumps({"step": i, "kind": "train", "time": i, "loss": 3.0, "loss/video_audio": 3.0,
                    "loss/statistics": 0.5})
        for i in range(1, 5)
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    text, _ = check(report.write_report(tmp_path))
    assert "Statistics of the features, loss" in text and "video-audio" in text
    assert ">statistics<" not in text
