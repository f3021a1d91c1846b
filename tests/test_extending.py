"""The examples of docs/extending.md: parts from a user's own modules, from training to serving."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import vatt_tf
from tests.conftest import CHECKOUT
from tests.data.records import example, jpeg
from tests.test_api import write_video
from vatt_tf import config, embed, evaluate, search, train
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.pipeline import training_dataset
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.index import DataSource
from vatt_tf.export import __main__ as export_command

PARTS = ("tower", "head", "loss", "optimizer", "tokenizer", "source")
MODULES = [f"examples.own_{part}" for part in ("head", "tokenizer", "tower")]
FLAGS = [f"--module={name}" for name in MODULES]
GIN = """
include 'examples/own_parts.gin'
import examples.own_source

TRAIN_DATA = None
EVAL_DATA = '{folder}/val'
train.data = @example_source()
example_source.path = '{folder}/clips.tfrecord'
STEPS = 10
BATCH_SIZE = 4
video_tower.size = 'tiny'
video_tower.num_layers = 1
video_tower.frames = 4
video_tower.image_size = (16, 16)
video_tower.patch = (2, 8, 8)
text_tower.num_layers = 1
mixer_tower.mel_frames = 8
train.frame_rate = 10.0
train.texts = 1
"""


def write_clips(folder):
    """Training clips as ``tf.train.Example``, held-out ones as ``prepare`` writes them."""
    rng = np.random.default_rng(0)

    def clip(level):
        wave = rng.uniform(-0.5, 0.5, 19_200).astype("float32")
        return [jpeg(level)] * 4, wave, f"level {level}"

    with tf.io.TFRecordWriter(str(folder / "clips.tfrecord")) as writer:
        for level in range(20, 220, 20):
            frames, wave, text = clip(level)
            features = tf.train.Features(
                feature={
                    "frames": tf.train.Feature(bytes_list=tf.train.BytesList(value=frames)),
                    "sound": tf.train.Feature(float_list=tf.train.FloatList(value=wave)),
                    "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()])),
                }
            )
            writer.write(tf.train.Example(features=features).SerializeToString())
    (folder / "val").mkdir()
    with tf.io.TFRecordWriter(str(folder / "val" / "val-00000-of-00001.tfrecord")) as writer:
        for level in range(30, 130, 20):
            frames, wave, text = clip(level)
            record = {"images": frames, "waveform": wave, "captions": [text]}
            writer.write(example(level, **record, sample_rate=48_000))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extending")
    write_clips(folder)
    (folder / "own.gin").write_text(GIN.format(folder=folder))
    config.clear()
    flags = [f"--gin_file={folder}/own.gin", f"--run_dir={folder}/run", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CHECKOUT)
        assert train.main(flags) == 0
    config.clear()
    return folder / "run"


def test_the_run_is_made_of_the_own_parts(run_dir):
    description = json.loads((run_dir / "model.json").read_text())
    assert description["modules"] == MODULES
    assert description["model"]["audio"]["kind"] == "mixer"
    assert description["model"]["head"] == {
        "kind": "tied",
        "va_dim": None,
        "vt_dim": None,
        "vat_dim": 64,
        "masked_statistics": False,
    }
    assert description["tokenizer"]["kind"] == "bytes"
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 10
    assert all(np.isfinite(value) for value in lines[-1].values() if isinstance(value, float))


def test_evaluate(run_dir, capsys):
    flags = [f"--run_dir={run_dir}", f"--data={run_dir.parent}/val", "--task=retrieval", "--quiet"]
    assert evaluate.main([*flags, *FLAGS]) == 0
    assert "retrieval" in json.loads((run_dir / "results.json").read_text())


def test_a_source_of_ones_own_beside_shards(run_dir):
    from examples.own_source import ExampleSource

    folder = run_dir.parent
    sources = [DataSource(str(folder / "val")), ExampleSource(str(folder / "clips.tfrecord"))]
    spec = ClipSpec(frames=4, height=16, width=16, samples=9600, texts=1)
    plain = Augmentation(colour_probability=0.0)
    clips = training_dataset(sources, spec, None, plain, batch_size=16, shuffle_window=1)
    batch = next(iter(clips))
    own = batch["record_id"].numpy() >> 48 == 1  # the number of the source
    assert 4 <= own.sum() <= 12
    for name in ("video_mask", "audio_mask"):
        np.testing.assert_array_equal(batch[name], 1.0)
    levels = batch["video"].numpy()[:, 0, 8, 8, 0]
    assert np.all(levels[own] % 20 < 3) and np.all((levels[~own] - 10) % 20 < 3)


def test_load(run_dir):
    model = vatt_tf.load(str(run_dir), modules=MODULES)
    sound = model.embed_audio(np.zeros(19_200, np.float32), sample_rate=48_000)
    assert sound.shape == (64,) and np.isfinite(sound).all()
    assert model.embed_text("level 30").shape == (64,)


@pytest.fixture(scope="module")
def models(run_dir):
    flags = [f"--run_dir={run_dir}", f"--out={run_dir.parent}/models", "--quiet"]
    assert export_command.main([*flags, *FLAGS]) == 0
    return run_dir.parent / "models"


def test_embed_and_search(run_dir, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    for name, level in (("dark", 20), ("bright", 220)):
        write_video(tmp_path / "videos" / f"{name}.mp4", [level] * 12)
    flags = [f"--videos={tmp_path}/videos", f"--out={tmp_path}/index", "--quiet"]
    assert embed.main([*flags, f"--run_dir={run_dir}", *FLAGS]) == 0
    query = [f"--index={tmp_path}/index", f"--run_dir={run_dir}", "--json", "level 20"]
    assert search.main([*query, *FLAGS]) == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 2


NEEDS_NO_MODULE = """
import sys, numpy as np
from vatt_tf import export
from vatt_tf.serving.client import Client
from vatt_tf.serving.server import start_server

