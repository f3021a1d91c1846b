"""A value that holds for as long as a ``with`` lasts, in the thread that opened it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class ThreadValue(threading.local):
    """What layers are called in: a step says it once, around the model.

    Replica threads of one strategy each trace their own step, and each begins with the default.

    Args:
        default: The value outside of any ``with``.
    """

    def __init__(self, default: Any = None) -> None:
        self.value = default

    @contextlib.contextmanager
    def during(self, value: Any) -> Iterator[None]:
        """Sets the value for as long as it lasts; the innermost one counts."""
        outer, self.value = self.value, value
        try:
            yield
        finally:
            self.value = outer
