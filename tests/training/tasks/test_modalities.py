"""A run has the towers that its clips can train, and nothing uses one that it has not."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import CHECKOUT
from tests.data.test_prepare import make_video
from tests.training.conftest import GIN, SIZES, write_counted_shards
from tests.training.test_run import command, lines
from vatt_tf import config, load, train
from vatt_tf.errors import UserError
from vatt_tf.evaluate import evaluate
from vatt_tf.evaluation.tasks.registry import at_random_weights
from vatt_tf.export import __main__ as export_command
from vatt_tf.export import export_models
from vatt_tf.export import load as load_exports
from vatt_tf.models.flops import step_flops
from vatt_tf.models.io import load_pretrained, save_pretrained
from vatt_tf.models.vatt import build_vatt, parameter_counts
from vatt_tf.training.tasks.registry import configured_run, make_task


def description(run_dir):
    return json.loads((run_dir / "model.json").read_text())


def written(folder, **kinds):
    """A configuration on new shards."""
    write_counted_shards(folder / "shards", **kinds)
    (folder / "run.gin").write_text(GIN.format(shards=folder / "shards", sizes=SIZES))
    return folder / "run.gin"


@pytest.fixture(autouse=True)
def clean():
    yield
    config.clear()


def test_clips_without_captions_train_two_towers(captionless):
    found = description(captionless / "run")
    assert found["model"]["modalities"] == ["video", "audio"] and found["tokenizer"] is None
    assert not (captionless / "run/tokenizer").exists()
    train = [line for line in lines(captionless / "run") if line["kind"] == "train"]
    assert "loss/video_audio" in train[0] and "loss/video_text" not in train[0]
    assert not any("text" in name for line in lines(captionless / "run") for name in line)
    assert [line["step"] for line in lines(captionless / "run") if line["kind"] == "eval"] == [3, 6]


def test_no_text_tower_is_exported_or_asked(captionless, tmp_path, capsys):
    run, out = str(captionless / "run"), str(tmp_path / "served")
    assert export_command.main([f"--run_dir={run}", f"--out={out}"]) == 0
    assert "no model for text: this model has no text tower" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["audio", "video"]
    with pytest.raises(UserError, match=r"has video, audio .this model has no text.*name\.srt"):
        export_models(run, out, models=["text"])
    for embedder in (load(run), load_exports(out)):
        assert list(embedder.spaces.values()) == [("video", "audio")]
        with pytest.raises(UserError, match=r"no text tower.*name\.srt"):
            embedder.embed_text("a ball")


def test_words_cannot_name_classes(captionless):
    with pytest.raises(UserError, match="zero-shot classes need words; this model has no text"):
        evaluate(str(captionless / "run"), str(captionless / "shards"), "zero_shot", quiet=True)


@pytest.mark.check
def test_captions_that_come_later_do_not_change_a_run(captionless, tmp_path, capsys):
    shutil.copytree(captionless / "run", tmp_path / "run")
    shards = tmp_path / "shards"
    write_counted_shards(shards, captions=True)
    bindings = ["STEPS=7", f"TRAIN_DATA='{shards}/train'"]
    flags = ["--continue_on_new_data"]
    assert command(captionless / "run.gin", tmp_path / "run", *bindings, flags=flags) == 0
    error = capsys.readouterr().err
    assert "was started on clips without captions and stays without a tower for them" in error
    assert description(tmp_path / "run")["model"]["modalities"] == ["video", "audio"]
    assert not (tmp_path / "run/tokenizer").exists()


@pytest.mark.check
def test_captions_are_learned_where_there_are_some(tmp_path):
    path = written(tmp_path, captions=True)
    assert command(path, tmp_path / "run", "STEPS=1") == 0
    found = description(tmp_path / "run")
    assert found["model"]["modalities"] == ["video", "audio", "text"] and found["tokenizer"]


@pytest.mark.check
def test_clips_without_sound_train_video_and_words(tmp_path, capsys):
    path = written(tmp_path, captions=True, sound=False)
    assert command(path, tmp_path / "run", "STEPS=1") == 0
    assert "has no audio tower" in capsys.readouterr().err
    found = description(tmp_path / "run")
    assert found["model"]["modalities"] == ["video", "text"]
    assert found["model"]["head"]["vat_dim"] == 8 and found["clip"]["audio"] == "none"


def test_neither_sound_nor_captions_is_refused(tmp_path, capsys):
    path = written(tmp_path, sound=False)
    assert command(path, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "no clip has sound and none has captions" in error
    assert "name.srt" in error and "vatt_tf.convert" in error
    assert not (tmp_path / "run").exists()


def test_held_out_clips_without_sound_are_refused_before_the_first_step(tmp_path, capsys):
    path = written(tmp_path)
    manifest = tmp_path / "shards/manifest.json"
    content = json.loads(manifest.read_text())
    content["splits"]["val"]["with_audio"] = 0
    manifest.write_text(json.dumps(content))
    assert command(path, tmp_path / "run", "train.evaluate_every=3") == 2
    assert "none of the 6 held-out clips has sound" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_cannot_do_without_captions(captionless, tmp_path, capsys):
    bindings = ["contrastive_loss.video_audio=0.0"]
    assert command(captionless / "run.gin", tmp_path / "run", *bindings) == 2
    assert "the configured run learns from nothing else" in capsys.readouterr().err


@pytest.mark.check
def test_an_agnostic_model_shares_its_transformer_between_two(captionless, tmp_path, capsys):
    text = (captionless / "run.gin").read_text()
    own = [line for line in SIZES.splitlines() if line.startswith("video_tower")]
    shared = "\n".join(own).replace("video_tower", "agnostic_tower")
    (tmp_path / "agnostic.gin").write_text(text.replace(SIZES, shared))
    bindings = ["vatt.kind='agnostic'", "agnostic_tower.post_projection=8", "STEPS=1"]
    bindings += ["train.evaluate_every=0"]
    assert command(tmp_path / "agnostic.gin", tmp_path / "run", *bindings) == 0
    printed = capsys.readouterr().err
    found = description(tmp_path / "run")
    assert found["model"]["modalities"] == ["video", "audio"] and found["tokenizer"] is None
    model, _, _ = load_pretrained(str(tmp_path / "run"))
    expected = step_flops(model.config, 4, texts=2)["total"]
    assert flops_of_step(printed) == pytest.approx(expected, rel=0.01)
    assert not any("text" in weight.path for weight in model.weights)
    assert model.tower("audio").transformer is model.tower("video").transformer


def flops_of_step(text):
    """``404 kFLOP`` of ``--dry_run`` and of the line at the start of a run."""
    number, unit = re.search(r"([\d.]+) ([kM])FLOP (?:a step|\()", text).groups()
    return float(number) * {"k": 1e3, "M": 1e6}[unit]


def test_costs_are_those_of_the_towers_that_exist(captionless, tmp_path, capsys):
    flags = [f"--gin_file={captionless / 'run.gin'}", f"--run_dir={tmp_path / 'run'}", "--dry_run"]
    assert train.main(flags) == 0
    planned = capsys.readouterr().out
    config.clear()
    model, _, _ = load_pretrained(str(captionless / "run"))
    assert f"{parameter_counts(model)['total']:,} parameters" in planned
    step = next(line for line in planned.splitlines() if line.startswith("step "))
    assert "video" in step and "audio" in step and "text" not in step
    assert "note: no clip of" in planned and not (tmp_path / "run").exists()
    expected = step_flops(model.config, 4, texts=2)["total"]
    assert flops_of_step(planned) == pytest.approx(expected, rel=0.01)
    # Without the data nobody can tell.
    flags.append(f"--gin_bindings=TRAIN_DATA='{tmp_path}/absent'")
    assert train.main(flags) == 0
    planned = capsys.readouterr().out
    assert "text" in planned and "absent: all configured towers are counted" in planned


@pytest.mark.parametrize("head", ["fac", "shared"])
def test_a_text_tower_joins_trained_ones(captionless, tmp_path, capsys, head):
    """Weights of a run without captions, on clips that have some."""
    weights = captionless / "run"
    if head == "shared":
        model, clip, _ = load_pretrained(str(weights))
        kind = dataclasses.replace(model.config.head, kind="shared", vat_dim=8)
        model = build_vatt(dataclasses.replace(model.config, head=kind))
        weights = tmp_path / "weights"
        save_pretrained(str(weights), model, clip, None)
    bindings = [f"train.initial_weights='{weights}'", f"common_space.kind='{head}'"]
    path = written(tmp_path, captions=True)
    config.import_configurables()
    config.parse([str(path)], [*bindings, "common_space.vat_dim=8"])
    task = make_task(configured_run())
    model = task.model()
    printed = capsys.readouterr().out
    rest = ", and so do the common spaces" if head == "fac" else ""
    assert f"{weights}: has no text tower: it starts from random weights{rest}\n" in printed
    assert model.config.modalities == ("video", "audio", "text") and task.tokenizer is not None
    source, _, _ = load_pretrained(str(weights))
    trained = {weight.path: weight for weight in source.weights}
    parts = [model.tower("video"), model.tower("audio")]
    parts += [model.head.video_to_vat] if head == "shared" else []
    for part in parts:
        for weight in part.weights:
            np.testing.assert_array_equal(weight, trained[weight.path], err_msg=weight.path)


def test_the_report_begins_with_what_the_model_can_do(captionless, tmp_path, capsys):
    run = shutil.copytree(captionless / "run", tmp_path / "run")
    block = evaluate(str(run), str(captionless / "shards"), report=True)
    random = block["random_weights"]
    assert random["seed"] == 0 and list(random) == ["seed", "audio_to_video", "video_to_audio"]
    assert random["audio_to_video"]["pool_size"] == 6 and block["held_out"] == "by time"
    printed = " ".join(capsys.readouterr().out.split())  # The verdict is wrapped.
    assert "the same towers at random weights:" in printed
    assert "not by words; to add words, put captions beside the videos" in printed
    text = (run / "report.html").read_text()
    words = "This model has learned from pictures and sound alone"
    assert text.index(words) < text.index('<p class="lead">')
    assert "held out by time" in text and "<h3>The same towers at random weights</h3>" in text


@pytest.mark.check
def test_random_weights_are_those_that_the_run_started_from(captionless, tmp_path):
    still = ["learning_rate.peak=1e-30", "learning_rate.final=0.0", "STEPS=1"]
    still += ["train.evaluate_every=0"]
    assert command(captionless / "run.gin", tmp_path / "still", *still) == 0
    model, _, _ = load_pretrained(str(tmp_path / "still"))
    start = at_random_weights(model.config, description(tmp_path / "still")["seed"])
    for one, other in zip(model.trainable_variables, start.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-20, err_msg=one.path)


@pytest.mark.check
def test_served_and_searched_without_words(captionless, tmp_path):
    run = shutil.copytree(captionless / "run", tmp_path / "run")
    for index in range(2):
        make_video(tmp_path / f"videos/{index}.mp4", 1.0, level=60 + 100 * index)
    done = subprocess.run(
        [str(CHECKOUT / "examples/serve_and_search.sh"), str(run), str(tmp_path / "videos")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no model for text" in done.stderr and "--video=FILE (or --audio=FILE)" in done.stdout
    for found in done.stdout.split("videos/0.mp4\n")[1:]:  # by example, then by sound
        # The video of the query is left out of its own hits.
        assert " 1.mp4 " in found and " 0.mp4 " not in found
