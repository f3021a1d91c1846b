"""Checkpoints in folders whose names TensorFlow would take for patterns."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.test_run import command
from vatt_tf import train
from vatt_tf.evaluation.collect.embeddings import run_step
from vatt_tf.evaluation.report.run_info import read_run
from vatt_tf.models.io import newest_checkpoint
from vatt_tf.training.saving.checkpoints import RunCheckpointManager

NAMES = ("tr [2]", "tr*", "tr?", "tr\\2", "~", "caf\udce9")


def manager(run_dir, keep=2):
    model = keras.Sequential([keras.layers.Dense(2, name="dense")], name="model")
    model.build((None, 3))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, name="sgd")
    optimizer.build(model.trainable_variables)
    step = tf.Variable(0, dtype=tf.int64)
    return model, RunCheckpointManager(
        str(run_dir),
        model,
        optimizer,
        step,
        own_folder=str(run_dir),
        every=1,
        minutes=0,
        max_to_keep=keep,
    )


def save(checkpoints, model, step):
    model.weights[0].assign(np.full((3, 2), step))
    checkpoints._step_counter = checkpoints.checkpoint.step
    checkpoints.checkpoint.step.assign(step)
    return checkpoints.save(checkpoint_number=step)


def held(run_dir):
    return sorted(name for name in os.listdir(run_dir / "checkpoints") if name.endswith(".index"))


@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_newest_is_found_and_restored_and_the_oldest_deleted(tmp_path, name):
    model, checkpoints = manager(tmp_path / name)
    for step in (1, 2, 3):
        save(checkpoints, model, step)
    folder = tmp_path / name / "checkpoints"
    assert held(tmp_path / name) == ["ckpt-2.index", "ckpt-3.index"]
    assert len(list(folder.iterdir())) == 5  # a data file each, and "checkpoint"
    assert newest_checkpoint(folder) == str(folder / "ckpt-3")
    other, again = manager(tmp_path / name)
    assert again.restore_or_initialize() == str(folder / "ckpt-3")
    assert np.array(other.weights[0]).tolist() == [[3, 3]] * 3
    assert again.checkpoints == checkpoints.checkpoints
    assert run_step(tmp_path / name) == 3
    assert read_run(tmp_path / name).parameters == 8


def test_the_checkpoints_of_another_run_are_left_alone(tmp_path):
    for name in ("tr 2", "tr [2]", "tr*"):
        model, checkpoints = manager(tmp_path / name)
        save(checkpoints, model, 1)
    for name in ("tr [2]", "tr*"):
        model, checkpoints = manager(tmp_path / name)
        for step in (2, 3):
            save(checkpoints, model, step)
        assert held(tmp_path / name) == ["ckpt-2.index", "ckpt-3.index"]
    assert held(tmp_path / "tr 2") == ["ckpt-1.index"]
    # What is saved there has the same name, which is no reason to restore it.
    os.unlink(tmp_path / "tr [2]" / "checkpoints" / "ckpt-3.index")
    assert newest_checkpoint(tmp_path / "tr [2]" / "checkpoints") is None
    assert run_step(tmp_path / "tr [2]") is None


def test_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "a[1]") is None
    (tmp_path / "caf\udce9").mkdir()
    assert newest_checkpoint(tmp_path / "caf\udce9") is None


def test_a_run_directory_in_other_bytes_is_one_line(gin_file, tmp_path, capsys):
    assert command(gin_file, tmp_path / "caf\udce9", "STEPS=1") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "caf\\xe9" in error and "not valid UTF-8" in error


def test_the_home_folder_is_no_folder_called_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    flags = train.parser().parse_args(["--gin_file=~/a.gin", "--gin_file=b.gin", "--run_dir=~/r"])
    assert flags.gin_file == [f"{tmp_path}/home/a.gin", "b.gin"]
    assert flags.run_dir == f"{tmp_path}/home/r"
