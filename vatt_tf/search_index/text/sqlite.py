"""Imports Python's ``sqlite3`` with the system's SQLite, also after TensorFlow.

TensorFlow contains an SQLite without FTS5 and makes its symbols global. A ``sqlite3`` that is
imported after it would call that one, and find "no such module: fts5".
"""

from __future__ import annotations

import os
import sys

_flags = sys.getdlopenflags() if hasattr(sys, "getdlopenflags") else None
if _flags is not None:
    # The module's own libraries come before the global symbols.
    sys.setdlopenflags(_flags | getattr(os, "RTLD_DEEPBIND", 0))
try:
    import sqlite3
finally:
    if _flags is not None:
        sys.setdlopenflags(_flags)

__all__ = ["sqlite3"]
