"""The report of classifiers: numbers, confusions, probes, answers, maps of the classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.report.test_page import check, run_folder
from tests.evaluation.tasks.test_retrieval import make_set, unit
from vatt_tf.evaluation.collect.activations import Activations
from vatt_tf.evaluation.collect.predictions import Predictions
from vatt_tf.evaluation.report import headline, run_info
from vatt_tf.evaluation.report import page as report
from vatt_tf.evaluation.report.heatmap import heatmap
from vatt_tf.evaluation.report.sections import curves, maps
from vatt_tf.evaluation.report.sections import predictions as answers
from vatt_tf.evaluation.tasks import classification

NAMES = ("<dog>", "rain", "clock")


def predictions(multi_label=False, n=30):
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.float32)[np.arange(n) % 3]
    if multi_label:
        labels[:, 0] = np.maximum(labels[:, 0], np.arange(n) % 2)
    return Predictions(
        scores=(2 * labels + rng.normal(size=(n, 3))).astype(np.float32),
        labels=labels,
        label_names=NAMES,
        multi_label=multi_label,
        modalities=("video",),
        filename=[f"{i}.mp4" for i in range(n)],
        start=np.zeros(n, np.float32),
        end=np.ones(n, np.float32),
        strips=[b"\xff\xd8picture" for _ in range(n)],
    )


def results(found):
    block = classification.classification_block(found)
    return {"classify": {"data": "shards", "step": 80, "protocol": {"windows": 4}, **block}}


def activations(n=30):
    rng = np.random.default_rng(0)
    video = unit(rng.normal(size=(n, 6)))
    spaces = {"tokens": {"video": video}, "features": {"video": video}}
    return Activations(make_set(spaces, [""] * n, np.arange(n) % 3), {})


CLASSIFIER = {
    "kind": "classifier",
    "labels": list(NAMES),
    "model": {"modality": "video", "tower": {"size": "tiny"}, "num_classes": 3},
    "clip": {"frames": 8, "width": 32, "height": 24, "frame_rate": 10.0},
}


def test_report_of_a_classifier(tmp_path):
    found = predictions()
    content = results(found)
    run_folder(tmp_path, content, CLASSIFIER)
    text, checker = check(report.write_report(tmp_path, None, found, activations()))
    assert "classifier of 3 classes; video tiny; 8 frames of 32x24 at 10 fps" in text
    for title in ("Confusion matrix", "Most frequent mistakes", "By class", "Right and sure"):
        assert title in text
    assert f"{100 * content['classify']['top1']:.1f} %" in text
    assert "&lt;dog&gt;" in text and "<dog>" not in text
    # 6 curves, the confusion matrix, the classes before and after the tower.
    assert checker.tags.count("svg") == 6 + 1 + 2
    right = int(np.trace(content["classify"]["confusion"]))
    assert checker.tags.count("img") == min(right, 6) + min(30 - right, 6)


def test_report_of_a_multi_label_classifier(tmp_path):
    found = predictions(multi_label=True)
    run_folder(tmp_path, results(found))
    text, _ = check(report.write_report(tmp_path, predictions=found))
    assert "average precision" in text and "d&#x27;, mean of the classes" in text
    assert "Confusion matrix" not in text


def test_probes_show_setting_chance_and_few_shots(tmp_path):
    part = {"top1": 0.61, "confidence": {"top1": [0.5, 0.7]}, "C": 0.01, "chosen_on": "val"}
    block = {"logistic": part, "knn": {"top1": 0.5, "mean_class_accuracy": 0.48}}
    block |= {"few_shot": {"5": {"mean": 0.44, "std": 0.02, "draws": 3}}}
    block |= {"modality": "audio", "pool_size": 80, "chance": {"top1": 0.1}, "classes": 10}
    (tmp_path / "results.json").write_text(json.dumps({"probe": block}))
    text, _ = check(report.write_report(tmp_path))
    for words in ("61.0&nbsp;%", "50.0 to 70.0", "C = 0.01, chosen on val", "44.0&nbsp;%"):
        assert words in text
    assert "probe top-1, logistic" in text  # the best one has a tile


def test_headlines_carry_chance_interval_and_direction():
    block = {"R@1": 0.2, "MedR": 4.0, "pool_size": 50, "chance": {"R@1": 0.02, "MedR": 25.5}}
    block["confidence"] = {"R@1": [0.1, 0.3]}
    classify = {"top1": 0.5, "mean_auc": None, "chance": {"top1": 0.1}, "pool_size": 7}
    found = headline.headlines({"retrieval": {"text_to_video": block}, "classify": classify})
    assert [one.key for one in found] == [
        ("classify", "", "top-1"),
        ("retrieval", "text to video", "R@1"),
        ("retrieval", "text to video", "MedR"),
    ]
    top1, recall, median = found
    assert (top1.chance, top1.pool, top1.interval, top1.text()) == (0.1, 7, None, "50.0 %")
    assert (recall.interval, recall.chance, recall.lower_is_better) == ((0.1, 0.3), 0.02, False)
    assert median.lower_is_better and median.text() == "4"


def test_answers_are_sorted_into_right_and_wrong():
    scores = np.array([[5, 0, 0], [1, 0, 0], [0, 4, 0], [0, 1, 0]] * 2, np.float32)
    found = predictions(n=8)
    found.scores, found.labels = scores, np.tile(np.array([[1, 0, 0]], np.float32), (8, 1))
    kinds = dict(answers._kinds(found, answers.probabilities(scores, False)))
    assert list(kinds["Right and sure"]) == [0, 4, 1] and list(kinds["Right, but unsure"]) == [5]
    assert list(kinds["Wrong and sure"]) == [2, 6, 3] and list(kinds["Wrong and unsure"]) == [7]


@pytest.mark.parametrize("multi_label, expected", [(False, [0.5, 0.5]), (True, [1.0, 1.0])])
def test_probabilities_of_large_logits(multi_label, expected):
    found = answers.probabilities(np.array([[800.0, 800.0]], np.float32), multi_label)
    np.testing.assert_allclose(found, [expected])


def test_curves_read_prefixed_keys_and_keep_kinds_apart():
    lines = [{"step": 1, "classify/top1": 0.5}, {"step": 2, "top1": 0.75}, {"step": 3, "loss": 1}]
    found = curves.curve(lines, "top1", "name", "c0")
    assert list(found.x) == [1, 2] and list(found.y) == [0.5, 0.75]


def test_heatmap_has_a_shade_per_value_and_no_empty_cells():
    picture = heatmap(
        np.array([[0.0, 1.0], [0.5, 0.0]]), "two", rows=("a", "b"), columns=("a", "b")
    )
    assert picture.count("<path") == 2 and 'fill-opacity="1.00"' in picture
    assert picture.count("M") == 2  # two cells that are not 0
    assert heatmap(np.ones((50, 50)), "many", rows=["x"] * 50).count("<text") == 0


def test_class_map_colours_the_ten_most_frequent_classes():
    n = 40
    rng = np.random.default_rng(0)
    points = {"video": unit(rng.normal(size=(n, 4)))}
    clips = make_set({"tokens": points, "features": points}, [""] * n, np.arange(n) % 12)
    before, after = maps.class_maps(clips)
    for figure in (before, after):
        assert figure.count('<g class="points c') == 10 and "other classes" in figure


@pytest.mark.parametrize(
    "model, expected",
    [
        (
            {"video": {"size": "base"}, "audio": {"size": "tiny"}, "fusion": "compact_bilinear"},
            "classifier of 3 classes, compact bilinear of towers; video base, audio tiny",
        ),
        (
            {"modality": "audio", "tower": {"size": "base"}, "multi_label": True},
            "classifier of 3 classes, several per clip; audio base",
        ),
    ],
)
def test_summary_of_classifiers(tmp_path, model, expected):
    description = {**CLASSIFIER, "model": {"num_classes": 3, "text": None, **model}}
    (tmp_path / "model.json").write_text(json.dumps(description))
    summary = run_info.read_run(tmp_path).summary
    assert summary.startswith(expected)
    assert ("frames of" in summary) == ("video" in model)


def test_summary_without_a_text_tower(tmp_path):
    towers = {name: {"size": "tiny"} for name in ("video", "audio", "text")}
    model = {"kind": "specific", "modalities": ["video", "audio"], **towers}
    (tmp_path / "model.json").write_text(json.dumps({"model": model}))
    summary = run_info.read_run(tmp_path).summary
    assert summary == "VATT, modality-specific; video tiny, audio tiny"
