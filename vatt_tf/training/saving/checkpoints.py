"""Checkpoints to resume from: every variable by its path, on one or several workers.

``tf.train.Checkpoint`` follows attributes of Keras layers and silently skips what it cannot follow
(lists, dicts, seeds); here the variables themselves are listed, so nothing can be left out.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from google.protobuf import text_format

from vatt_tf import paths
from vatt_tf.atomic import write_text
from vatt_tf.errors import UserError
from vatt_tf.models.io import CHECKPOINTS, model_variables, newest_checkpoint


def named_variables(variables: Iterable[Any]) -> dict[str, tf.Variable]:
    """Path -> underlying ``tf.Variable``; an index in front makes equal paths unique."""
    return {f"{index:04d}:{v.path}": v.value for index, v in enumerate(variables)}


class RunCheckpointManager(tf.train.CheckpointManager):
    """Saves and restores ``{model, optimizer, step}`` below ``<run_dir>/checkpoints``.

    Under several workers everyone has to take part in a save, but only the chief's files are kept,
    and everyone restores the chief's.

    Args:
        run_dir: Folder of the run.
        model: Built model.
        optimizer: Built optimizer.
        step: Global step.
        own_folder: Where this process writes: ``run_dir`` for the chief.
        every: Steps between checkpoints, counted from step 0.
        minutes: Minutes from a checkpoint to the next one that is due by time; 0 for none.
        max_to_keep: The newest checkpoints that are kept, whatever they were written for.
        clock: Seconds from any origin.
    """

    def __init__(
        self,
        run_dir: str,
        model: Any,
        optimizer: Any,
        step: tf.Variable,
        *,
        own_folder: str,
        every: int,
        minutes: float,
        max_to_keep: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = os.path.join(run_dir, CHECKPOINTS)
        own = os.path.join(own_folder, CHECKPOINTS)
        checkpoint = tf.train.Checkpoint(
            model=model_variables(model),
            optimizer=named_variables(optimizer.variables),
            step=step,
        )
        _remove_partial(own)
        super().__init__(
            checkpoint,
            own,
            step_counter=step,
            # Orbit saves only where an interval is set.
            checkpoint_interval=every,
            max_to_keep=None,
        )
        self._keep = max_to_keep
        self._seconds, self._clock = minutes * 60, clock
        self._saved_step, self._saved_at = -1, clock()

    def due(self) -> bool:
        """Whether the newest checkpoint is older than ``minutes``."""
        return 0 < self._seconds <= self._clock() - self._saved_at

    def save(
        self, checkpoint_number: Any = None, check_interval: bool = True, options: Any = None
    ) -> str | None:
        """Saves the present step, unless it is saved; with ``check_interval`` every so many steps.

        The base class counts from the last checkpoint: one by time would shift all that follow.
        """
        step = int(self._step_counter.numpy())
        if step == self._saved_step or (check_interval and step % self.checkpoint_interval):
            return None
        path = super().save(checkpoint_number=step, check_interval=False, options=options)
        self._saved_step, self._saved_at = step, self._clock()
        self._remove_old()
        return path

    def save_now(self) -> None:
        """Saves the present step, however soon after the last checkpoint, unless it is saved."""
        self.save(check_interval=False)

    def restore_or_initialize(self) -> str | None:
        """Restores the chief's newest checkpoint; every variable must be in it.

        Raises:
            UserError: If the checkpoint belongs to another model.
        """
        path = newest_checkpoint(self._shared)
        if path is None:
            return None
        try:
            with paths.readable_by_tensorflow(path) as readable:
                self.checkpoint.restore(readable).assert_consumed()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{path}: does not fit the configured model ({reason}); "
                "use the configuration of that run or another --run_dir"
            ) from error
        # Equal on all workers, because a save is collective, whatever is in their own folders.
        self._saved_step = int(self._step_counter.numpy())
        return path

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that are listed and there, oldest first."""
        state = tf.train.get_checkpoint_state(self.directory)
        names = [] if state is None else map(os.path.basename, state.all_model_checkpoint_paths)
        prefixes = [os.path.join(self.directory, name) for name in names]
        return [prefix for prefix in prefixes if os.path.exists(f"{prefix}.index")]

    def _remove_old(self) -> None:
        """Deletes the checkpoints beyond ``max_to_keep``, oldest first."""
        # TensorFlow's own takes the folder for a pattern: it deletes nothing in ``a[1]``, and in
        # the run beside it, ``a1``, the checkpoints of the same steps.
        listed = self.checkpoints
        old, kept = listed[: -self._keep], listed[-self._keep :]
        for prefix in old:
            for path in reversed(paths.checkpoint_files(prefix)):  # the index first
                os.unlink(path)
        state = tf.train.get_checkpoint_state(self.directory)
        if old and state is not None:
            del state.all_model_checkpoint_paths[:]
            state.all_model_checkpoint_paths.extend(map(os.path.basename, kept))
            state.model_checkpoint_path = os.path.basename(state.model_checkpoint_path)
            write_text(
                os.path.join(self.directory, "checkpoint"), text_format.MessageToString(state)
            )


def _remove_partial(folder: str) -> None:
    """Removes partial files of an interrupted save; TensorFlow never does."""
    for path in glob.glob(os.path.join(glob.escape(folder), "ckpt-*_temp")):
        shutil.rmtree(path, ignore_errors=True)
