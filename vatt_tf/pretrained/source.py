"""Reader of TensorFlow checkpoints: named arrays, and errors that name the file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import weakref

import numpy as np
import tensorflow as tf

from vatt_tf import paths
from vatt_tf.errors import UserError
from vatt_tf.wording import count_of

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def find_prefix(path: str) -> str:
    """Finds the prefix of a checkpoint.

    Args:
        path: The prefix (``.../ckpt-500000``), its ``.index`` or a ``.data-*`` file, or a folder:
            then the checkpoint that its ``checkpoint`` file names, or else the only one in it.

    Raises:
        UserError: If there is none, or a folder holds several and no state file.
    """
    if os.path.isdir(path):
        return _in_folder(path)
    prefix = re.sub(r"\.(index|data-\d{5}-of-\d{5})$", "", path)
    if not os.path.isfile(f"{prefix}.index"):
        parent = os.path.dirname(prefix) or "."
        near = [name for name in paths.list_names(parent) if name.endswith(".index")]
        found = f"its folder holds {', '.join(near)}" if near else "no checkpoint in its folder"
        raise UserError(
            f"{path}: no such checkpoint ({prefix}.index is not there; {found}). Give the path "
            "without .index and .data-..., or the folder"
        )
    return prefix


def _in_folder(folder: str) -> str:
    names = [n.removesuffix(".index") for n in paths.list_names(folder) if n.endswith(".index")]
    if not names:
        raise UserError(f"{folder}: holds no checkpoint (no file *.index)")
    if len(names) > 1:
        # The state file may hold the absolute path of another machine: only the name counts.
        try:
            with open(os.path.join(folder, "checkpoint"), encoding="utf-8") as file:
                match = re.search(r'^model_checkpoint_path: "([^"]*)"', file.read(), re.MULTILINE)
        except FileNotFoundError:
            match = None
        named = os.path.basename(match.group(1)) if match else None
        if named not in names:
            raise UserError(
                f"{folder}: holds several checkpoints ({', '.join(names)}); name one of them"
            )
        names = [named]
    return os.path.join(folder, names[0])


class SourceCheckpoint:
    """Names, shapes and values of a checkpoint's variables.

    Args:
        path: See :func:`find_prefix`.

    Attributes:
        licence: Of the weights.
        prefix: The checkpoint's prefix.
        shapes: Shape of every variable, by its key without ``/.ATTRIBUTES/VARIABLE_VALUE``.

    Raises:
        UserError: If there is no such checkpoint, or a file is missing or damaged.
    """

    licence = (
        "The code of VATT is published under Apache-2.0; no separate licence for the weights is "
        "stated beside it. Clear this with the publisher before passing the weights on."
    )

    def __init__(self, path: str) -> None:
        self.prefix = find_prefix(path)
        self._check_files()
        links = contextlib.ExitStack()
        weakref.finalize(self, links.close)  # the reader opens the data files later
        readable = links.enter_context(paths.readable_by_tensorflow(self.prefix))
        try:
            self._reader = tf.train.load_checkpoint(readable)
            shapes = self._reader.get_variable_to_shape_map()
        except (ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"{self.prefix}.index: not a readable TensorFlow checkpoint ({error})"
            ) from error
        self.shapes = {key.removesuffix(SUFFIX): tuple(shapes[key]) for key in sorted(shapes)}

    @property
    def files(self) -> list[str]:
        """Index file and data files."""
        *data, index = paths.checkpoint_files(self.prefix)
        return [index, *data]

    def _check_files(self) -> None:
        parts = self.files[1:]
        count = int(parts[0].rsplit("-", 1)[1]) if parts else 1
        for number in range(count):
            part = f"{self.prefix}.data-{number:05d}-of-{count:05d}"
            if not os.path.isfile(part):
                raise UserError(f"{part}: not there; a checkpoint needs its index and data files")

    def read(self, key: str) -> np.ndarray:
        """Reads the value of a variable.

        Raises:
            UserError: If it cannot be read, is not floating point or holds NaN or infinity.
        """
        try:
            value = self._reader.get_tensor(key + SUFFIX)
        except (ValueError, tf.errors.OpError, RuntimeError, IndexError) as error:
            sizes = ", ".join(
                f"{os.path.basename(f)} {os.path.getsize(f):,} bytes" for f in self.files
            )
            raise UserError(
                f"{self.prefix}: cannot read {key}; a file is truncated or damaged ({sizes}): "
                f"download it again ({str(error).splitlines()[0][:160]})"
            ) from error
        if not np.issubdtype(value.dtype, np.floating):
            raise UserError(f"{self.prefix}: {key} is {value.dtype}, expected floating point")
        bad = int(np.size(value) - np.count_nonzero(np.isfinite(value)))
        if bad:
            raise UserError(
                f"{self.prefix}: {key} holds {count_of(bad, 'value')} of {np.size(value)} that "
                "are NaN or "
                "infinite: this checkpoint cannot be used"
            )
        return value

    def step(self) -> int:
        """Optimizer steps: the optimizer's own counter or the file's number, the larger one."""
        counter = 0
        if "optimizer/iter" in self.shapes:
            counter = int(self._reader.get_tensor(f"optimizer/iter{SUFFIX}"))
        number = re.search(r"-(\d+)$", self.prefix)
        return max(counter, int(number.group(1)) if number else 0)

    def checksums(self) -> dict[str, dict[str, str | int]]:
        """Size and SHA-256 of every file, by its name."""
        return {
            os.path.basename(path): {"bytes": os.path.getsize(path), "sha256": _sha256(path)}
            for path in self.files
        }


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
