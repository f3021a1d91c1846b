"""Imports Keras without its optional libraries, which no command needs."""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any

# Wrappers for scikit-learn, pictures of datasets, frames of pandas as inputs.
_LEFT_OUT = frozenset({"cv2", "matplotlib", "pandas", "sklearn"})
# Keras 2 comes with orbit.
_KERAS = frozenset({"keras", "tf_keras"})


class _Refusal(importlib.abc.MetaPathFinder):
    """Import hook that hides the libraries from Keras alone."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in _LEFT_OUT and _importer().partition(".")[0] in _KERAS:
            raise ModuleNotFoundError(f"{fullname} is left out of Keras", name=fullname)


def _importer() -> str:
    """Name of the module whose ``import`` is being carried out."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("importlib."):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "")


def leave_out() -> None:
    """Makes later imports of Keras leave the libraries out.

    For a process that is the package's own: a third of the time that TensorFlow's import takes, and
    0.2 GB. All other modules import them as ever.
    """
    if not any(isinstance(finder, _Refusal) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Refusal())
