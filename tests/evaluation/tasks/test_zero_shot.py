"""Zero-shot classes: prompts files, matching of names, accuracy."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from tests.evaluation.tasks.test_retrieval import make_set, unit
from vatt_tf.errors import UserError
from vatt_tf.evaluation.report.sections import tables
from vatt_tf.evaluation.tasks import prompts as files
from vatt_tf.evaluation.tasks import zero_shot

VECTORS = {"cat": [1, 0, 0], "dog": [0, 1, 0], "bird": [0, 0, 1]}


class FakeModel:
    """Text of the fake tokenizer is already an embedding."""

    def encode(self, inputs, training=False):
        return inputs

    def project(self, features, training=False):
        return {"vt": features}


def tokenizer(strings):
    return np.array([VECTORS[s.split()[-1]] for s in strings], np.float32)


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "prompts.txt"
    path.write_text(text, encoding=encoding)
    return path


def test_three_forms_of_prompts(tmp_path):
    names = write(tmp_path, "# classes\nblack_cat\n\ndog\n")
    assert files.read_prompts(names) == {"black_cat": ["black cat"], "dog": ["dog"]}
    lines = write(tmp_path, "cat\ta cat\ncat\tthe cat\ndog\ta dog\n")
    assert files.read_prompts(lines) == {"cat": ["a cat", "the cat"], "dog": ["a dog"]}
    as_json = write(tmp_path, json.dumps({"cat": ["a cat", "the cat"], "dog": "a dog"}))
    assert files.read_prompts(as_json) == {"cat": ["a cat", "the cat"], "dog": ["a dog"]}


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "0 class found"),
        ("cat\n", "1 class found"),
        ("{not json", "not valid JSON"),
        ("[1, 2]", "found a list"),
        ('{"cat": [], "dog": "x"}', "label 'cat' has"),
        ("cat\ta cat\ndog\n", "line 2: found 'dog'"),
        ("cat\t\ndog\ta dog", "line 1"),
        ("cat\ncat\n", "line 2: class 'cat' comes twice"),
        ('{"cat": "a cat", "dog": "a dog", "cat": "zzz"}', "the class 'cat' comes twice"),
        ("cat\ta {label} runs\ndog\ta dog", "label 'cat' has .*{label} is not filled in; write {}"),
    ],
)
def test_bad_prompts_name_the_place(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        files.read_prompts(write(tmp_path, text))


def test_missing_and_non_utf8_prompts(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        files.read_prompts(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="UTF-8"):
        files.read_prompts(write(tmp_path, "café\nthé\n", encoding="latin-1"))


def test_labels_are_matched_by_name():
    prompts = {"Black Cat": ["x"], "dog": ["y"]}
    matched = files.match_labels(prompts, ["dog", "black_cat", "bird"])
    assert list(matched.items()) == [("dog", "dog"), ("black_cat", "Black Cat")]
    with pytest.raises(UserError, match="does not have: 'dog'. The data has: 'cat', 'bird'"):
        files.match_labels({"cat": ["x"], "dog": ["y"]}, ["cat", "bird"])
    with pytest.raises(UserError, match="name one class twice"):
        files.match_labels({"cat": ["x"], "CAT": ["y"]}, ["cat"])


def test_accuracy_against_scikit_learn():
    rng = np.random.default_rng(0)
    names = sorted(VECTORS)
    truth = rng.integers(0, 3, 50)
    video = unit(np.array([VECTORS[names[i]] for i in truth]) + 0.7 * rng.normal(size=(50, 3)))
    clips = make_set({"vt": {"video": video, "text": video}}, ["c"] * 50, truth)
    clips.labels = [(names[i],) for i in truth]
    clips.labels[0] = ()  # a clip without a label is left out
    prompts = {"Bird": ["bird"], "cat": ["a cat", "the cat"], "dog": ["dog"]}
    block = zero_shot.zero_shot_metrics(
        clips, FakeModel(), tokenizer, labels=names, prompts=prompts
    )
    classes = np.array([VECTORS[name] for name in names], np.float32)
    guess = np.argmax(video @ classes.T, axis=1)
    assert block["top1"] == pytest.approx(accuracy_score(truth[1:], guess[1:]))
    assert block["top5"] == 1.0 and block["pool_size"] == 49 and block["classes"] == 3
    assert block["chance"] == {"top1": pytest.approx(1 / 3), "top5": 1.0}
    assert sum(part["clips"] for part in block["per_class"].values()) == 49
    assert block["prompts"]["bird"] == ["bird"]
    json.dumps(block, allow_nan=False)
    assert "49 clips with a label, 3 classes; 1 clip without" in zero_shot.format_zero_shot(block)
    # Without prompts the label names are the prompts.
    default = zero_shot.zero_shot_metrics(clips, FakeModel(), tokenizer)
    assert default["top1"] == pytest.approx(block["top1"])


def test_prompts_of_some_classes():
    """Evaluated is what is named; the rest is counted."""
    video = unit(np.array([VECTORS[name] for name in ("bird", "cat", "dog", "dog")]))
    clips = make_set({"vt": {"video": video, "text": video}}, ["c"] * 4, [0, 1, 2, 2])
    clips.labels = [("bird",), ("cat",), ("dog",), ("dog",)]
    prompts = {"CAT": ["cat"], "bird": ["bird"]}
    block = zero_shot.zero_shot_metrics(clips, FakeModel(), tokenizer, prompts=prompts)
    assert block["classes"] == 2 and block["pool_size"] == 2 and block["clips"] == 4
    assert block["top1"] == 1.0 and block["chance"]["top1"] == 0.5
    assert block["left_out"] == {"classes": ["dog"], "clips": 2}
    assert list(block["per_class"]) == list(block["prompts"]) == ["bird", "cat"]
    printed = zero_shot.format_zero_shot(block)
    assert "2 clips with a label, 2 classes\n" in printed
    assert "\nthe prompts do not name 'dog': 2 clips of these classes left out\n" in printed
    page = tables.zero_shot(types.SimpleNamespace(results={"zero_shot": block}))
    assert "The prompts do not name dog; 2 clips of these classes left out." in page
    clips.labels = [("dog",)] * 4
    with pytest.raises(UserError, match="no clip has one of the classes.*: 'bird', 'cat'"):
        zero_shot.zero_shot_metrics(
            clips, FakeModel(), tokenizer, labels=["bird", "cat", "dog"], prompts=prompts
        )


def test_braces_stand_for_the_name_of_the_class(tmp_path):
    both = {"black_cat": ["a {} runs", "{}"], "dog": ["a {} runs", "it barks"]}
    filled = {"black_cat": ["a black cat runs", "black cat"], "dog": ["a dog runs", "it barks"]}
    assert files.read_prompts(write(tmp_path, json.dumps(both))) == filled
    lines = "".join(f"{name}\t{one}\n" for name, group in both.items() for one in group)
    assert files.read_prompts(write(tmp_path, lines)) == filled


def test_classes_with_the_same_prompts():
    """They are refused; those that differ in words only that the model does not know are said."""
    same = {"cat": ["A  pet", "it runs"], "dog": ["it runs", "a pet"], "bird": ["a pet"]}
    with pytest.raises(UserError, match="'cat' and 'dog' have the same prompts"):
        files.match_labels(same, ["bird", "cat", "dog"])
    # Two data sets write one class in two ways: the prompts would be those of both.
    with pytest.raises(UserError, match="'black cat' and 'Black_Cat' have the same prompts"):
        files.match_labels({"black cat": ["x"], "dog": ["y"]}, ["black cat", "dog", "Black_Cat"])
    eye = np.eye(3, dtype=np.float32)
    clips = make_set({"vt": {"video": eye, "text": eye}}, "abc")
    clips.labels = [("bird",), ("cat",), ("dog",)]
    prompts = {"bird": ["bird"], "cat": ["cat"], "dog": ["unknown cat"]}
    block = zero_shot.zero_shot_metrics(clips, FakeModel(), tokenizer, prompts=prompts)
    assert block["same_words"] == [("cat", "dog")]
    printed = zero_shot.format_zero_shot(block)
    assert "reads the prompts of 'cat', 'dog' as the same words" in printed


@pytest.mark.parametrize("turn", [1, -1])
def test_clips_of_several_classes_against_scikit_learn(turn):
    """The order of a clip's classes does not count."""
    rng = np.random.default_rng(1)
    names = sorted(VECTORS)
    positive = rng.random((40, 3)) < [0.3, 0.5, 0.6]
    vectors = np.array([VECTORS[name] for name in names], np.float32)
    video = unit(positive @ vectors + 0.8 * rng.normal(size=(40, 3)))
    clips = make_set({"vt": {"video": video, "text": video}}, ["c"] * 40)
    clips.labels = [tuple(np.array(names)[row][::turn].tolist()) for row in positive]
    block = zero_shot.zero_shot_metrics(clips, FakeModel(), tokenizer)
    kept = positive.any(axis=1)
    scores = video[kept] @ vectors.T
    precision = average_precision_score(positive[kept], scores, average=None)
    assert block["mAP"] == pytest.approx(precision.mean())
    assert block["mean_auc"] == pytest.approx(roc_auc_score(positive[kept], scores))
    assert block["chance"]["mAP"] == pytest.approx(positive[kept].mean())
    assert [block["per_class"][name]["ap"] for name in names] == pytest.approx(precision)
    assert block["pool_size"] == kept.sum() < 40 and "top1" not in block
    json.dumps(block, allow_nan=False)
    printed = zero_shot.format_zero_shot(block)
    assert f"{100 * precision.mean():.1f} %" in printed
    page = tables.zero_shot(types.SimpleNamespace(results={"zero_shot": block}))
    assert f"mAP {100 * precision.mean():.1f} % (chance" in page and "<th>AP</th>" in page


