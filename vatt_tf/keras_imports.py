"""Imports Keras without its optional libraries, which no command needs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

# Wrappers for scikit-learn, pictures of datasets, frames of pandas as inputs.
_LEFT_OUT = ("cv2", "matplotlib", "pandas", "sklearn")

_own_process = False


def own_process() -> None:
    """Marks the process as one that runs a command, where no other code needs all of Keras."""
    global _own_process
    _own_process = True


def import_lean(*packages: str) -> None:
    """Imports packages as if these libraries were not installed; who imports them later has them.

    In the package's own process alone, where a command has checked what it can without Keras:
    docs/measurements/speed.md has what it saves.
    """
    if not _own_process:
        return
    modules: dict[str, Any] = sys.modules
    hidden = [library for library in _LEFT_OUT if library not in modules]
    modules.update(dict.fromkeys(hidden))  # In Python's reference, None: there is no such module.
    try:
        for package in packages:
            importlib.import_module(package)
    finally:
        for library in hidden:
            del modules[library]
