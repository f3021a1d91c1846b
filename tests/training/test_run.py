"""Whole runs through the command's main function, in this process."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.data.records import example, jpeg
from vatt_tf import config, paths, train
from vatt_tf.data.text.vocabulary import build_vocabulary
from vatt_tf.models.io import (
    load_pretrained,
    newest_checkpoint,
    read_description,
    update_description,
)


def command(gin_file, run_dir, *bindings, flags=()):
    config.clear()
    arguments = [f"--gin_file={gin_file}", f"--run_dir={run_dir}", *flags]
    return train.main([*arguments, *(f"--gin_bindings={binding}" for binding in bindings)])


def checkpoint_values(run_dir):
    newest = newest_checkpoint(f"{run_dir}/checkpoints")
    with paths.readable_by_tensorflow(newest) as prefix:
        reader = tf.train.load_checkpoint(prefix)
        return {
            key: reader.get_tensor(key)
            for key in reader.get_variable_to_shape_map()
            if "save_counter" not in key and not key.startswith("_CHECK")
        }


def assert_same_checkpoints(one, other):
    expected, actual = checkpoint_values(one), checkpoint_values(other)
    assert expected.keys() == actual.keys()
    for key in expected:
        np.testing.assert_array_equal(expected[key], actual[key], err_msg=key)


def lines(run_dir):
    with open(f"{run_dir}/metrics.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_a_run_leaves_what_the_contract_says(whole_run):
    names = set(os.listdir(whole_run))
    assert {
        "config.gin",
        "operative_config.gin",
        "model.json",
        "tokenizer",
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
        "model.weights.h5",
    } <= names
    found = lines(whole_run)
    assert [line["step"] for line in found if line["kind"] == "train"] == [2, 3, 4, 6]
    evaluations = [line for line in found if line["kind"] == "eval"]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert 0 <= evaluations[0]["text_to_video/R@1"] <= 1
    for key in ("loss", "loss/video_audio", "learning_rate", "gradient_norm", "clips_per_second"):
        assert np.isfinite(found[0][key])
    assert "step 6" in whole_run.with_suffix(".out").read_text()


@pytest.mark.check
@pytest.mark.parametrize("micro", [None, 2])
def test_interrupted_and_resumed_is_bit_equal(gin_file, tmp_path, capsys, micro):
    """With dropout, DropToken and augmentation on, through a save in the middle.

    TensorFlow would take the name of the second folder for a pattern.
    """
    bindings = [f"MICRO_BATCH_SIZE={micro}"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts [2]*")
    assert command(gin_file, whole, *bindings, flags=["--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert command(gin_file, parts, *bindings, flags=["--stop_at_step=2"]) == 0
    update_description(parts, score_calibration={"step": 2})
    assert command(gin_file, parts, *bindings) == 0
    assert read_description(parts)["score_calibration"] == {"step": 2}
    assert_same_checkpoints(whole, parts)
    losses = {line["step"]: line["loss"] for line in lines(whole)}
    assert {line["step"]: line["loss"] for line in lines(parts)} == losses


def test_every_weight_is_saved_and_loaded(whole_run, tmp_path):
    run_dir = str(shutil.copytree(whole_run, tmp_path / "run"))
    from_checkpoint, clip, tokenizer = load_pretrained(run_dir)
    values = {weight.path: np.array(weight) for weight in from_checkpoint.weights}
    stored = {key for key in checkpoint_values(run_dir) if key.startswith("model/")}
    assert len(stored) == len(values)
    for path in ("checkpoints",):  # the weights file alone must give the same model
        os.rename(f"{run_dir}/{path}", f"{run_dir}/{path}.moved")
    from_file, _, _ = load_pretrained(run_dir)
    for weight in from_file.weights:
        np.testing.assert_array_equal(values[weight.path], np.array(weight), err_msg=weight.path)
    assert (clip.frames, clip.samples, clip.tokens) == (4, 320, 6)
    assert tokenizer(tf.constant(["red circle"])).shape == (1, 6)


def test_another_configuration_in_the_same_folder_is_refused(gin_file, whole_run, tmp_path, capsys):
    run_dir = str(shutil.copytree(whole_run, tmp_path / "run"))
    assert command(gin_file, run_dir, "video_tower.d_model=16") == 2
    message = capsys.readouterr().err
    assert "video_tower.d_model: was 8, is 16" in message
    assert command(gin_file, run_dir, "train.log_every=1") == 0


def test_divergence_stops_names_the_records_and_keeps_the_last_good_state(
    gin_file, tmp_path, capsys
):
    run_dir = str(tmp_path / "run")
    assert (
        command(gin_file, run_dir, "learning_rate.peak=1e30", "learning_rate.warmup_steps=0") == 2
    )
    message = capsys.readouterr().err
    assert "is not finite" in message and "record" in message and ".tfrecord" in message
    for key, value in checkpoint_values(run_dir).items():
        assert np.all(np.isfinite(value)), key


def test_a_damaged_record_is_left_out(gin_file, shards, tmp_path, capsys):
    data, run_dir = tmp_path / "shards", str(tmp_path / "run")
    shutil.copytree(shards, data)
    with tf.io.TFRecordWriter(str(data / "train" / "train-00001-of-00002.tfrecord")) as writer:
        for number in range(4):
            bad = b"\xff\xd8 no picture" if number == 2 else jpeg(90)
            writer.write(example(number, images=[bad] * 8, captions=["red circle"]))
    bindings = [f"TRAIN_DATA='{data}/train'", "train.log_every=3"]
    assert command(gin_file, run_dir, *bindings, "train.max_damaged_share=0.1") == 0
    assert all(np.isfinite(line["loss"]) for line in lines(run_dir))
    assert capsys.readouterr().err.count("warning: damaged record: ") == 1
    with open(f"{run_dir}/damaged_records.json", encoding="utf-8") as file:
        (entry,) = json.load(file)
    assert entry["file"].endswith("train-00001-of-00002.tfrecord") and entry["record"] == 2


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["TRAIN_DATA='nowhere'"], "python -m vatt_tf.prepare --sample --out=data/sample"),
        (["text_tower.vocab_size=8"], "raise it or make a smaller vocabulary"),
        (["train.tokenizer_file='none.txt'"], "none.txt"),
        (["MICRO_BATCH_SIZE=3"], "MICRO_BATCH_SIZE"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(gin_file, tmp_path, capsys, bindings, message):
    assert command(gin_file, str(tmp_path / "run"), *bindings) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_dry_run_trains_nothing(gin_file, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert command(gin_file, str(run_dir), flags=["--dry_run"]) == 0
    output = capsys.readouterr().out
    assert not run_dir.exists()
    for part in ("parameters", "FLOP in the paper's convention", "memory", "STEPS = 6"):
        assert part in output


@pytest.mark.check
def test_bfloat16_xla_and_sentencepiece_train(gin_file, shards, tmp_path):
    """SentencePiece tokenizers lose their resource when TensorFlow's seed is set after them."""
    import keras

    captions = ["red circle moves", "blue square turns"]
    build_vocabulary(captions * 20, tmp_path, ("sentencepiece",), 32)
    try:
        bindings = ["train.precision='mixed_bfloat16'", "STEPS=2", "train.jit_compile=True"]
        bindings += ["train.tokenizer='sentencepiece'"]
        bindings += [f"train.tokenizer_file='{tmp_path / 'sentencepiece.model'}'"]
        assert command(gin_file, str(tmp_path / "run"), *bindings) == 0
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(lines(tmp_path / "run")[-1]["loss"])


@pytest.mark.check
@pytest.mark.check
def test_word_vectors_are_loaded_and_stay_frozen(gin_file, shards, tmp_path, capsys):
    words = (shards / "tokenizer/words.txt").read_text().split()
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} " + " ".join(["0.25"] * 8) + "\n" for word in words[4:]))
    run_dir = tmp_path / "run"
    bindings = [f"train.word_vectors='{vectors}'", "text_tower.trainable_words=False", "STEPS=2"]
    assert command(gin_file, run_dir, *bindings) == 0
    assert f"no vector for 0 of {len(words)} words" in capsys.readouterr().out
    model, _, _ = load_pretrained(str(run_dir))
    table = np.asarray(model.tower("text").word_embedding.embeddings.value)
    np.testing.assert_array_equal(table[4 : len(words)], 0.25)
    np.testing.assert_array_equal(table[0], 0.0)  # padding
