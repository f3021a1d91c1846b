"""The deflation command, and what becomes of its folder."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.conftest import CHECKOUT
from tests.export import tiny
from tests.models.test_deflation import with_statistics
from vatt_tf import export
from vatt_tf.data.text.tokenizer import ContentWordTokenizer
from vatt_tf.deflate import main
from vatt_tf.encoders.audio_resnet import AudioResNetTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.tsm_resnet import TSMResNetTowerConfig
from vatt_tf.models import io
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.models.vatt import build_vatt

SMALL = {"width": 0.0625, "blocks": (1, 1, 1, 1)}
CONFIG = VattConfig(
    video=TSMResNetTowerConfig(frames=4, image_size=(16, 24), **SMALL),
    audio=AudioResNetTowerConfig(mel_frames=16, mel_bins=8, **SMALL),
    text=TextTowerConfig(
        kind="linear", vocab_size=len(tiny.WORDS), embedding_dim=10, max_tokens=6, d_model=12
    ),
    head=HeadConfig(kind="mmv_fac", va_dim=8, vt_dim=6),
)
TIMES = ("seconds_per_image", "seconds_alone")


@pytest.fixture(scope="module")
def images(made_once):
    return made_once("deflation_images", write_images)


def write_images(folder):
    generator = np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for number in range(24):
        pixels = np.kron(generator.integers(0, 256, (3, 4, 3)), np.ones((10, 10, 1)))
        name = f"more/{number}.png" if number % 2 else f"{number}.jpg"
        Image.fromarray(pixels.astype("uint8")).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")


@pytest.fixture(scope="module")
def network(made_once):
    return made_once("video_network", save_network)


def save_network(folder):
    keras.utils.set_random_seed(0)
    shown = np.random.default_rng(1).integers(0, 256, (8, 16, 24, 3)).astype("uint8")
    model = with_statistics(build_vatt(CONFIG), shown, frames=4)
    tokenizer = ContentWordTokenizer(tiny.WORDS, tiny.TOKENS)
    clip = CONFIG.clip(frame_rate=5.0, sample_rate=tiny.CLIP.sample_rate)
    io.save_pretrained(str(folder), model, clip, tokenizer, step=3)


@pytest.fixture(scope="module")
def deflated(network, images, made_once):
    """The folder that the command leaves; what it printed lies beside it. Read only."""

    def make(folder):
        folder.mkdir()
        flags = ["--steps=60", "--batch_size=16", "--learning_rate=0.003", "--timed_batch=5"]
        flags += [f"--run_dir={network}", f"--images={images}", f"--out={folder / 'images'}"]
        command = [sys.executable, "-m", "vatt_tf.deflate", *flags]
        found = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
        assert found.returncode == 0, found.stderr
        (folder / "stdout.txt").write_text(found.stdout)
        (folder / "stderr.txt").write_text(found.stderr)

    return made_once("deflated", make) / "images"


def test_it_is_fitted_and_says_what_came_of_it(deflated):
    out = deflated
    printed, said = ((out.parent / f"std{name}.txt").read_text() for name in ("out", "err"))
    report = json.loads((out / "deflation.json").read_text())
    assert report["images"] == 24 and len(report["damaged"]) == 1
    assert "broken.jpg" in report["damaged"][0] and "left out: " in said
    assert report["l1"]["learned"] < report["l1"]["naive"]
    assert "times faster with 5 images at a time" in printed
    assert all(value > 0 for kind in TIMES for value in report[kind].values())
    assert f"| learned deflation | {report['l1']['learned']:.4f} |" in printed
    model, clip, tokenizer = io.load_pretrained(str(out))
    assert clip.frames == 1 and model.config.video.shift is False
    assert tokenizer.kind == "content_words"
    assert io.read_description(str(out))["step"] == 3


@pytest.mark.check
@pytest.mark.parametrize("which", ["video network", "image network"])
def test_it_is_exported_like_any_other(which, network, deflated, tmp_path):
    source, frames = (network, 4) if which == "video network" else (deflated, 1)
    written = export.export_models(str(source), tmp_path / "models")
    assert sorted(written) == ["audio", "text", "video"]
    model, _, _ = io.load_pretrained(str(source))
    for height, width in ((16, 24), (24, 40)):
        clips = np.random.default_rng(0).integers(0, 256, (2, frames, height, width, 3))
        clips = clips.astype("uint8")
        call = tf.saved_model.load(str(written["video"])).signatures["serving_default"]
        answer = call(frames=tf.constant(clips))
        features = model.towers["video"](clips)["features_pooled"]
        np.testing.assert_allclose(answer["features"], features, rtol=1e-3, atol=1e-5)
        assert answer["embedding_vat"].shape == (2, 6)
    # A Keras app takes it as a layer.
    layer = keras.layers.TFSMLayer(str(written["video"]), call_endpoint="serving_default")
    np.testing.assert_allclose(layer(clips)["features"], answer["features"], rtol=1e-4, atol=1e-6)


@pytest.mark.check
def test_naive_deflation(network, images, tmp_path, capsys):
    out = tmp_path / "naive"
    assert main([f"--run_dir={network}", f"--images={images}", f"--out={out}", "--steps=0"]) == 0
    assert "nothing was fitted" in capsys.readouterr().out


def test_bad_input(network, images, deflated, tmp_path, capsys):
    out = deflated
    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "few" / "one.png")
    wrong = {
        "exists already": (network, images, out),
        "no such folder": (network, tmp_path / "nowhere", tmp_path / "x"),
        "no images": (network, tmp_path / "empty", tmp_path / "x"),
        "1 image could be read, expected at least 8": (network, tmp_path / "few", tmp_path / "x"),
        "reads single images already": (out, images, tmp_path / "x"),
        "no such folder; expected a run": (tmp_path / "run", images, tmp_path / "x"),
    }
    for message, (run, folder, target) in wrong.items():
        code = main([f"--run_dir={run}", f"--images={folder}", f"--out={target}"])
        said = capsys.readouterr().err
        assert code == 2 and message in said, (message, said)
        assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit, match="2"):
        main([f"--run_dir={network}", f"--images={images}", "--out=x", "--steps=-1"])
    assert "expected a whole number >= 0" in capsys.readouterr().err
