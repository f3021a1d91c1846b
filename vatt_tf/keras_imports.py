"""Imports Keras without its optional libraries, which no command needs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

# Wrappers for scikit-learn, pictures of datasets, frames of pandas as inputs.
_LEFT_OUT = ("cv2", "matplotlib", "pandas", "sklearn")


def import_lean(*packages: str) -> None:
    """Imports packages as if these libraries were not installed; who imports them later has them.

    For a process that is the package's own, before other threads run: docs/measurements/speed.md
    has what it saves.
    """
    modules: dict[str, Any] = sys.modules
    hidden = [library for library in _LEFT_OUT if library not in modules]
    modules.update(dict.fromkeys(hidden))  # In Python's reference, None: there is no such module.
    try:
        for package in packages:
            importlib.import_module(package)
    finally:
        for library in hidden:
            del modules[library]
