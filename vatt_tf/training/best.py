"""The best weights of a run, and when to stop because they get no better."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from vatt_tf.models.io import DESCRIPTION, read_description

FOLDER = "best"


class EarlyStop(Exception):
    """The evaluations have not become better for long enough; not an error."""


class BestWeights:
    """Keeps the weights of the best evaluation in ``<run_dir>/best``.

    The folder is a weights folder like any other. All that is known of earlier evaluations is
    read from it, so that a resumed run decides as an uninterrupted one would.

    Args:
        run_dir: Folder of the run.
        save: Writes a new weights folder: ``save(folder, step=..., score=...)``; ``None`` for
            workers that only have to decide as the chief does.
        evaluate_every: Steps between evaluations.
        patience: Evaluations without a better one after which to stop; 0: never.
    """

    def __init__(
        self, run_dir: str, save: Callable[..., None] | None, evaluate_every: int, patience: int = 0
    ) -> None:
        self._folder = os.path.join(run_dir, FOLDER)
        self._save = save
        self._every = evaluate_every
        self._patience = patience
        self.step, self.score = 0, float("-inf")

    def restore(self, step: int, evaluated: int | None = None) -> None:
        """Takes up what the folder says, for a run that continues after ``step``.

        Args:
            step: Step of the checkpoint.
            evaluated: Step of the last evaluation that is finished; ``step`` by default.

        Raises:
            EarlyStop: If the run had stopped already.
        """
        old = f"{self._folder}.old"
        if self._save and os.path.exists(old) and not os.path.exists(self._folder):
            os.rename(old, self._folder)  # Killed between the two renames below.
        if os.path.exists(os.path.join(self._folder, DESCRIPTION)):
            known: dict[str, Any] = read_description(self._folder)
            # A later evaluation will be repeated, with the same result.
            if known["step"] <= step:
                self.step, self.score = known["step"], known["score"]
        self._check_patience(step if evaluated is None else evaluated)

    def update(self, step: int, score: float) -> bool:
        """Takes an evaluation; keeps the weights if it is the best one. Returns whether it is.

        Raises:
            EarlyStop: If the last ``patience`` evaluations were no better.
        """
        if score > self.score:
            self.step, self.score = step, score
            if self._save is not None:
                self._replace(self._save)
            return True
        self._check_patience(step)
        return False

    def _replace(self, save: Callable[..., None]) -> None:
        temporary, old = f"{self._folder}.new", f"{self._folder}.old"
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        save(temporary, step=self.step, score=self.score)
        if os.path.exists(self._folder):
            os.rename(self._folder, old)
        os.rename(temporary, self._folder)
        shutil.rmtree(old, ignore_errors=True)

    def _check_patience(self, step: int) -> None:
        if self._patience and self.step and step - self.step >= self._patience * self._every:
            raise EarlyStop(
                f"stopped after step {step}: no evaluation was better than that after step "
                f"{self.step} ({self.score:.4f})"
            )
