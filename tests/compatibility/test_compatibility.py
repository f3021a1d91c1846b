"""What b79b6f5 wrote is read today: a run, its best weights, an export and an index."""

from __future__ import annotations

import json
import pathlib
import shutil

import numpy as np
import pytest

import vatt_tf
from vatt_tf import config, evaluate, export, search, train
from vatt_tf.models import io

WRITTEN = pathlib.Path(__file__).with_name("b79b6f5")
NUMBERS = np.load(WRITTEN / "numbers.npz")
EXPECTED = json.loads((WRITTEN / "numbers.json").read_text())


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the folders, to write in; the run names its data from there."""
    shutil.copytree(WRITTEN, tmp_path / "b79b6f5")
    monkeypatch.chdir(tmp_path / "b79b6f5")
    config.clear()
    yield tmp_path / "b79b6f5"
    config.clear()


@pytest.mark.check
def test_a_run_is_resumed_as_it_would_have_gone_on(copy):
    """With its optimizer, its place in the data and its random numbers."""
    before = len((copy / "run" / "metrics.jsonl").read_text().splitlines())
    command = ["--gin_file=tiny_run.gin", "--run_dir=run", "--stop_at_step=8"]
    assert train.main(command) == 0
    lines = [json.loads(line) for line in (copy / "run" / "metrics.jsonl").open()][before:]
    losses = {str(line["step"]): line["loss"] for line in lines if line["kind"] == "train"}
    assert list(losses) == ["7", "8"]
    for step, loss in losses.items():
        assert loss == pytest.approx(EXPECTED["losses"][step], rel=1e-4)
    assert io.newest_checkpoint("run/checkpoints").endswith("ckpt-8")


def test_weights_are_those_of_the_checkpoint():
    model = io.load_model(str(WRITTEN / "run"))
    variables = [variable for variable in model.variables if "seed" not in variable.path]
    stored = {name for name in NUMBERS.files if name.startswith("variable/")}
    assert {f"variable/{variable.path}" for variable in variables} == stored
    for variable in variables:
        expected = NUMBERS[f"variable/{variable.path}"]
        np.testing.assert_array_equal(np.asarray(variable), expected, err_msg=variable.path)


def test_a_run_is_evaluated(copy):
    assert evaluate.main(["--run_dir=run", "--data=shards"]) == 0
    found = json.loads((copy / "run" / "results.json").read_text())["retrieval"]
    expected = EXPECTED["results"]["retrieval"]
    assert found["time"] != expected["time"]
    for direction in ("text_to_video", "video_to_text", "audio_to_video", "video_to_audio"):
        for name in ("R@1", "R@5", "R@10", "MedR", "MnR"):
            assert found[direction][name] == expected[direction][name], (direction, name)


LOADED = {
    "run": lambda: vatt_tf.load(str(WRITTEN / "run")),
    "run/best": lambda: vatt_tf.load(str(WRITTEN / "run" / "best")),
    "export": lambda: export.load(str(WRITTEN / "models")),  # Of video and text.
}


@pytest.mark.parametrize("name", LOADED)
def test_embeddings(name):
    embedder = LOADED[name]()
    keys = [key for key in NUMBERS.files if key.startswith(f"{name}/v")]  # Spaces va and vt.
    assert len(keys) == (3 if name == "export" else 4)
    for key in keys:
        space, modality = key.removeprefix(f"{name}/").split("/")
        if modality == "video":
            found = embedder.embed_video(NUMBERS["frames"], space=space)
        elif modality == "audio":
            found = embedder.embed_audio(NUMBERS["sound"], sample_rate=1000, space=space)
        else:
            found = embedder.embed_text(EXPECTED["texts"], space=space)
        np.testing.assert_allclose(found, NUMBERS[key], atol=1e-5, err_msg=key)


@pytest.mark.parametrize("text", EXPECTED["texts"])
def test_an_index_is_searched(text):
    """Neighbouring clips are one moment today, with the score of the best of them."""
    clips = EXPECTED["hits"][text]
    found = search.search(str(WRITTEN / "index"), text, run_dir=str(WRITTEN / "run"), top=12)
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    of_moments = []
    for hit in found.hits:
        inside = [
            clip["score"]
            for clip in clips
            if clip["file"] == hit.file and hit.start <= clip["start"] and clip["end"] <= hit.end
        ]
        assert hit.score == pytest.approx(max(inside), abs=1e-5)
        of_moments += inside
    assert sorted(of_moments) == sorted(clip["score"] for clip in clips)
