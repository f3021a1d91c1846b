"""Ctrl-C and SIGTERM: a run saves its state and ends. TensorFlow is not imported here."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from vatt_tf.errors import Interrupted
from vatt_tf.training.cluster.workers import leave

_SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
# Seconds in which the main thread ends by itself what need not be finished.
_GRACE = 5.0


class StopNow(KeyboardInterrupt):
    """Raised by the signal handler where nothing has to be finished first.

    Not an ``Exception``: libraries turn those that they meet into others, or swallow them.
    """


class Preemption:
    """Context in which Ctrl-C and SIGTERM make the run save its state and stop.

    While steps run the trainer reads ``signal`` before each of them: no step is interrupted.
    Whatever else goes on (start-up, evaluation) ends at once. So does a run that gets a second
    signal. What ends the context is raised as :class:`vatt_tf.errors.Interrupted`, with the step
    that the same command goes on from.

    A thread takes the signals as well: Python calls a handler only between two operations of the
    main thread, and one of TensorFlow's may take a minute.

    Args:
        run_dir: Folder of the run, for the message; ``None`` if nothing is saved.
    """

    def __init__(self, run_dir: str | None) -> None:
        self.signal: int | None = None
        self._run_dir = run_dir
        self._waits = False
        self._raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Preemption:
        # Python lets no other thread set handlers.
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        for number in _SIGNALS:
            # A shell without job control ignores Ctrl-C for what it runs in the background.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._asked) or signal.SIG_DFL
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restores the handlers.

        Raises:
            Interrupted: If a signal ended the run.
        """
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.write(self._write, b"\0")
            self._thread.join()
            os.close(self._read)
            os.close(self._write)
        # An import that StopNow cuts short may end with an error of its own.
        if isinstance(error, Interrupted) or (error is not None and self._raised):
            ended_by = error.number if isinstance(error, Interrupted) else self.signal
            assert ended_by is not None
            raise Interrupted(ended_by, self._state()) from None

    @contextlib.contextmanager
    def between_steps(self, wait: bool = True) -> Iterator[None]:
        """Sets whether a signal waits for the end of a step.

        Raises:
            Interrupted: If it does not wait, and one has come before.
        """
        before, self._waits = self._waits, wait
        try:
            if self.signal is not None and not wait:
                raise Interrupted(self.signal)
            yield
        except StopNow:
            assert self.signal is not None
            self._raised = False  # later errors are not consequences of the signal
            raise Interrupted(self.signal) from None
        finally:
            self._waits = before

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            if not self._waits:
                self._raised = True
                raise StopNow

    def _listen(self) -> None:
        """Reports the first signal and ends the process at the second one (own thread)."""
        first = 0
        patience: float | None = None
        while True:
            if not select.select([self._read], [], [], patience)[0]:
                if not self._waits:
                    leave(str(Interrupted(first, self._state())), Interrupted(first).exit_code)
                    return
                patience = None
                continue
            for number in os.read(self._read, 64):
                if not number:  # the context ends
                    return
                if number not in _SIGNALS:
                    continue
                if first:
                    leave(str(Interrupted(number, self._state())), Interrupted(number).exit_code)
                    return
                first = number
                if self._waits:
                    print(
                        f"\n{_SIGNALS[signal.Signals(number)]}: saves after this step and stops; "
                        "a second one stops at once",
                        file=sys.stderr,
                        flush=True,
                    )
                else:
                    patience = _GRACE

    def _state(self) -> str:
        return "" if self._run_dir is None else saved_state(self._run_dir)


def saved_state(run_dir: str) -> str:
    """Message about the newest complete checkpoint, from which the same command resumes."""
    try:
        with open(os.path.join(run_dir, "checkpoints", "checkpoint"), encoding="utf-8") as file:
            newest = re.search(r'^model_checkpoint_path: ".*?-(\d+)"', file.read(), re.MULTILINE)
    except OSError:
        newest = None
    if newest is None:
        return "no step was saved yet: the same command begins anew"
    return f"saved at step {newest[1]}: the same command goes on from there"
