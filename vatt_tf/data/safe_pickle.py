"""Pickles that may hold NumPy arrays and plain containers, and nothing that runs code."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

import numpy as np
from numpy._core import multiarray
from numpy._core.numeric import _frombuffer  # type: ignore[attr-defined]

from vatt_tf.errors import UserError


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as Python 2 protocols spell them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoding {encoding!r}")
    return text.encode("latin1")


# NumPy has moved its modules; files keep the old names.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): dict,
}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_module}.multiarray", "_reconstruct"] = multiarray._reconstruct
    _ALLOWED[f"{_module}.multiarray", "scalar"] = multiarray.scalar
    _ALLOWED[f"{_module}.numeric", "_frombuffer"] = _frombuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}; only NumPy arrays and plain containers are read"
            ) from None


def load(path: str | os.PathLike) -> Any:
    """Reads a pickle of arrays, numbers, strings, lists, tuples and dicts.

    Args:
        path: The file; text written by Python 2 is read as latin-1.

    Raises:
        UserError: If it is no pickle, is cut off, or asks for anything else.
    """
    with open(path, "rb") as file:
        content = io.BytesIO(file.read())
    try:
        return _Unpickler(content, encoding="latin1").load()
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError,
        AttributeError, ImportError, UnicodeDecodeError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise UserError(f"{os.fspath(path)}: not a readable pickle of arrays ({error})") from error