folder = sys.argv[1]
with start_server(folder, port=0) as server, Client(f"localhost:{server.port}") as client:
    served = client.embed_text("level 30")
models = export.load(folder)
np.testing.assert_allclose(models.embed_text("level 30"), served, rtol=1e-5, atol=1e-6)
assert not [name for name in sys.modules if name.startswith("examples")]
np.save(sys.argv[2], served)
"""


@pytest.mark.check
def test_exported_models_are_served_without_the_modules(run_dir, models, tmp_path):
    command = [sys.executable, "-c", NEEDS_NO_MODULE, str(models), str(tmp_path / "served.npy")]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    expected = vatt_tf.load(str(run_dir), modules=MODULES).embed_text("level 30")
    served = np.load(tmp_path / "served.npy")
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "own_missing",
            "--module: module own_missing: not found; expected own_missing.py",
        ),
        ("", "argument --module: module '': expected a name"),
        (".own_tower", "argument --module: module '.own_tower': expected a name"),
        ("own_tower.py", "argument --module: module 'own_tower.py': expected a name"),
    ],
)
def test_modules_that_cannot_be_imported(module, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        evaluate.main(["--run_dir=x", "--data=x", f"--module={module}"])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_a_run_names_the_module_that_it_needs(run_dir, monkeypatch, capsys):
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    flags = [f"--run_dir={run_dir}", f"--data={run_dir.parent}/val", "--task=retrieval"]
    assert evaluate.main(flags) == 2
    error = capsys.readouterr().err
    assert f"{run_dir}: needs parts of the module examples.own_head, examples.own_tok" in error
    assert f"add {' '.join(FLAGS)}, or in Python vatt_tf.load(..., modules=[" in error


def test_a_gin_file_that_imports_what_is_not_there(tmp_path, capsys):
    (tmp_path / "run.gin").write_text("import own_missing\n")
    config.clear()
    assert train.main([f"--gin_file={tmp_path}/run.gin"]) == 2
    assert "run.gin: No module named 'own_missing'" in capsys.readouterr().err


def test_the_page_shows_every_example():
    page = (CHECKOUT / "docs" / "extending.md").read_text(encoding="utf-8")
    for part in PARTS:
        assert re.search(rf"examples/own_{part}\.py", page), part
    assert sorted(f"own_{part}.py" for part in PARTS) == sorted(
        name for name in os.listdir(CHECKOUT / "examples") if re.match(r"own_.*\.py$", name)
    )
