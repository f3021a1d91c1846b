"""Best weights of a run and early stopping."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from vatt_tf.models.io import DESCRIPTION, read_description
from vatt_tf.output_folder import replace_folder, restore_folder
from vatt_tf.wording import percent

FOLDER = "best"


class EarlyStop(Exception):
    """Raised when evaluations have not improved for ``patience`` evaluations; not an error."""


class BestWeights:
    """Keeps the weights of the best evaluation in ``<run_dir>/best``.

    The folder is a weights folder like any other. It holds all state of earlier
    evaluations, so that a resumed run decides as an uninterrupted one.

    Args:
        run_dir: Folder of the run.
        save: Writes a new weights folder: ``save(folder, step=..., score=...)``; ``None`` for
            workers that only have to decide as the chief does.
        evaluate_every: Steps between evaluations.
        patience: Evaluations without a better one after which to stop; 0: never.
        measured: What the scores belong to, see :meth:`vatt_tf.training.tasks.task.Task.measured`.
    """

    def __init__(
        self,
        run_dir: str,
        save: Callable[..., None] | None,
        evaluate_every: int,
        patience: int = 0,
        measured: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = os.path.join(run_dir, FOLDER)
        self._save = save
        self._every = evaluate_every
        self._patience = patience
        self._measured = dict(measured or {})
        self.step, self.score = 0, float("-inf")

    def restore(self, step: int, evaluated: int | None = None) -> str:
        """Restores step and score of the best evaluation for a run that resumes after ``step``.

        A score of other data, windows or another metric says nothing of those of now: then a new
        record begins, and the first evaluation takes the place of the old best one.

        Args:
            step: Step of the checkpoint.
            evaluated: Step of the last evaluation that is finished; ``step`` by default.

        Returns:
            A note for the user where a new record begins, else "".

        Raises:
            EarlyStop: If the run has stopped early before.
        """
        if self._save:
            restore_folder(self._folder)
            earlier = f"{self._folder}.old"  # what a kill left of an earlier version's folder
            if os.path.exists(os.path.join(earlier, DESCRIPTION)) and not os.path.exists(
                self._folder
            ):
                os.rename(earlier, self._folder)
        if os.path.exists(os.path.join(self._folder, DESCRIPTION)):
            known: dict[str, Any] = read_description(self._folder)
            # A later evaluation will be repeated, with the same result.
            if known["step"] <= step and (other := self._other_than(known)):
                return (
                    f"the best score of before, {percent(known['score'])} after step "
                    f"{known['step']}, belongs to {other}: a new record of the best begins"
                )
            if known["step"] <= step:
                self.step, self.score = known["step"], known["score"]
        self._check_patience(step if evaluated is None else evaluated)
        return ""

    def _other_than(self, known: Mapping[str, Any]) -> str:
        """Data, windows or metric of the score in a ``best`` folder if now others are measured."""
        # Runs of before have kept the name of the data only.
        before = known.get("measured") or {
            name: known[name] for name in ("eval_data",) if name in known
        }
        names = [name for name in self._measured if name != "eval_data" or "data" not in before]
        other = [n for n in names if n in before and before[n] != self._measured[n]]
        data = f"other evaluation data ({known.get('eval_data')}, as they were)"
        return " and ".join(
            data if name in ("data", "eval_data") else f"{name} {before[name]}" for name in other
        )

    def update(self, step: int, score: float) -> bool:
        """Saves the weights if the evaluation is the best one; returns whether it is.

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
        temporary = os.path.join(os.path.dirname(self._folder), f".{FOLDER}.new")
        shutil.rmtree(temporary, ignore_errors=True)  # a kill came before it got its name
        save(temporary, step=self.step, score=self.score, measured=self._measured)
        replace_folder(temporary, self._folder)

    def _check_patience(self, step: int) -> None:
        if self._patience and self.step and step - self.step >= self._patience * self._every:
            raise EarlyStop(
                f"stopped after step {step}: no evaluation was better than that after step "
                f"{self.step} ({percent(self.score)})"
            )
