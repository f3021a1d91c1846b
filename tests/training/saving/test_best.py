"""The best weights of a run."""

import json
import os

import pytest

from vatt_tf.training.saving.best import BestWeights, EarlyStop


def keeper(folder, patience=0):
    def save(path, **extra):
        os.makedirs(path)
        with open(f"{path}/model.json", "w", encoding="utf-8") as file:
            json.dump({"format": 1, **extra}, file)

    return BestWeights(str(folder), save, evaluate_every=10, patience=patience)


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
    with pytest.raises(EarlyStop, match="after step 30: no evaluation was better .* step 10"):
        best.update(30, 0.45)
    with pytest.raises(EarlyStop):
        keeper(tmp_path, patience=2).restore(30)
    # Interrupted in the evaluation after step 30, which may yet be better.
    keeper(tmp_path, patience=2).restore(30, evaluated=20)
