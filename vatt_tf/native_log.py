"""Log lines of TensorFlow, XLA and gRPC: shown only on request (``--verbosity``).

Imports none of them: the environment has to be set before they are imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os

_VARIABLE, _GRPC_VARIABLE = "TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY"
# Nothing but fatal errors: TensorFlow and gRPC raise their errors as Python exceptions, too.
_QUIET, _GRPC_QUIET = "3", "NONE"
# Level of --verbosity -> TensorFlow's number for it and gRPC's name, which has no warnings.
LEVELS = {
    "debug": ("0", "DEBUG"),
    "info": ("0", "INFO"),
    "warning": ("1", "ERROR"),
    "error": ("2", "ERROR"),
    "fatal": (_QUIET, _GRPC_QUIET),
}
# absl::SetMinLogLevel(absl::LogSeverityAtLeast) of the Abseil in TensorFlow 2.20.
_SET_MIN_LOG_LEVEL = "_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE"

_set_here = False


def limit() -> bool:
    """Limits the log to fatal errors, unless the user's environment has a level.

    Returns:
        Whether the level was set here.
    """
    global _set_here
    if _VARIABLE in os.environ and not _set_here:
        return False
    os.environ[_VARIABLE], _set_here = _QUIET, True
    os.environ.setdefault(_GRPC_VARIABLE, _GRPC_QUIET)
    # TensorFlow's Python logger warns of retraced functions; a level set by a notebook stays.
    logger = logging.getLogger("tensorflow")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    return True


def force(level: str) -> None:
    """Sets the least level of the lines that are shown, whatever the environment has.

    Args:
        level: A key of ``LEVELS``.
    """
    global _set_here
    os.environ[_VARIABLE], os.environ[_GRPC_VARIABLE] = LEVELS[level]
    _set_here = False
    logging.getLogger("tensorflow").setLevel(level.upper())


def limit_abseil() -> bool:
    """Gives Abseil's log the same level; the modules that run graphs call it at their import.

    XLA, graph passes and data services log through Abseil, which prints every line, and a warning
    about itself, as long as nobody has set it up. No variable and no Python function of TensorFlow
    reaches it.

    Returns:
        Whether the loaded TensorFlow has the function; without it the lines are shown.
    """
    import tensorflow as tf

    with contextlib.suppress(OSError, AttributeError, ValueError):
        path = os.path.join(tf.sysconfig.get_lib(), "libtensorflow_framework.so.2")
        function = getattr(ctypes.CDLL(path), _SET_MIN_LOG_LEVEL)
        function.argtypes, function.restype = [ctypes.c_int], None
        # Errors stay: unlike TensorFlow's they need not end in an exception.
        function(min(int(os.environ.get(_VARIABLE, "0")), 2))
        return True
    return False
