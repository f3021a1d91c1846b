"""SIGTERM: the run saves, ends with its own exit code, and goes on as if nothing had been."""

import os
import signal

import pytest

from tests.training.test_run import assert_same_checkpoints, command
from vatt_tf.errors import Interrupted
from vatt_tf.models.io import CHECKPOINTS
from vatt_tf.training.evaluator import RetrievalEvaluator
from vatt_tf.training.preemption import Preemption
from vatt_tf.training.pretrain import Pretraining
from vatt_tf.training.watch import Watch


def asked():
    os.kill(os.getpid(), signal.SIGTERM)


def before(method, wanted=lambda *arguments: True):
    """The method, with a SIGTERM in front of the calls that are wanted."""

    def called(*arguments):
        if wanted(*arguments):
            asked()
        return method(*arguments)

    return called


def test_stops_behind_a_step_and_continues_bit_equal(gin_file, tmp_path, capsys, monkeypatch):
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert command(gin_file, whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "step", before(Watch.step, lambda watch, step, *_: step == 3))
        # The signal comes behind step 3; the trainer looks again behind the next one.
        assert command(gin_file, parts) == Interrupted.exit_code == 75
    assert "stopped after step 4 on SIGTERM; the state is saved" in capsys.readouterr().err
    assert os.path.exists(f"{parts}/{CHECKPOINTS}/ckpt-4.index")
    assert not os.path.exists(f"{parts}/model.weights.h5")
    assert command(gin_file, parts) == 0
    assert_same_checkpoints(whole, parts)


def test_an_evaluation_ends_at_once(gin_file, tmp_path, monkeypatch):
    run_dir = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(RetrievalEvaluator, "evaluate", before(lambda *_: pytest.fail("went on")))
        assert command(gin_file, run_dir, "train.evaluate_every=2") == 75
    assert os.path.exists(f"{run_dir}/{CHECKPOINTS}/ckpt-2.index")
    assert command(gin_file, run_dir, "train.evaluate_every=2") == 0


def test_before_the_first_step_there_is_nothing_to_save(gin_file, tmp_path, monkeypatch):
    run_dir = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "model", before(lambda *_: pytest.fail("went on")))
        assert command(gin_file, run_dir) == 75
    assert not os.path.exists(run_dir)


def test_a_second_signal_does_not_wait():
    handler = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption, preemption.between_steps():
        asked()
        assert preemption.requested
        with pytest.raises(Interrupted), preemption.between_steps(False):
            pytest.fail("an evaluation began")
        with pytest.raises(SystemExit) as stop:
            asked()
    assert stop.value.code == 75
    assert signal.getsignal(signal.SIGTERM) is handler
