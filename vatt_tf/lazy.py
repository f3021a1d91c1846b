"""Lazy imports of a package's names, so that commands start quickly."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def names(package: str, **modules: str) -> Callable[[str], Any]:
    """Returns a package's ``__getattr__``: ``__getattr__ = lazy.names(__name__, Client="client")``.

    Args:
        package: Name of the package.
        **modules: Name -> module below the package that defines it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package} has no attribute {name}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return get
