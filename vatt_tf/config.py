"""Gin configuration: search path, readable errors, the record of a run's settings.

Gin fills plain functions and frozen dataclasses; Keras layers take ordinary arguments. Every
mistake in a file or on the command line gives one line that names the right form.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import inspect
import os
import pathlib
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gin
from gin import config_parser

from vatt_tf import __version__, paths
from vatt_tf.errors import UserError

# Modules whose import registers something with gin. Every name in a gin file is found here.
_REGISTERING_MODULES = (
    "vatt_tf.losses.objective",
    "vatt_tf.models.config.vatt",
    "vatt_tf.models.config.settings",
    "vatt_tf.data.input.pipeline",
    "vatt_tf.training.optimization.schedule",
    "vatt_tf.training.optimization.optimizer",
    "vatt_tf.training.tasks.config",
    "vatt_tf.training.tasks.finetune_config",
)

# Bindings for every run that is started below a shell, with semicolons between them.
BINDINGS_VARIABLE = "VATT_TF_GIN_BINDINGS"

# Earlier name of a parameter -> its name. Files and runs that have the earlier one stay good.
_RENAMED = {
    "train.shuffle_buffer": "shuffle_window",
    "finetune.shuffle_buffer": "shuffle_window",
}


def import_configurables() -> None:
    """Imports every module that registers a gin name (this imports TensorFlow)."""
    for name in _REGISTERING_MODULES:
        importlib.import_module(name)


def parse(files: Sequence[str], bindings: Sequence[str]) -> None:
    """Reads gin files, then bindings that override them, and locks the configuration.

    Bindings in the environment variable ``VATT_TF_GIN_BINDINGS`` come last, with a note.

    Args:
        files: Paths, or names relative to ``gin_configs`` of the current folder or the package.
        bindings: ``NAME=value`` for macros, ``configurable.parameter=value`` for the rest.

    Raises:
        UserError: One line that names the file or binding and the fix.
    """
    paths = [find_gin_file(name) for name in files]
    for folder in _search_folders(paths):
        gin.add_config_file_search_path(folder)
    with _plain_files_only(), _earlier_names_read():
        for path in paths:
            _translate(f"file {path}", gin.parse_config_file, path)
        in_files = _macros_used()
        for binding in [*bindings, *_environment_bindings()]:
            _check_binding(binding, in_files)
            _check_quotes(binding)
            _translate(f"binding {binding!r}", gin.parse_config, binding)
    _check_required_macros()
    _translate("the configuration", gin.finalize)


def _environment_bindings() -> list[str]:
    """Bindings in the environment; a note names them, so that no run is changed unseen."""
    given = os.environ.get(BINDINGS_VARIABLE, "").split(";")
    bindings = [binding.strip() for binding in given if binding.strip()]
    if bindings:
        print(f"note: {BINDINGS_VARIABLE} sets {'; '.join(bindings)}", file=sys.stderr)
    return bindings


@contextlib.contextmanager
def _plain_files_only() -> Iterator[None]:
    """Makes gin read files by their path alone.

    It also looks for ``runs/x.gin`` in a Python package ``runs``, and fails with a traceback where
    the current folder has a folder of that name, as it does after the first run.
    """
    readers = gin.config._FILE_READERS
    saved = list(readers)
    readers[:] = [
        (lambda name: open(paths.expand(name)), lambda name: os.path.isfile(paths.expand(name)))
    ]
    try:
        yield
    finally:
        readers[:] = saved


@contextlib.contextmanager
def _earlier_names_read() -> Iterator[None]:
    """Rebinds parameters from their earlier names, with a note for each."""
    bind, told = gin.config.bind_parameter, set()

    def bind_renamed(key: tuple[str, str, str], value: Any) -> None:
        scope, selector, parameter = key
        name = _name_now(selector, parameter)
        if name != parameter and selector not in told:
            told.add(selector)
            line = f"note: {selector}.{parameter} is read as {selector}.{name}, its name now"
            print(line, file=sys.stderr)
        bind((scope, selector, name), value)

    gin.config.bind_parameter = bind_renamed
    try:
        yield
    finally:
        gin.config.bind_parameter = bind


def _name_now(selector: str, parameter: str) -> str:
    return _RENAMED.get(f"{selector.rsplit('.', 1)[-1]}.{parameter}", parameter)


def find_gin_file(name: str) -> str:
    """Absolute path of a gin file: as given, then below each ``gin_configs`` folder.

    Raises:
        UserError: If there is none; lists the shipped files of similar name.
    """
    candidates = [pathlib.Path(paths.expand(name))]
    for root in _roots():
        candidates += [
            root / name,
            root.parent / name if name.startswith("gin_configs") else root / name,
        ]
    for path in candidates:
        if path.is_file():
            return str(path.resolve())
    shipped = sorted(
        str(path.relative_to(root)) for root in _roots() for path in root.rglob("*.gin")
    )
    hint = _nearest(name.removeprefix("gin_configs/"), shipped)
    raise UserError(
        f"--gin_file={name}: no such file in {os.getcwd()} or in the package's gin_configs{hint}"
    )


def _roots() -> list[pathlib.Path]:
    package = pathlib.Path(__file__).resolve().parent
    roots = (pathlib.Path("gin_configs"), package / "gin_configs", package.parent / "gin_configs")
    return [root for root in roots if root.is_dir()]


def _search_folders(paths: Iterable[str]) -> list[str]:
    """Folders in which ``include`` lines are looked up: the files' own first."""
    folders: list[pathlib.Path] = []
    for path in paths:
        parents = pathlib.Path(path).parents
        folders += [parent for parent in parents if parent.name == "gin_configs"][:1] or [
            parents[0]
        ]
    folders += [root.resolve() for root in _roots()]
    return [str(folder) for folder in dict.fromkeys(folders)]


