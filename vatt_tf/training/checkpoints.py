"""Checkpoints for resuming: every variable by its path, on one or on several workers.

``tf.train.Checkpoint`` follows attributes of Keras layers and silently skips what it cannot follow
(lists, dicts, seeds); here the variables themselves are listed, so nothing can be left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from vatt_tf import paths
from vatt_tf.errors import UserError
from vatt_tf.models.io import CHECKPOINTS, model_variables, newest_checkpoint


def named_variables(variables: Iterable[Any]) -> dict[str, tf.Variable]:
    """Path -> underlying ``tf.Variable``; an index keeps equal paths apart."""
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
        **kwargs: Of ``tf.train.CheckpointManager``.
    """

    def __init__(
        self,
        run_dir: str,
        model: Any,
        optimizer: Any,
        step: tf.Variable,
        *,
        own_folder: str,
        **kwargs: Any,
    ) -> None:
        self._shared = os.path.join(run_dir, CHECKPOINTS)
        own = os.path.join(own_folder, CHECKPOINTS)
        checkpoint = tf.train.Checkpoint(
            model=model_variables(model),
            optimizer=named_variables(optimizer.variables),
            step=step,
        )
        super().__init__(checkpoint, own, step_counter=step, **kwargs)

    def save_now(self) -> None:
        """Saves the present step, however soon after the last checkpoint, unless it is saved."""
        step = int(self._step_counter.numpy())
        if not (self.latest_checkpoint or "").endswith(f"-{step}"):
            self.save(checkpoint_number=step, check_interval=False)

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
        return path

    def _sweep(self) -> None:
        """Deletes the checkpoints beyond ``max_to_keep``, oldest first."""
        # TensorFlow's own takes the folder for a pattern: it deletes nothing in ``a[1]``, and in
        # the run beside it, ``a1``, the checkpoints of the same steps.
        while self._max_to_keep and len(self._maybe_delete) > self._max_to_keep:
            oldest, _ = self._maybe_delete.popitem(last=False)
            for file in reversed(paths.checkpoint_files(oldest)):  # the index first
                os.unlink(file)
