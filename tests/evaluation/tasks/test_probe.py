"""Probes on features whose classes are known to be separable, or known not to be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.features import FeatureSet
from vatt_tf.evaluation.metrics import probe_classifiers
from vatt_tf.evaluation.tasks.probe import format_probe, probe

GRIDS = {
    "logistic": ("C", (0.01, 1.0)),
    "svm": ("C", (1e-3, 0.1)),
    "knn": ("neighbours", (1, 5)),
}
CENTRES = np.random.default_rng(0).normal(size=(6, 12))


@pytest.fixture(autouse=True)
def short_grids(monkeypatch):
    """Two values to choose from instead of seven."""
    monkeypatch.setattr("vatt_tf.evaluation.tasks.probe.GRIDS", GRIDS)


def clips(truth, seed=0, noise=0.3, views=None, classes=6):
    """Clips around the centres of their classes."""
    generator = np.random.default_rng(seed)
    truth = np.asarray(truth)
    shape = (len(truth), views or 1, CENTRES.shape[1])
    by_view = (CENTRES[truth][:, None] + noise * generator.normal(size=shape)).astype(np.float32)
    return FeatureSet(
        features=by_view.mean(axis=1),
        by_view=by_view if views else None,
        labels=np.eye(classes, dtype=np.float32)[truth],
        label_names=tuple(f"class {c}" for c in range(classes)),
        modality="video",
        filename=[f"{i}.mp4" for i in range(len(truth))],
        start=np.zeros(len(truth)),
        end=np.ones(len(truth)),
    )


def every(count):
    return np.arange(count) % 6


def test_all_probes_learn_what_can_be_learned():
    block = probe(
        clips(every(60), noise=0.6),
        clips(every(30), seed=1, noise=0.6),
        clips(every(18), seed=2, noise=0.6),
        kinds=("logistic", "svm", "low_rank", "knn"),
        shots=(1, 5),
        steps=600,
    )
    for kind in ("logistic", "svm", "low_rank", "knn"):
        assert block[kind]["top1"] > 0.8, kind
        assert block[kind]["top5"] >= block[kind]["top1"]
        low, high = block[kind]["confidence"]["top1"]
        assert low <= block[kind]["top1"] <= high
    assert block["logistic"]["chosen_on"] == "val" and block["svm"]["C"] in GRIDS["svm"][1]
    assert block["knn"]["neighbours"] in GRIDS["knn"][1]
    assert 0.4 < block["few_shot"]["1"]["mean"] < block["few_shot"]["5"]["mean"] <= 1.0
    assert block["few_shot"]["1"]["std"] > 0 and block["few_shot"]["1"]["draws"] == 10
    assert block["pool_size"] == 30 and block["train_pool_size"] == 60
    text = format_probe(json.loads(json.dumps(block, allow_nan=False)))
    assert "low_rank" in text and "chosen on val" in text and "5 examples a class" in text


def test_labels_that_say_nothing_reach_chance():
    shuffled = np.random.default_rng(5).permutation(every(120))
    train, test = clips(every(120)), clips(every(300), seed=1)
    train.labels = np.eye(6, dtype=np.float32)[shuffled]
    assert probe(train, test, kinds=("knn",))["knn"]["top1"] < 0.35


def test_settings_are_chosen_without_the_test_clips():
    train, test = clips(every(36), noise=2.0), clips(every(30), seed=1, noise=2.0)
    val = clips(every(30), seed=2, noise=2.0)
    on_val = probe(train, test, val, kinds=("knn",))["knn"]["tried"]
    chosen = probe(train, test, kinds=("logistic",))["logistic"]
    assert chosen["chosen_on"] == "5-fold cross-validation on train"
    best = max(chosen["tried"].values())
    assert chosen["tried"][f"{chosen['C']:g}"] == best
    test.labels = test.labels[::-1].copy()
    again = probe(train, test, kinds=("logistic",))["logistic"]
    assert again["C"] == chosen["C"] and again["tried"] == chosen["tried"]
    assert probe(train, test, val, kinds=("knn",))["knn"]["tried"] == on_val
    single = probe(clips(np.arange(6)), test, kinds=("svm",))["svm"]
    assert single["chosen_on"].startswith("nothing")


def test_views_are_examples_and_their_scores_are_averaged():
    train, test = clips(every(24), views=3), clips(every(24), seed=1, views=4, noise=1.5)
    averaged = probe(train, test, kinds=("logistic",))["logistic"]["top1"]
    single = clips(every(24), seed=1, views=4, noise=1.5)
    single.by_view = single.by_view[:, :1]
    assert averaged > probe(train, single, kinds=("logistic",))["logistic"]["top1"]


def test_two_classes():
    block = probe(clips(every(24) % 2), clips(every(12) % 2, seed=1), kinds=("logistic", "svm"))
    assert block["classes"] == 2 and block["labels"] == ["class 0", "class 1"]
    assert block["svm"]["top1"] == block["logistic"]["top1"] == 1.0
    assert "top5" not in block["svm"] and "top5" not in block["chance"]


def test_each_step_of_low_rank_uses_a_tenth_of_the_components_by_the_seed(monkeypatch):
    import keras

    kept = []
    call = keras.layers.Dropout.call

    def spy(layer, inputs, training=False):
        outputs = call(layer, inputs, training=training)
        if training:
            import tensorflow as tf

            tf.numpy_function(lambda x: kept.append(x != 0) or np.int32(0), [outputs], tf.int32)
        return outputs

    monkeypatch.setattr(keras.layers.Dropout, "call", spy)
    truth = every(40)
    features = clips(truth).features
    first = probe_classifiers.fit_low_rank(features, truth, 6, None, steps=30)
    masks = np.stack(kept)
    assert masks.shape == (30, 64, 128)
    assert (masks == masks[:, :1]).all(), "one draw for the whole batch"
    assert 0.07 < masks.mean() < 0.13
    assert (masks[0, 0] != masks[1, 0]).any()
    kept.clear()
    again = probe_classifiers.fit_low_rank(features, truth, 6, None, steps=30)
    np.testing.assert_array_equal(np.stack(kept), masks)
    np.testing.assert_allclose(again(features), first(features), rtol=1e-6)


def test_nearest_neighbours_by_hand():
    known = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]], np.float32)
    scores = probe_classifiers.fit_knn(known, np.array([0, 1, 1]), 2, 2)
    found = scores(np.array([[3.0, 3.0], [5.0, 0.0]], np.float32))
    assert found[0] == pytest.approx([0.5, 0.5]) and found[1, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "train, test, options, message",
    [
        (np.zeros(9, int), every(6), {}, "class 0 only; a probe needs clips of at least two"),
        (every(12) % 3, every(6), {}, r"3 classes of the test clips .*\(class 3, class 4, class 5"),
        (every(12), every(6), {"shots": (1, 3)}, "'class 0' has 2 training clips only"),
    ],
)
def test_mistakes(train, test, options, message):
    with pytest.raises(UserError, match=message):
        probe(clips(train), clips(test), **options)


def test_clips_without_labels_and_with_several():
    train, test = clips(every(24)), clips(every(12))
    test.labels[0] = 0
    assert probe(train, test, kinds=("knn",))["pool_size"] == 11
    test.labels[:] = 0
    with pytest.raises(UserError, match="no test clip has a label"):
        probe(train, test)
    train.labels[3] = 1
    with pytest.raises(UserError, match="no test clip has a label"):
        probe(train, test)


def several(count, seed=0, noise=0.4, views=None):
    """Clips of any number of six classes around the sums of their centres."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 6)) < 0.3).astype(np.float32)
    labels[:12] = np.maximum(labels[:12], np.eye(6)[np.arange(12) % 6])
    made = clips(np.zeros(count, int), views=views)
    shape = (count, views or 1, CENTRES.shape[1])
    by_view = (labels @ CENTRES)[:, None] + noise * generator.normal(size=shape)
    made.features, made.labels = by_view.mean(axis=1).astype(np.float32), labels
    made.by_view = by_view.astype(np.float32) if views else None
    return made