def _translate(where: str, call, *args) -> None:
    """Runs a gin call and turns its exceptions into one line each."""
    try:
        call(*args)
    except SyntaxError as error:
        raise UserError(f"{where}: {_syntax_hint(error)}") from error
    except (tokenize.TokenError, OSError, ImportError, RuntimeError) as error:
        raise UserError(f"{where}: {_first_line(error)}") from error
    except ValueError as error:
        raise UserError(f"{where}: {_first_line(error)}{_name_hint(str(error))}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = next((line for line in lines[1:] if "line" in line), "")
    return " ".join(filter(None, [lines[0] if lines else type(error).__name__, place]))


def _syntax_hint(error: SyntaxError) -> str:
    message = _first_line(error)
    token = re.search(r"Failed to parse token '([^']*)'", str(error))
    if token:
        word = token.group(1)
        return (
            f"cannot read the value {word} in line {error.lineno}; a string needs quotes: "
            f"NAME='{word}' (on the shell: --gin_bindings=\"NAME='{word}'\")"
        )
    return message


def _name_hint(message: str) -> str:
    unknown = re.search(r"No configurable matching '([^']+)'", message)
    if unknown:
        return _nearest(unknown.group(1), _configurable_names())
    parameter = re.search(
        r"[Cc]onfigurable '([^']+)' doesn't have a parameter named '([^']+)'", message
    )
    if parameter:
        return _nearest(parameter.group(2), _parameter_names(parameter.group(1)))
    return ""


def _nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` with the most similar names, or the whole list if it is short."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f" (did you mean {' or '.join(near)}?)"
    return f" (known: {', '.join(known)})" if known else ""


def configurables() -> dict[str, Callable[..., Any]]:
    """Name -> function or class of everything that vatt_tf registered with gin."""
    import_configurables()
    found = {}
    for selector, entry in gin.config._REGISTRY.items():  # gin offers no public listing
        if entry.module and entry.module.split(".")[0] == "vatt_tf":
            found[entry.name] = inspect.unwrap(entry.wrapped)
        elif selector.split(".")[0] == "vatt_tf":
            found[selector.rsplit(".", 1)[-1]] = inspect.unwrap(entry.wrapped)
    return found


def _configurable_names() -> list[str]:
    return sorted(configurables())


def _parameter_names(name: str) -> list[str]:
    target = configurables().get(name.rsplit(".", 1)[-1])
    return list(inspect.signature(target).parameters) if target else []


class _MacroCollector(config_parser.ParserDelegate):
    """Parser delegate that collects the macros that files refer to."""

    def __init__(self) -> None:
        self.macros: set[str] = set()

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return f"@{scoped_configurable_name}{'()' if evaluate else ''}"

    def macro(self, macro_name):
        self.macros.add(macro_name)
        return f"%{macro_name}"


def _macros_used() -> set[str]:
    """Names of the macros that the parsed files refer to or define."""
    collector = _MacroCollector()
    text = gin.config_str(max_line_length=10_000)
    for _ in config_parser.ConfigParser(text, collector):
        pass
    defined = {scope for scope, selector in gin.config._CONFIG if selector == "gin.macro"}
    return collector.macros | defined


def _check_binding(binding: str, macros: set[str]) -> None:
    """Checks that a file uses the macro; else the binding would change nothing."""
    name = binding.split("=", 1)[0].strip()
    if "=" not in binding:
        raise UserError(f"binding {binding!r}: expected NAME=value or configurable.parameter=value")
    if re.fullmatch(r"[A-Za-z_]\w*", name) and name not in macros:
        raise UserError(f"binding {binding!r}: no macro {name}{_nearest(name, macros)}")


def _check_quotes(binding: str) -> None:
    """Checks for strings whose quotes the shell has removed; the error shows them with quotes."""
    name, value = (part.strip() for part in binding.split("=", 1))
    word = re.fullmatch(r"[\w./~:*-]+", value)
    if not word or value in ("True", "False", "None") or _is_value(value):
        return
    raise UserError(
        f"binding {binding!r}: a string needs quotes: --gin_bindings=\"{name}='{value}'\""
    )


def _is_value(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _check_required_macros() -> None:
    """Checks that no used macro is undefined or %gin.REQUIRED."""
    defined = {
        scope: params.get("value")
        for (scope, selector), params in gin.config._CONFIG.items()
        if selector == "gin.macro"
    }
    missing = [
        name
        for name in sorted(_macros_used() - {"gin.REQUIRED"})
        if name not in defined or repr(defined[name]) == "%gin.REQUIRED"
    ]
    if missing:
        options = " ".join(f'--gin_bindings="{name}=..."' for name in missing)
        raise UserError(f"macro {', '.join(missing)} is not set; add {options}")


def only_configured(names: Sequence[str]) -> str:
    """Returns the one of several configurables that has bindings; the first if none has.

    Raises:
        UserError: If several have.
    """
    bound = {selector.rsplit(".", 1)[-1] for _, selector in gin.config._CONFIG}
    found = [name for name in names if name in bound]
    if len(found) > 1:
        raise UserError(
            f"the configuration sets both {found[0]}.* and {found[1]}.*: include one kind of run"
        )
    return found[0] if found else names[0]


def bindings_in(text: str) -> dict[str, str]:
    """Binding -> value, as text, of everything in a gin text."""
    found = {}
    for statement in config_parser.ConfigParser(text, _MacroCollector()):
        if isinstance(statement, config_parser.BindingStatement):
            scope = f"{statement.scope}/" if statement.scope else ""
            name = _name_now(statement.selector, statement.arg_name)
            argument = f".{name}" if name else ""
            found[f"{scope}{statement.selector}{argument}"] = repr(statement.value)
    return found


def unused_bindings() -> list[str]:
    """``configurable.parameter`` of bindings that nothing has read so far."""
    used = gin.config._OPERATIVE_CONFIG
    unused = []
    for (scope, selector), parameters in gin.config._CONFIG.items():
        consumed = used.get((scope, selector), {})
        for parameter in parameters:
            if parameter not in consumed:
                name = selector.rsplit(".", 1)[-1]
                prefix = f"{scope}/" if scope and selector != "gin.macro" else ""
                unused.append(scope if selector == "gin.macro" else f"{prefix}{name}.{parameter}")
    return sorted(unused)


def config_text() -> str:
    """The whole configuration as given, with macros."""
    return f"# vatt_tf {__version__}\n{gin.config_str()}"


def operative_text() -> str:
    """Parameter values in use, with defaults."""
    return f"# vatt_tf {__version__}\n{gin.operative_config_str()}"


def clear() -> None:
    """Forgets everything that was parsed (for tests and notebooks)."""
    gin.clear_config()
    gin.config._LOCATION_PREFIXES[1:] = []
