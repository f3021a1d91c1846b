"""When checkpoints are written, which of them are kept, and what is left of a cut one."""

import os
import types

import keras
import pytest
import tensorflow as tf

from vatt_tf.training.saving.checkpoints import RunCheckpointManager


@pytest.fixture
def made(tmp_path):
    """A manager of a model with one weight, its step and its clock."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer, step = keras.optimizers.SGD(), tf.Variable(0, dtype=tf.int64)
    clock = types.SimpleNamespace(seconds=1e6)

    def make(minutes):
        return RunCheckpointManager(
            str(tmp_path),
            model,
            optimizer,
            step,
            own_folder=str(tmp_path),
            every=3,
            minutes=minutes,
            max_to_keep=2,
            clock=lambda: clock.seconds,
        )

    return types.SimpleNamespace(make=make, step=step, clock=clock, folder=tmp_path / "checkpoints")


def steps(made, manager, count):
    """Steps of 310 seconds, as trainer and orbit ask after each; returns those that are saved."""
    saved = []
    for _ in range(count):
        made.step.assign_add(1)
        made.clock.seconds += 310
        before = manager.latest_checkpoint
        if manager.due():
            manager.save_now()
        manager.save()
        if manager.latest_checkpoint != before:
            saved.append(int(made.step.numpy()))
    return saved


def test_a_checkpoint_by_time_shifts_none_by_steps(made):
    manager = made.make(minutes=10)
    assert steps(made, manager, 7) == [2, 3, 5, 6]
    names = [os.path.basename(path) for path in manager.checkpoints]
    assert names == ["ckpt-5", "ckpt-6"]  # the newest ones, whatever they were written for


def test_by_steps_alone(made):
    assert steps(made, made.make(minutes=0), 7) == [3, 6]


def test_a_step_is_saved_once(made):
    manager = made.make(minutes=0)
    steps(made, manager, 3)
    again = made.make(minutes=0)
    assert again.restore_or_initialize() == manager.latest_checkpoint
    assert again.save(check_interval=False) is None
    made.step.assign_add(1)
    assert again.save() is None
    assert again.save(check_interval=False).endswith("ckpt-4")


def test_what_a_cut_save_left_is_removed(made):
    manager = made.make(minutes=0)
    steps(made, manager, 3)
    partial = made.folder / "ckpt-4_temp"
    partial.mkdir()
    (partial / "part-00000-of-00001.data-00000-of-00001").write_text("half")
    kept = sorted(path.name for path in made.folder.iterdir() if path != partial)
    made.make(minutes=0)
    assert sorted(path.name for path in made.folder.iterdir()) == kept
