"""Reader of MMV's released files: named arrays, and errors that name the fault.

It is a pickle of ``{"params": {module: {name: array}}, "state": ...}`` with the modules of Haiku,
written by dill; nothing in it is run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vatt_tf.data.text import restricted_pickle
from vatt_tf.errors import UserError
from vatt_tf.pretrained import official_mmv_names as names
from vatt_tf.wording import count_of


def is_mmv_file(path: str) -> bool:
    """Whether a path is a pickle, by its name or content, and no file of TensorFlow's."""
    if re.search(r"\.(index|data-\d{5}-of-\d{5})$", path) or not os.path.isfile(path):
        return False
    return path.endswith((".pkl", ".pickle")) or restricted_pickle.is_pickle(path)


class MMVSource:
    """The arrays of a file by ``module/name`` below the model's own module.

    Args:
        path: The file.

    Attributes:
        licence: Of the weights.
        prefix: The file.
        shapes: Shape of every array.
        beside: Entries of the file beside ``params`` and ``state``.

    Raises:
        UserError: If the file cannot be read or is not of MMV's form.
    """

    licence = (
        "The weights of MMV are published under CC BY-NC 4.0, for non-commercial use only "
        "(https://creativecommons.org/licenses/by-nc/4.0/legalcode), and so are these; MMV's code "
        "is under Apache-2.0. Name the source: Alayrac et al., Self-Supervised MultiModal "
        "Versatile Networks, NeurIPS 2020."
    )

    def __init__(self, path: str) -> None:
        self.prefix = path
        content = restricted_pickle.load(path)
        if type(content) is not dict or not {"params", "state"} <= set(content):
            found = f"the entries {list(content)[:6]}" if type(content) is dict else "no dict"
            raise UserError(f"{path}: expected 'params' and 'state' as in MMV's files, got {found}")
        self.beside = [str(key) for key in content if key not in ("params", "state")]
        self._arrays: dict[str, np.ndarray] = {}
        for part in ("params", "state"):
            self._add(part, content[part])
        root = _root(self._arrays, path)
        self._arrays = {key.removeprefix(root): value for key, value in self._arrays.items()}
        self.shapes = {key: value.shape for key, value in sorted(self._arrays.items())}

    def _add(self, part: str, modules: Any) -> None:
        if type(modules) is not dict:
            raise UserError(f"{self.prefix}: {part!r} is a {type(modules).__name__}, not a dict")
        for module, arrays in modules.items():
            if type(arrays) is not dict:
                raise UserError(f"{self.prefix}: {part}, {module}: no dict of arrays")
            for name, value in arrays.items():
                key = f"{module}/{name}"
                if not isinstance(value, np.ndarray | np.generic) or key in self._arrays:
                    raise UserError(f"{self.prefix}: {part}, {key}: no array, or there twice")
                self._arrays[key] = np.asarray(value)

    def read(self, key: str) -> np.ndarray:
        """Reads an array of the file.

        Raises:
            UserError: If it is not floating point, not finite, or a negative variance.
        """
        value = self._arrays[key]
        if not np.issubdtype(value.dtype, np.floating):
            raise UserError(f"{self.prefix}: {key} is {value.dtype}, expected floating point")
        bad = int(value.size - np.count_nonzero(np.isfinite(value)))
        if bad:
            raise UserError(
                f"{self.prefix}: {key} holds {count_of(bad, 'value')} of {value.size} that are "
                "NaN or infinite"
            )
        if key.endswith("var_ema/average") and np.any(value < 0):
            raise UserError(f"{self.prefix}: {key} holds negative variances")
        return value

    def step(self) -> int:
        """Steps of the training, as counted by the moving averages.

        Raises:
            UserError: If one of them has counted no step, and so has no value.
        """
        counts = {key: int(self._arrays[key]) for key in self.shapes if key.endswith("ema/counter")}
        unused = [key for key, count in counts.items() if count < 1]
        if unused:
            raise UserError(f"{self.prefix}: {unused[0]} is {counts[unused[0]]}: never trained")
        return max(counts.values(), default=0)

    def checksums(self) -> dict[str, dict[str, str | int]]:
        """Size and SHA-256 of the file, by its name."""
        with open(self.prefix, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.path.getsize(self.prefix)
        return {os.path.basename(self.prefix): {"bytes": size, "sha256": digest}}


def _root(keys: Mapping[str, Any], source: str) -> str:
    """The name of the model's module with its slash, in front of all others."""
    found = next((key for key in keys if f"/{names.VISUAL}/" in f"/{key}"), None)
    if found is None:
        raise UserError(
            f"{source}: none of MMV's released nets; its modules are called "
            f"{', '.join(list(keys)[:3]) or 'nothing'} ..., expected one below {names.VISUAL}"
        )
    return found[: found.index(names.VISUAL)]
