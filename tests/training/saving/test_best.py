"""The best weights of a run."""

import json
import os
import re

import pytest

from vatt_tf.training.saving.best import BestWeights, EarlyStop


def keeper(folder, patience=0, **measured):
    def save(path, **extra):
        os.makedirs(path)
        with open(f"{path}/model.json", "w", encoding="utf-8") as file:
            json.dump({"format": 1, "eval_data": measured.get("eval_data"), **extra}, file)

    return BestWeights(str(folder), save, evaluate_every=10, patience=patience, measured=measured)


def stored(folder):
    return json.loads((folder / "best/model.json").read_text())


def test_only_better_weights_replace_the_best(tmp_path):
    best = keeper(tmp_path)
    assert best.update(10, 0.5) and not best.update(20, 0.5) and best.update(30, 0.6)
    assert (stored(tmp_path)["step"], stored(tmp_path)["score"]) == (30, 0.6)
    assert os.listdir(tmp_path) == ["best"]


def test_a_resumed_run_knows_the_best(tmp_path):
    keeper(tmp_path).update(30, 0.6)
    best = keeper(tmp_path)
    best.restore(30)
    assert not best.update(40, 0.55) and stored(tmp_path)["step"] == 30
    # From a checkpoint before the best evaluation, that one will come again.
    earlier = keeper(tmp_path)
    earlier.restore(20)
    assert earlier.update(30, 0.6)


def test_killed_between_the_renames(tmp_path):
    keeper(tmp_path).update(30, 0.6)
    os.rename(tmp_path / "best", tmp_path / "best.old")
    best = keeper(tmp_path)
    best.restore(30)
    assert best.score == 0.6 and stored(tmp_path)["step"] == 30


def test_patience_ends_the_run_and_keeps_it_ended(tmp_path):
    best = keeper(tmp_path, patience=2)
    best.update(10, 0.5)
    best.update(20, 0.4)
    with pytest.raises(EarlyStop, match="after step 30: no .* better .* step 10 .50.0 %"):
        best.update(30, 0.45)
    with pytest.raises(EarlyStop):
        keeper(tmp_path, patience=2).restore(30)
    # Interrupted in the evaluation after step 30, which may yet be better.
    keeper(tmp_path, patience=2).restore(30, evaluated=20)


EASY = {"eval_data": "easy/val", "data": "0123", "metric": "top1", "windows": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "4567"}, r"other evaluation data \(easy/val, as they were\)"),
        ({"eval_data": "hard/val", "data": "4567"}, r"other evaluation data \(easy/val"),
        ({"windows": 4}, "windows 1"),
        ({"metric": "mAP"}, "metric top1"),
        ({"eval_data": "moved/easy/val"}, ""),
        ({}, ""),
    ],
)
def test_the_best_score_belongs_to_what_it_was_measured_on(tmp_path, change, words):
    keeper(tmp_path, patience=1, **EASY).update(30, 1.0)
    best = keeper(tmp_path, patience=1, **{**EASY, **change})
    note = best.restore(30)
    assert bool(note) == bool(words) and re.search(words, note)
    assert ("100.0 % after step 30" in note) == bool(words)
    if words:  # the next evaluation is the best of the new record, and no run stops before it
        assert best.update(40, 0.6) and stored(tmp_path)["score"] == 0.6
        assert keeper(tmp_path, **{**EASY, **change}).restore(40) == ""
    else:
        with pytest.raises(EarlyStop):
            best.update(40, 0.6)


def test_the_best_of_an_earlier_version_knows_the_name_of_its_data(tmp_path):
    keeper(tmp_path, **EASY).update(30, 1.0)
    content = stored(tmp_path)
    del content["measured"]
    (tmp_path / "best/model.json").write_text(json.dumps(content))
    assert keeper(tmp_path, **EASY).restore(30) == ""
    assert "easy/val" in keeper(tmp_path, **{**EASY, "eval_data": "hard/val"}).restore(30)
