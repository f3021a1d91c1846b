"""Ctrl-C and SIGTERM: the run saves, ends with an exit code of its own, and goes on from there."""

import functools
import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from tests.conftest import CHECKOUT
from tests.training.conftest import WHOLE_RUN
from tests.training.test_run import assert_same_checkpoints, command, lines
from vatt_tf.errors import Interrupted
from vatt_tf.models.io import CHECKPOINTS
from vatt_tf.training import run, trainer
from vatt_tf.training.callbacks import Watch
from vatt_tf.training.cluster import preemption as preemption_module
from vatt_tf.training.cluster.preemption import Preemption, StopNow
from vatt_tf.training.saving.checkpoints import RunCheckpointManager
from vatt_tf.training.tasks.evaluator import RetrievalEvaluator
from vatt_tf.training.tasks.pretrain import Pretraining

GOES_ON = ": the same command goes on from there"
NOTHING_SAVED = "interrupted; no step was saved yet: the same command begins anew"


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a busy machine too, the process of the tests is not left for being slow to end."""
    monkeypatch.setattr(preemption_module, "_GRACE", 600.0)


def before(method, number):
    """The method, with a signal in front of it."""

    def called(*arguments):
        signal.raise_signal(number)
        return method(*arguments)

    return called


def last_line(text):
    return text.splitlines()[-1]


def saved_steps(run_dir):
    names = os.listdir(f"{run_dir}/{CHECKPOINTS}")
    return sorted(int(name[5:-6]) for name in names if name.endswith(".index"))


def evaluated_steps(run_dir):
    return [line["step"] for line in lines(run_dir) if line["kind"] == "eval"]


def test_crashed_and_interrupted_is_bit_equal(gin_file, whole_run, tmp_path, capsys, monkeypatch):
    """A run goes on from a checkpoint by time, from within an evaluation, and after Ctrl-C."""
    parts = str(tmp_path / "parts")
    assert saved_steps(whole_run) == [3, 6]
    minutes = "train.checkpoint_minutes"
    bindings = [binding for binding in WHOLE_RUN if not binding.startswith(minutes)]

    step_of = Watch.step
    clock = types.SimpleNamespace(seconds=0.0)
    manager = functools.partial(RunCheckpointManager, clock=lambda: clock.seconds)
    monkeypatch.setattr(run, "RunCheckpointManager", manager)
    monkeypatch.setattr(trainer, "_LONGEST_UNREAD", 0.0)  # what such slow steps lead to
    bindings.append(f"{minutes}=1")

    def go_on(crash=None, interrupt=None):
        """The command, with steps of 65 seconds; a signal after a step is seen after the next."""

        def step(watch, number, *rest):
            clock.seconds += 65
            step_of(watch, number, *rest)
            if number == crash:
                raise RuntimeError("a crash")
            if number == interrupt:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Watch, "step", step)
        return command(gin_file, parts, *bindings)

    with pytest.raises(RuntimeError, match="a crash"):
        go_on(crash=3)
    assert saved_steps(parts) == [2]

    with monkeypatch.context() as patch:
        went_on = before(lambda *_: pytest.fail("went on"), signal.SIGTERM)
        patch.setattr(RetrievalEvaluator, "evaluate", went_on)
        assert go_on() == 75
    error = capsys.readouterr().err
    assert f"{parts}: continues after step 2 of 6" in error
    assert last_line(error) == f"stopped on SIGTERM; saved at step 3{GOES_ON}"

    assert go_on(interrupt=4) == 130
    assert last_line(capsys.readouterr().err) == f"interrupted; saved at step 5{GOES_ON}"
    assert not os.path.exists(f"{parts}/model.weights.h5")

    assert go_on() == 0
    assert saved_steps(parts) == [2, 3, 5, 6]
    assert evaluated_steps(parts) == evaluated_steps(whole_run) == [3, 6]
    assert_same_checkpoints(whole_run, parts)


def test_before_the_first_step_there_is_nothing_to_save(gin_file, tmp_path, monkeypatch, capsys):
    run_dir = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        went_on = before(lambda *_: pytest.fail("went on"), signal.SIGINT)
        patch.setattr(Pretraining, "model", went_on)
        assert command(gin_file, run_dir) == 130
    assert not os.path.exists(run_dir)
    assert last_line(capsys.readouterr().err) == NOTHING_SAVED


def test_ctrl_c_while_tensorflow_is_imported(gin_file, tmp_path):
    """In a process of its own, which has no traceback to show."""
    script = f"""
import signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python.framework.ops":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from vatt_tf import train
sys.exit(train.main(["--gin_file={gin_file}", "--run_dir={tmp_path / "run"}"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr == f"{NOTHING_SAVED}\n"


@pytest.fixture
def left(monkeypatch):
    """What the process would have ended with at once, and an event for it."""
    found = types.SimpleNamespace(event=threading.Event())

    def leave(message, code):
        found.message, found.code = message, code
        found.event.set()

    monkeypatch.setattr(preemption_module, "leave", leave)
    return found


def test_a_second_signal_does_not_wait(left, tmp_path, capsys):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    (tmp_path / CHECKPOINTS).mkdir()
    state = 'model_checkpoint_path: "ckpt-12"\nall_model_checkpoint_paths: "ckpt-9"\n'
    (tmp_path / CHECKPOINTS / "checkpoint").write_text(state)
    with Preemption(str(tmp_path)) as preemption, preemption.between_steps():
        signal.raise_signal(signal.SIGINT)
        assert preemption.signal == signal.SIGINT
        with pytest.raises(Interrupted), preemption.between_steps(False):
            pytest.fail("an evaluation began")
        assert not left.event.is_set()
        signal.raise_signal(signal.SIGINT)
        assert left.event.wait(60)
    assert left.code == 130
    assert left.message == f"interrupted; saved at step 12{GOES_ON}"
    assert "Ctrl-C: saves after this step" in capsys.readouterr().err
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_a_main_thread_that_does_not_end_is_not_waited_for(left, monkeypatch):
    monkeypatch.setattr(preemption_module, "_GRACE", 0.01)
    with Preemption(None):
        with pytest.raises(StopNow):
            signal.raise_signal(signal.SIGTERM)
        assert left.event.wait(60)
    assert (left.message, left.code) == ("stopped on SIGTERM", 75)


def test_an_error_that_comes_of_the_signal_is_not_shown():
    with pytest.raises(Interrupted) as ended, Preemption(None):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
    assert ended.value.exit_code == 130 and str(ended.value) == "interrupted"


def test_an_ignored_ctrl_c_stays_ignored():
    """As in a shell's background."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Preemption(None) as preemption:
            signal.raise_signal(signal.SIGINT)
            assert preemption.signal is None
    finally:
        signal.signal(signal.SIGINT, handler)