def test_several_classes_a_clip_are_measured_by_mean_average_precision():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import StandardScaler

    train, test, val = several(80), several(60, seed=1), several(40, seed=2)
    block = probe(train, test, val)
    assert block["multi_label"] and block["pool_size"] == 60 and block["classes"] == 6
    for kind in ("logistic", "svm"):
        part = block[kind]
        assert part["mAP"] > 0.85 > 2 * block["chance"]["mAP"], kind
        low, high = part["confidence"]["mAP"]
        assert low <= part["mAP"] <= high and part["chosen_on"] == "val"
        assert part["tried"][f"{part['C']:g}"] == max(part["tried"].values())
    # Six logistic regressions by hand, measured by scikit-learn.
    scaler = StandardScaler().fit(train.features)
    precision = []
    for c in range(6):
        model = LogisticRegression(C=block["logistic"]["C"], max_iter=1000)
        model.fit(scaler.transform(train.features), train.labels[:, c])
        scores = model.decision_function(scaler.transform(test.features))
        precision.append(average_precision_score(test.labels[:, c], scores))
    found = list(block["logistic"]["average_precision"].values())
    assert found == pytest.approx(precision, abs=1e-6)
    assert block["logistic"]["mAP"] == pytest.approx(np.mean(precision), abs=1e-6)
    assert block["chance"]["mAP"] == pytest.approx(test.labels.mean())
    text = format_probe(json.loads(json.dumps(block, allow_nan=False)))
    assert "mAP, 11 points" in text and "several per clip" in text and "chosen on val" in text


def test_several_classes_without_val_and_by_view():
    train, test = several(60, views=2), several(40, seed=1, views=3)
    block = probe(train, test, kinds=("svm",))
    assert block["svm"]["chosen_on"] == "5-fold cross-validation on train"
    assert block["svm"]["mAP"] > 0.8
    test.labels = np.random.default_rng(0).permutation(test.labels)
    again = probe(train, test, kinds=("svm",))["svm"]
    assert again["C"] == block["svm"]["C"] and again["mAP"] < 0.6  # chosen without the test clips


def test_mistakes_with_several_classes():
    train, test = several(40), several(40, seed=1)
    with pytest.raises(UserError, match="the probe knn takes one class per clip"):
        probe(train, test, kinds=("svm", "knn"))
    with pytest.raises(UserError, match="--shots takes clips of one class"):
        probe(train, test, shots=(1,))
    train.labels[:, 2] = 0
    with pytest.raises(UserError, match=r"1 class of the test clips .*\(class 2\)"):
        probe(train, test)
