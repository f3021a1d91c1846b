"""Calibration of cosines: what is measured, where it is kept, what a score is read as."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.tasks.test_retrieval import make_set, unit
from vatt_tf.errors import UserError
from vatt_tf.evaluation import calibration
from vatt_tf.evaluation.calibration import LEVELS, Calibration, Cosines
from vatt_tf.models import io


@pytest.fixture(name="clips", scope="module")
def make_clips():
    """40 clips; 3 have no sound, 5 no caption, and two captions come twice."""
    rng = np.random.default_rng(0)
    video, text, audio = (unit(rng.normal(size=(40, 8))) for _ in range(3))
    has = {"audio": rng.permutation(40) > 2, "text": rng.permutation(40) > 4}
    captions = [f"caption {i % 38}" if has["text"][i] else "" for i in range(40)]
    for name, value in (("audio", audio), ("text", text)):
        value[~has[name]] = 0.0
    spaces = {
        "va": {"video": unit(video + audio), "audio": audio},
        "vt": {"video": video, "text": text},
    }
    return make_set(spaces, captions, masks=has)


def plain_pairs(clips, space, query):
    """Cosines of true and random pairs, one after the other in float64."""
    true, random = [], []
    parts, captions = clips.spaces[space], clips.caption
    for i in range(len(clips)):
        for j in range(len(clips)):
            if clips.masks[query][i] and clips.masks[query][j]:
                cosine = sum(
                    float(a) * float(b)
                    for a, b in zip(parts[query][i], parts["video"][j], strict=True)
                )
                if i == j:
                    true.append(cosine)
                elif captions[i] != captions[j] or not captions[i]:
                    random.append(cosine)
    return {"true": true, "random": random}


@pytest.mark.parametrize("space, query", [("va", "audio"), ("vt", "text")])
def test_quantiles_are_those_of_a_plain_program(clips, space, query):
    found = calibration.measure(clips)
    assert {name: list(parts) for name, parts in found.items()} == {"va": ["audio"], "vt": ["text"]}
    for kind, cosines in plain_pairs(clips, space, query).items():
        measured = found[space][query][kind]
        assert measured["pairs"] == len(cosines)
        np.testing.assert_allclose(
            measured["quantiles"], np.quantile(cosines, LEVELS), atol=1e-6, rtol=0
        )
    json.dumps(found, allow_nan=False)


def test_a_score_is_read_as_the_fraction_of_pairs_above_it(clips):
    plain = plain_pairs(clips, "vt", "text")
    stored = {"model_hash": "a", "spaces": calibration.measure(clips), "data": "x/val", "step": 3}
    found = calibration.read(stored, "vt", "text", "a", "run")
    assert isinstance(found, Calibration)
    assert str(found) == f"35 true and {len(plain['random']):,} random pairs (x/val, step 3)"
    for score in np.linspace(-1, 1, 41):
        for value, kind in zip(found.higher(score), ("true", "random"), strict=True):
            # Interpolation is between two neighbours, or within a hundredth.
            error = max(0.01, 1 / (len(plain[kind]) - 1))
            assert value == pytest.approx(np.mean(np.array(plain[kind]) > score), abs=error)
    assert found.higher(-1.0) == (1.0, 1.0) and found.higher(1.0) == (0.0, 0.0)


def test_equal_cosines_are_not_higher():
    same = Cosines(5, np.full(len(LEVELS), 0.5))
    assert [same.higher(score) for score in (0.4, 0.5 - 1e-7, 0.5, 0.6)] == [1.0, 0.0, 0.0, 0.0]
    half = Cosines(4, np.quantile([0.1, 0.5, 0.5, 0.5, 0.9], LEVELS))
    assert half.higher(0.5) == pytest.approx(0.25, abs=1e-4)


def test_random_pairs_are_bounded(clips, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_CLIPS", 10)
    found = calibration.measure(clips)["va"]["audio"]
    # The first and the last clip have the same caption.
    assert found["random"]["pairs"] == 10 * 9 - 2 and found["true"]["pairs"] == 37


def test_without_random_pairs_nothing_is_measured():
    eye = np.eye(3, dtype=np.float32)
    spaces = {"vt": {"video": eye, "text": eye}}
    assert calibration.measure(make_set(spaces, ["the same"] * 3)) == {}
    line = calibration.store("nowhere", {"spaces": {}}, "val")
    assert "not calibrated, because no two clips" in line


GOOD = {"pairs": 3, "quantiles": LEVELS.tolist()}


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "pairs": 0},
        {**GOOD, "quantiles": LEVELS.tolist()[:-1]},
        {**GOOD, "quantiles": LEVELS.tolist()[::-1]},
        {**GOOD, "quantiles": [float("nan")] * len(LEVELS)},
        {**GOOD, "quantiles": ["x"] * len(LEVELS)},
        {"pairs": 3},
        [],
        None,
    ],
)
def test_what_is_no_calibration_is_refused(bad):
    stored = {"model_hash": "a", "spaces": {"vt": {"text": {"true": bad, "random": GOOD}}}}
    with pytest.raises(UserError, match="^host:1: its score_calibration cannot be read .*evaluate"):
        calibration.read(stored, "vt", "text", "a", "host:1")


def test_only_its_own_weights_and_queries_are_read():
    stored = {"model_hash": "a", "data": "x/val", "step": 3, "spaces": {"vt": {}}}
    assert calibration.read(None, "vt", "text", "a", "run") == ""
    other = calibration.read(stored, "vt", "text", "b", "run")
    assert other == "what is there was measured with other weights (x/val, step 3)"
    for space in ("vt", "va"):
        found = calibration.read(stored, space, "audio", "a", "run")
        assert found == "queries by audio were not measured (x/val, step 3)"


def test_it_is_kept_beside_the_weights(tiny_run_dir, clips):
    run, file = str(tiny_run_dir), str(tiny_run_dir / "model.json")
    before = io.read_description(run)
    full = {"data": "x/val", "step": 7, "spaces": calibration.measure(clips)}
    part = {**full, "limit": 4}

    def stored(value, split="val"):
        line = calibration.store(run, value, split)
        description = io.read_description(run)
        found = description.pop("score_calibration", None)
        assert description == before, "nothing else changes in the file"
        return found, line.replace(file, "FILE")

    found, line = stored(full, "train")
    assert found is None and "clips of training are not held out" in line
    found, line = stored(part)
    assert found == part and line.endswith(" random pairs (text -> video); written: FILE")
    found, line = stored(full)
    assert found == full
    assert "in place of those of the first 4 clips of x/val, step 7; written" in line
    found, line = stored(part)
    assert found == full
    assert line == "scores: FILE keeps the calibration by all clips (x/val, step 7)"
    other = {**full, "data": "y/test"}
    found, line = stored(other)
    assert found == other and "in place of those of x/val, step 7; written" in line
    assert "in place" not in stored(other)[1]


def test_a_description_that_was_edited(tiny_run_dir):
    io.update_description(str(tiny_run_dir), score_calibration=3)
    with pytest.raises(UserError, match="model.json: score_calibration is not an object; remove"):
        io.read_description(str(tiny_run_dir))
