"""What the entry points share: flag errors and user errors are one line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from vatt_tf import lean_keras, paths
from vatt_tf.errors import Interrupted, UserError


class ArgumentParser(argparse.ArgumentParser):
    """Parser whose errors name the nearest flag; a description keeps its lines."""

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        known = [option for action in self._actions for option in action.option_strings]
        if message.startswith("unrecognized arguments: "):
            word = message.split(": ", 1)[1].split()[0].split("=")[0]
            near = difflib.get_close_matches(word, known, n=1)
            message += f" (did you mean {near[0]}?)" if near else " (see --help)"
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)


def add_gin_flags(flags: argparse.ArgumentParser) -> None:
    """Adds the flags that name the configuration of a run."""
    flags.add_argument(
        "--gin_file",
        type=path,
        action="append",
        required=True,
        help="configuration file, repeatable; a name such as tiny.gin is found in the package",
    )
    flags.add_argument(
        "--gin_bindings",
        "--gin_param",
        action="append",
        default=[],
        help='binding that overrides the files, repeatable: "STEPS=100", "TRAIN_DATA=\'x\'"',
    )


def path(text: str) -> str:
    """Type of a flag: a path, in which ``~/`` at the start is the home folder."""
    return paths.expand(text)


def positive(text: str) -> int:
    """Type of a flag: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, found {text!r}")
    return value


def above_zero(text: str) -> float:
    """Type of a flag: a finite number above 0, e.g. seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, found {text!r}")
    return value


def before_tensorflow(log_level: int = 3) -> None:
    """Sets what TensorFlow reads when it is imported, unless the user has set it; a lean Keras.

    Args:
        log_level: What TensorFlow's C++ part may say: 3, nothing but fatal errors; 2, errors too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", str(log_level))
    # TensorFlow turns oneDNN on by itself where there is AVX-512 only. With AVX2 its products of
    # matrices are twice as fast as the others, and the training with them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    lean_keras.leave_out()


def accept_any_output() -> None:
    """Lets the terminal show what it cannot encode as an escape, as it does for errors."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run(command: Callable[[], int], interrupted: str = "") -> int:
    """Runs a command and turns a user's mistake into one line and its exit code (2).

    Args:
        command: The command; returns its exit code.
        interrupted: After Ctrl-C (exit code 130): what is kept, and how to go on.
    """
    accept_any_output()
    try:
        return command()
    except Interrupted as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except UnicodeEncodeError as error:
        # A path or word with bytes that are not UTF-8 has come to a library that needs UTF-8.
        found = error.object
        if not isinstance(found, str) or paths.is_utf8(found[error.start : error.end]):
            raise
        part = paths.shown(found[max(0, error.start - 80) : error.end + 80])
        print(f"error: {part}: is not valid UTF-8; rename it", file=sys.stderr)
        return UserError.exit_code
    except UserError as error:
        # gin adds a line about the call to what its configurables raise.
        message = str(error).split("\n  In call to configurable")[0]
        print(f"error: {paths.shown(message)}", file=sys.stderr)
        return error.exit_code
    except BaseException as error:
        if not _is_interruption(error):
            raise
        print(f"interrupted; {interrupted}" if interrupted else "interrupted", file=sys.stderr)
        return 130


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: an import that it cuts short may end with another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
