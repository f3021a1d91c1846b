"""Whole fine-tuning runs through the command's main function, in this process."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.data.records import example, jpeg
from tests.digests import digests
from tests.export import tiny
from tests.models import test_convolutional as conv
from tests.training.conftest import SIZES
from tests.training.test_run import (
    assert_same_checkpoints,
    command,
    lines,
)
from vatt_tf import config
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.models.deflation import deflate
from vatt_tf.models.io import load_classifier, load_pretrained, save_pretrained
from vatt_tf.models.vatt import build_vatt

RUN = """
include 'runs/finetune.gin'
TRAIN_DATA = '{shards}/train'
EVAL_DATA = '{shards}/val'
INITIAL_WEIGHTS = None
STEPS = 6
BATCH_SIZE = 4
classifier.modality = '{modality}'
video_tower.frames = 4
video_tower.image_size = (16, 16)
video_tower.patch = (2, 8, 8)
audio_tower.samples = 320
audio_tower.patch = 32
{sizes}
finetune.sample_rate = 800
finetune.log_every = 2
finetune.checkpoint_every = 3
optimizer.name = 'adamw'
learning_rate.peak = 1e-2
"""
CLASSES = ("dark", "grey", "bright")


def record(number: int) -> bytes:
    """A clip whose brightness tells its class."""
    label = number % 3
    rng = np.random.default_rng(number)
    images = [jpeg(30 + 80 * label + int(level)) for level in rng.integers(0, 40, 8)]
    sound = rng.uniform(-0.5, 0.5, 640) * (label + 1) / 3
    serialized = example(number, images=images, waveform=sound, label=label)
    parsed = tf.train.SequenceExample.FromString(serialized)
    parsed.context.feature["clip/label/text"].bytes_list.value[:] = [CLASSES[label].encode()]
    return parsed.SerializeToString()


@pytest.fixture(scope="module")
def labelled(made_once):
    """15 training and 6 held-out clips of three classes, without a manifest of `prepare`."""
    return made_once("finetuning_shards", write_labelled)


def write_labelled(folder):
    for split, numbers in (("train", range(15)), ("val", range(100, 106))):
        (folder / split).mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / split / f"{split}-00000-of-00001.tfrecord")) as out:
            for number in numbers:
                out.write(record(number))
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")


@pytest.fixture
def gin_file(labelled, tmp_path):
    """Path of a configuration for ``labelled``; gin is clean before and after."""
    path = tmp_path / "run.gin"
    sizes = "\n".join(line for line in SIZES.splitlines() if not line.startswith("text"))
    text = RUN.format(shards=labelled, sizes=sizes, modality="video")
    path.write_text(text + f"finetune.labels = '{labelled}/classes.txt'\n")
    config.clear()
    yield str(path)
    config.clear()


def test_a_run_learns_and_keeps_the_best(gin_file, tmp_path):
    run_dir = str(tmp_path / "run")
    bindings = ["STEPS=40", "finetune.evaluate_every=20", "finetune.eval_windows=2"]
    bindings += ["augmentation.colour_probability=0.0", "video_tower.drop_token_rate=0.0"]
    bindings += ["video_tower.dropout_rate=0.0", "video_tower.position_dropout_rate=0.0"]
    assert command(gin_file, run_dir, *bindings) == 0
    found = lines(run_dir)
    assert found[-1]["top1"] > 0.6 and found[0]["loss"] > 1.3 * found[-2]["loss"]
    evaluations = [line for line in found if line["kind"] == "eval"]
    assert [line["step"] for line in evaluations] == [20, 40]
    best = json.loads((tmp_path / "run/best/model.json").read_text())
    assert best["score"] == max(line["top1"] for line in evaluations)
    loaded = load_classifier(run_dir)
    assert loaded.labels == CLASSES
    assert load_classifier(f"{run_dir}/best").model.config == loaded.model.config


@pytest.mark.check
@pytest.mark.parametrize("micro", [None, 2])
def test_interrupted_and_resumed_is_bit_equal(gin_file, tmp_path, micro):
    """With dropout, DropToken, mixup, frozen towers and layer-wise rates."""
    bindings = [f"MICRO_BATCH_SIZE={micro}", "finetune.mixup_alpha=1.0"]
    bindings += ["finetune.freeze_steps=1", "finetune.layer_decay=0.5"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert command(gin_file, whole, *bindings) == 0
    assert command(gin_file, parts, *bindings, flags=["--stop_at_step=2"]) == 0
    assert command(gin_file, parts, *bindings) == 0
    assert_same_checkpoints(whole, parts)


def test_only_the_head_learns_at_first(gin_file, tmp_path):
    run_dir = str(tmp_path / "run")
    bindings = ["finetune.freeze_steps=4", "STEPS=6", "optimizer.weight_decay=0.1"]
    bindings += ["finetune.checkpoint_every=1", "finetune.keep_checkpoints=4"]
    assert command(gin_file, run_dir, *bindings, flags=["--stop_at_step=4"]) == 0
    first, later = (
        tf.train.load_checkpoint(f"{run_dir}/checkpoints/ckpt-{step}") for step in (1, 4)
    )
    for key in first.get_variable_to_shape_map():
        if key.startswith("model/"):
            same = np.array_equal(first.get_tensor(key), later.get_tensor(key))
            assert same != ("Shead" in key), key


def test_from_pretraining_and_from_another_classifier(gin_file, whole_run, tmp_path, capsys):
    """The tower starts where the other run ended; a frozen tower stays there."""
    source = str(whole_run)
    tuned, again = str(tmp_path / "tuned"), str(tmp_path / "again")
    frozen = ["STEPS=2", "finetune.freeze_steps=2"]
    assert command(gin_file, tuned, f"INITIAL_WEIGHTS='{source}'", *frozen) == 0
    expected = load_pretrained(source)[0].tower("video").weights
    actual = load_classifier(tuned).model.towers["video"].weights
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)
    # More frames than it was trained with: the position table is interpolated.
    bindings = [f"INITIAL_WEIGHTS='{tuned}'", "video_tower.frames=8", *frozen]
    assert command(gin_file, again, *bindings) == 0
    assert "temporal_embeddings" in capsys.readouterr().out


@pytest.mark.check
def test_from_a_deflated_network(gin_file, tmp_path):
    """The image network of a convolutional video network is fine-tuned like any other."""
    model = build_vatt(conv.mmv(conv.TSM))
    network, image = str(tmp_path / "network"), deflate(model)
    clip = image.config.clip(frame_rate=5.0, sample_rate=800)
    save_pretrained(network, image, clip, WordTokenizer(tiny.WORDS, conv.TEXT.max_tokens), step=1)
    run_dir = str(tmp_path / "run")
    bindings = [f"INITIAL_WEIGHTS='{network}'", "STEPS=2", "finetune.freeze_steps=2"]
    assert command(gin_file, run_dir, *bindings) == 0
    tuned = load_classifier(run_dir)
    assert tuned.clip.frames == 1 and tuned.model.config.tower.shift is False
    expected = image.tower("video").trainable_weights
    actual = tuned.model.towers["video"].trainable_weights
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)


def test_several_labels_a_clip(gin_file, tmp_path):
    run_dir = str(tmp_path / "run")
    bindings = ["classifier.multi_label=True", "finetune.class_balance=True"]
    bindings += ["optimizer.name='sgd'", "finetune.gradient_clip_norm=0.75"]
    bindings += ["finetune.evaluate_every=3", "classifier.modality='audio'"]
    assert command(gin_file, run_dir, *bindings) == 0
    found = lines(run_dir)
    assert {"mAP", "mean_auc", "d_prime_mean"} <= set(found[-1]) and "top1" not in found[-1]


@pytest.mark.check
def test_patience_stops_the_run(gin_file, tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    bindings = ["finetune.evaluate_every=1", "finetune.patience=2", "STEPS=50"]
    assert command(gin_file, run_dir, *bindings, "learning_rate.peak=0.0") == 0
    assert [line["step"] for line in lines(run_dir) if line["kind"] == "eval"] == [1, 2, 3]
    assert "stopped after step 3: no evaluation was better" in capsys.readouterr().err
    assert command(gin_file, run_dir, *bindings, "learning_rate.peak=0.0") == 0  # stays stopped
    assert [line["step"] for line in lines(run_dir) if line["kind"] == "eval"] == [1, 2, 3]


def test_fused_towers(gin_file, tmp_path):
    run_dir = str(tmp_path / "run")
    bindings = ["finetune.model=@multimodal_classifier()", "STEPS=2", "finetune.mixup_alpha=1.0"]
    bindings += ["multimodal_classifier.fusion='average'", "finetune.evaluate_every=2"]
    assert command(gin_file, run_dir, *bindings) == 0
    assert load_classifier(run_dir).model.config.modalities == ("video", "audio")


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["classifier.num_classes=4"], "classifier.num_classes"),
        (["finetune.label_smoothing=1.0"], "finetune.label_smoothing=1.0: expected a number"),
        (["finetune.patience=2"], "set finetune.evaluate_every"),
        (["EVAL_DATA=%TRAIN_DATA"], "video_0.mp4"),
        (["INITIAL_WEIGHTS='nowhere'"], "nowhere: no such folder"),
        (["train.steps=3"], "sets both train.* and finetune.*"),
        (["finetune.labels='none.txt'"], "the label file none.txt cannot be read"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(gin_file, tmp_path, capsys, bindings, message):
    run_dir = tmp_path / "run"
    assert command(gin_file, str(run_dir), *bindings) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not os.path.exists(run_dir)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("dark\nbright\n", "'grey'"),
        ("dark\ngrey\nbright\nblinding\n", "blinding"),
        ("dark\n", "dark"),
    ],
)
def test_labels_that_do_not_fit_the_data(gin_file, tmp_path, capsys, names, message):
    labels = tmp_path / "labels.txt"
    labels.write_text(names)
    assert command(gin_file, str(tmp_path / "run"), f"finetune.labels='{labels}'") == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_dry_run_trains_nothing(gin_file, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert command(gin_file, str(run_dir), flags=["--dry_run"]) == 0
    output = capsys.readouterr().out
    assert not run_dir.exists()
    for part in ("parameters", "video", "memory", "adamw"):
        assert part in output


def test_other_classes_are_refused_always(gin_file, labelled, tmp_path, capsys):
    """The label file is another one of the same name; the run is not finished."""
    labels = tmp_path / "classes.txt"
    shutil.copy(labelled / "classes.txt", labels)
    arguments = (gin_file, tmp_path / "run", f"finetune.labels='{labels}'")
    assert command(*arguments, flags=["--stop_at_step=1"]) == 0
    before = digests(tmp_path / "run")
    for names, told in (
        (["dark", "gray", "bright"], "gray new, grey gone"),
        (["grey", "dark", "bright"], "class 0 was dark, is grey"),
        (["dark", "grey", "bright", "blue"], "blue new, none gone"),
        (["dark", "bright"], "none new, grey gone"),
    ):
        labels.write_text("\n".join(names) + "\n")
        for flags in ([], ["--continue_on_new_data"]):
            assert command(*arguments, flags=flags) == 2
            assert told in capsys.readouterr().err
    assert digests(tmp_path / "run") == before
