"""Log lines of TensorFlow: shown only on request (``--verbosity``).

Imports no TensorFlow: the environment has to be set before it is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os

_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
# 3: nothing but fatal errors. TensorFlow raises its errors as Python exceptions, too.
QUIET = 3
# absl::SetMinLogLevel(absl::LogSeverityAtLeast) of the Abseil in TensorFlow 2.20.
_SET_MIN_LOG_LEVEL = "_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE"

_set_here: str | None = None


def limit(level: int = QUIET) -> bool:
    """Sets the least level of the lines that are shown, unless the user's environment has one.

    Args:
        level: 0 shows all lines, 1 warnings, 2 errors, 3 fatal errors only.

    Returns:
        Whether it was set here.
    """
    global _set_here
    if os.environ.get(_VARIABLE, _set_here) != _set_here:
        return False
    os.environ[_VARIABLE] = _set_here = str(level)
    # Its Python part advises on retraced functions; a notebook that sets a level keeps it.
    logger = logging.getLogger("tensorflow")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    return True


def force(level: int, name: str) -> None:
    """Sets the least level whatever the environment says: the user's flag.

    Args:
        level: As in :func:`limit`.
        name: The level's name in Python's logging.
    """
    global _set_here
    os.environ[_VARIABLE] = str(level)
    _set_here = None
    logging.getLogger("tensorflow").setLevel(name.upper())


def limit_abseil() -> bool:
    """Gives XLA's log the same level; call it after TensorFlow's import, before XLA compiles.

    XLA logs through Abseil, which prints every line, and a warning about itself, as long as nobody
    has set it up, whatever TensorFlow's variable says.

    Returns:
        Whether the loaded TensorFlow has the function; without it the lines are shown.
    """
    import tensorflow as tf

    with contextlib.suppress(OSError, AttributeError, ValueError):
        path = os.path.join(tf.sysconfig.get_lib(), "libtensorflow_framework.so.2")
        function = getattr(ctypes.CDLL(path), _SET_MIN_LOG_LEVEL)
        function.argtypes, function.restype = [ctypes.c_int], None
        # Errors of XLA stay: unlike TensorFlow's they need not end in an exception.
        function(min(int(os.environ.get(_VARIABLE, "0")), 2))
        return True
    return False
