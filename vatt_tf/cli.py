"""Command-line helpers: flags, quiet logs; a mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import flags
from absl import logging as absl_logging
from absl.flags import argparse_flags

from vatt_tf import keras_imports, native_log, paths, registry
from vatt_tf.errors import Interrupted, UserError

# Similarity from which on an unknown flag is taken for a typing error.
_NEAR = 0.7


class ArgumentParser(argparse_flags.ArgumentParser):
    """Parser whose errors are one line and name the nearest flag; a description keeps its lines.

    All commands have absl's ``--flagfile`` and ``--verbosity``. Neither is in the namespace.
    """

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # Without absl's global flags: those of any imported library would be among them.
        super().__init__(allow_abbrev=False, inherited_absl_flags=None, **kwargs)
        for action in self._actions:
            if "--helpfull" in action.option_strings:
                action.help = argparse.SUPPRESS
        logs = self.add_argument_group("files of flags, logs")
        logs.add_argument(
            "--flagfile",
            type=path,
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="read flags from a file",
        )
        logs.add_argument(
            "--verbosity",
            choices=tuple(native_log.LEVELS),
            default=argparse.SUPPRESS,
            help="show log lines of TensorFlow and other libraries from this level on",
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads flag files, then flags; ``--verbosity`` takes effect at once."""
        args = sys.argv[1:] if args is None else list(args)
        if any(arg.strip() == "--flagfile=" for arg in args):  # absl would ignore it silently
            self.error("argument --flagfile: expected a value")
        try:
            args = flags.FlagValues().read_flags_from_files(args, force_gnu=True)
        except flags.CantOpenFlagFileError as error:
            self.error(f"argument --flagfile: {str(error).removeprefix('ERROR:: ')}")
        except flags.Error:
            self.error("argument --flagfile: expected a value")
        except (OSError, UnicodeDecodeError) as error:
            self.error(f"argument --flagfile: no text file of flags ({error})")
        found, rest = super().parse_known_args(args, namespace)
        vars(found).pop("flagfile", None)
        if "verbosity" in found:
            _set_verbosity(vars(found).pop("verbosity"))
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        # -hat is no -h with a value.
        message = re.sub(
            r"^argument (-\w)/\S+: ignored explicit argument '(.*)'$",
            r"unrecognized arguments: \1\2",
            message,
        )
        if message.startswith("unrecognized arguments: "):
            message = self._unrecognized(message.split(": ", 1)[1])
        message = re.sub(r": expected one argument$", r": expected a value", message)
        for kind, expected in (("int", "a whole number"), ("float", "a number")):
            message = message.replace(f"invalid {kind} value:", f"expected {expected}, found")
        message = " ".join(paths.shown(message).split("\n"))
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    def _unrecognized(self, words: str) -> str:
        word = words.split()[0].split("=")[0]
        if not word.startswith("-"):
            return f"unexpected argument: {words} (flags are written --NAME=VALUE, see --help)"
        parts = [a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        inner = [action for part in parts for p in part.values() for action in p._actions]
        known = {
            option.lstrip("-"): option
            for action in [*self._actions, *inner]
            for option in action.option_strings
            if action.help != argparse.SUPPRESS
        }
        bare = word.lstrip("-").replace("-", "_")
        near = difflib.get_close_matches(bare, known, n=1, cutoff=_NEAR)
        fix = f"did you mean {known[near[0]]}?" if near else "see --help"
        # Suppressed while flags among words are parsed.
        free = ("*", argparse.SUPPRESS)
        may_be_words = any(action.nargs in free for action in self._get_positional_actions())
        if may_be_words and not word.startswith("--"):
            fix += "; words that begin with - go behind --"
        return f"unknown flag {word} ({fix})"


def _set_verbosity(level: str) -> None:
    native_log.force(level)
    absl_logging.set_verbosity(level)


def add_gin_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that name the configuration of a run."""
    parser.add_argument(
        "--gin_file",
        type=path,
        action="append",
        required=True,
        help="configuration file, repeatable; a name such as tiny.gin is found in the package",
    )
    parser.add_argument(
        "--gin_bindings",
        "--gin_param",
        action="append",
        default=[],
        help='binding that overrides the files, repeatable: "STEPS=100", "TRAIN_DATA=\'x\'"',
    )


class _ImportModule(argparse.Action):
    """Imports a module as soon as its flag is read; the namespace holds nothing of it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        before_tensorflow()  # which the module may import, through Keras
        keras_imports.import_lean("keras")
        try:
            registry.import_modules([values])
        except UserError as error:
            parser.error(f"argument {option}: {error}")


def add_module_flag(parser: argparse.ArgumentParser) -> None:
    """Adds ``--module``, which imports a user's own towers, heads or tokenizers."""
    parser.add_argument(
        "--module",
        action=_ImportModule,
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="import a module of yours that registers parts of the model (docs/extending.md); "
        "repeatable",
    )


def add_quiet_flag(
    parser: argparse.ArgumentParser, left_out: str = "no progress bar and no summary"
) -> None:
    """Adds ``--quiet``: only results, warnings and errors are printed."""
    parser.add_argument("--quiet", action="store_true", help=left_out)


def add_tls_flags(parser: argparse.ArgumentParser) -> None:
    """Adds ``--tls_ca``, ``--tls_cert`` and ``--tls_key`` of a command that asks a server."""
    add = parser.add_argument
    add("--tls_ca", type=path, help="PEM file of the server's authority: encrypts the connection")
    add("--tls_cert", type=path, help="PEM file of a certificate to show, with --tls_key")
    add("--tls_key", type=path, help="PEM file of its private key")


def path(text: str) -> str:
    """Flag type: a path, in which ``~/`` at the start is the home folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, found nothing")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, found {text!r}")
    return paths.expand(text)


def whole(text: str) -> int:
    """Flag type: an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number >= 0, found {text!r}")
    return int(text)


def positive(text: str) -> int:
    """Flag type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, found {text!r}")
    return value


def above_zero(text: str) -> float:
    """Flag type: a finite number above 0, e.g. seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number > 0, found {text!r}")
    return value


def before_tensorflow() -> None:
    """Sets the environment that TensorFlow reads at import, unless the user has; minimal Keras."""
    keras_imports.own_process()
    if native_log.limit():
        absl_logging.set_verbosity("error")
    # TensorFlow enables oneDNN by itself with AVX-512 only. With AVX2 too its matrix products are
    # twice as fast as Eigen's, and so is training.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def accept_any_output() -> None:
    """Makes standard output escape characters that the terminal cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def run(command: Callable[[], int], interrupted: str = "") -> int:
    """Runs a command; prints a user's mistake as one line and returns exit code 2.

    Args:
        command: The command; returns its exit code.
        interrupted: Message after Ctrl-C (exit code 130): what is kept, and how to resume.
    """
    accept_any_output()
    try:
        return command()
    except Interrupted as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except UnicodeEncodeError as error:
        # A library that needs UTF-8 got a path or word of other bytes.
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
    """Whether Ctrl-C caused an error: an interrupted import may end with another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