def test_every_clip_has_every_class():
    """No negative clip, no AUC."""
    eye = np.eye(3, dtype=np.float32)
    clips = make_set({"vt": {"video": eye, "text": eye}}, "abc")
    clips.labels = [("cat", "dog")] * 3
    block = zero_shot.zero_shot_metrics(clips, FakeModel(), tokenizer)
    assert block["mAP"] == 1.0 and block["mean_auc"] is None
    json.dumps(block, allow_nan=False)
    assert "AUC" not in zero_shot.format_zero_shot(block)


def test_data_that_cannot_be_classified():
    eye = np.eye(3, dtype=np.float32)
    unlabelled = make_set({"vt": {"video": eye, "text": eye}}, "abc")
    with pytest.raises(UserError, match="labelled clips with video"):
        zero_shot.zero_shot_metrics(unlabelled, FakeModel(), tokenizer)
    no_text = make_set({"va": {"video": eye, "audio": eye}}, "abc", [0, 1, 2])
    with pytest.raises(UserError, match="video and text in one space"):
        zero_shot.zero_shot_metrics(no_text, FakeModel(), tokenizer)
    labelled = make_set({"vt": {"video": eye, "text": eye}}, "abc", [0, 1, 2])
    unnamed = make_set({"vt": {"video": eye, "text": eye}}, "abc")
    unnamed.labels = [(0,), (1,), (1, 2)]  # foreign records that give indices only
    with pytest.raises(UserError, match="labelled clips with video"):
        zero_shot.zero_shot_metrics(unnamed, FakeModel(), tokenizer)
    with pytest.raises(UserError, match="manifest does not list: 'class 2'"):
        zero_shot.zero_shot_metrics(labelled, FakeModel(), tokenizer, labels=["class 0", "class 1"])
