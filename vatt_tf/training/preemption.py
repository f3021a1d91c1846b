"""SIGTERM, which a scheduler sends before it takes the machine away: save and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import orbit

from vatt_tf.errors import Interrupted

_STOPPED = "stopped on SIGTERM; the same command continues the run"


class Preemption:
    """Context in which SIGTERM asks the run to save and stop, instead of killing it.

    While steps run the trainer asks ``requested`` after each of them: a step is never cut in two.
    Whatever else goes on (start-up, evaluation) ends at once. So does a run that gets the signal a
    second time; a save that it falls into leaves nothing half-written.
    """

    def __init__(self) -> None:
        self.requested = False
        self._between_steps = False
        self._before: Any = None

    def __enter__(self) -> Preemption:
        # Python lets no other thread set handlers.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._asked)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    @contextlib.contextmanager
    def between_steps(self, wait: bool = True) -> Iterator[None]:
        """Whether the signal waits for the end of a step."""
        before, self._between_steps = self._between_steps, wait
        try:
            if self.requested and not wait:  # it came in the step before
                raise Interrupted(_STOPPED)
            yield
        finally:
            self._between_steps = before

    def _asked(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again:
            raise SystemExit(Interrupted.exit_code)
        if not self._between_steps:
            raise Interrupted(_STOPPED)


class InterruptibleEvaluator(orbit.AbstractEvaluator):
    """An evaluator that SIGTERM ends at once: an evaluation can be repeated."""

    def __init__(self, evaluator: orbit.AbstractEvaluator, preemption: Preemption) -> None:
        self._evaluator, self._preemption = evaluator, preemption

    def evaluate(self, num_steps: Any) -> Any:
        """See ``orbit.AbstractEvaluator``."""
        with self._preemption.between_steps(False):
            return self._evaluator.evaluate(num_steps)
