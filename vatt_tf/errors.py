"""Errors that a user can mend: bad files, flags, values. Entry points print them as one line."""

from __future__ import annotations

import signal
from typing import Any

# Signal -> what the command prints, exit code.
_ENDED = {
    int(signal.SIGTERM): ("stopped on SIGTERM", 75),
    int(signal.SIGINT): ("interrupted", 130),
}


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def value_text(value: Any) -> str:
    """Formats a value for a message: as a literal, an object by its type only."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if type(value) in (list, tuple):
        inner = ", ".join(map(value_text, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {value_text(v)}' for k, v in value.items())}}}"
    name = getattr(value, "__name__", None)
    return f"the {type(value).__name__} {name}" if name else f"a {type(value).__name__}"


class UserError(ValueError):
    """Raised for a mistake in the user's input, not in the program.

    The message names the file, field or value, what was found, what was expected and what to
    do. Entry points print it as ``error: ...`` and exit with ``exit_code``.
    """

    exit_code = 2


class Interrupted(UserError):
    """A signal ended a run before its last step; the same command continues it.

    The exit code of SIGTERM is that of a failure that a later try may not have (``EX_TEMPFAIL``),
    the one of Ctrl-C is what shells expect of an interrupted command.

    Args:
        number: ``signal.SIGTERM`` or ``signal.SIGINT``.
        state: What is saved, and how to go on.
    """

    def __init__(self, number: int, state: str = "") -> None:
        self.number = number
        words, self.exit_code = _ENDED[number]
        super().__init__(f"{words}; {state}" if state else words)


HOW_TO_ADD_WORDS = (
    "put captions beside the videos (name.srt or name.vtt) or into a CSV (--manifest, column "
    "caption), prepare again and train a new run"
)
# For videos with neither sound nor captions.
PUBLISHED_WEIGHTS = (
    "the published weights need neither: import them with `python -m vatt_tf.convert`, then search "
    "the videos with `python -m vatt_tf.embed --run_dir=WEIGHTS --videos=DIR`"
)
# What to do where a model has no text tower.
NO_TEXT_TOWER = f"this model has no text tower, it learned without captions; {HOW_TO_ADD_WORDS}"
# What to do where a model has a text tower but no word list.
NO_VOCABULARY = (
    "these weights came without a vocabulary; convert them again with "
    "vatt_tf.convert --vocabulary=FILE"
)
