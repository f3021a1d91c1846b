"""Writes docs/configuration.md from the code: every gin parameter, every macro of the gin files.

The names and defaults come from what the modules register with gin, the meanings from their
docstrings (sections Args and Attributes), the macros from the gin files with the comment beside
or above them. ``tests/test_docs.py`` compares the file with the output.

    python tools/generate_config_docs.py            # or: make docs
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import io
import itertools
import pathlib
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs in a checkout that is not installed, too

DOCUMENT = ROOT / "docs" / "configuration.md"
WIDTH = 120

INTRODUCTION = """# Configuration

<!-- Written by tools/generate_config_docs.py (make docs): edit the docstrings, not this file. -->

```bash
python -m vatt_tf.train --gin_file=gin_configs/tiny.gin --run_dir=runs/mine --dry_run \\
    --gin_bindings="STEPS = 500" --gin_bindings="TRAIN_DATA = 'data/mine/train'"
```

prints the configuration that [gin](https://github.com/google/gin-config) files and bindings make,
and trains it without `--dry_run`. The command goes on from [Reproduce and
extend](reproduce_and_extend.md). A file sets parameters (`configurable.parameter = value`) and
macros (`NAME = value`), which other lines read as `%NAME`. Strings need quotes. Bindings on the
command line come last and win.

Bindings in the environment variable `VATT_TF_GIN_BINDINGS` (`STEPS=8;BATCH_SIZE=8`, with semicolons
between them) come after these: they make documented commands and scripts small, and a note names
them.

A run directory keeps what was given (`config.gin`) and what was used, defaults included
(`operative_config.gin`).
A file is looked up in the current folder first, then in the package. `~/` at the start of a path is
the home folder, in values as in flags.
"""


def main() -> None:
    """Writes the document."""
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(render(), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")


def render() -> str:
    """Returns the whole document as Markdown."""
    from vatt_tf import config

    targets = config.configurables()
    lines = [INTRODUCTION, "## Parameters", ""]
    lines += [f"- [`{name}`](#{_anchor(name)})" for name in sorted(targets)]
    for name in sorted(targets):
        lines += ["", *_configurable_section(name, targets[name])]
    lines += ["", "## Gin files and their macros", ""]
    lines += ["No test runs the commands below: they need the data set of each file."]
    for path in sorted((ROOT / "gin_configs").rglob("*.gin")):
        lines += ["", *_gin_file_section(path)]
    return "\n".join(lines) + "\n"


# --- Parameters ----------------------------------------------------------------------------------


def _configurable_section(name: str, target: Callable[..., Any]) -> list[str]:
    """Heading, origin, summary and parameter table of one configurable."""
    summary, meanings = _docstring(target)
    origin = f"`{target.__module__}.{target.__qualname__}`"
    lines = [f"### `{name}`", "", _cell(summary), "", f"Defined as {origin}.", ""]
    lines += ["| parameter | default | meaning |", "|---|---|---|"]
    for parameter, default in _parameters(target):
        lines.append(f"| `{parameter}` | {default} | {_cell(meanings.get(parameter, ''))} |")
    return lines


def undocumented() -> list[str]:
    """``configurable.parameter`` of every parameter without a description in a docstring."""
    from vatt_tf import config

    found = []
    for name, target in sorted(config.configurables().items()):
        _, meanings = _docstring(target)
        parameters = [parameter for parameter, _ in _parameters(target)]
        found += [f"{name}.{parameter}" for parameter in parameters if not meanings.get(parameter)]
    return found


def _docstring(target: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """First line of a docstring, and the meaning of each parameter it describes."""
    import docstring_parser

    # Fields that a class inherits are described by the class that has them.
    classes = inspect.getmro(target)[::-1] if inspect.isclass(target) else (target,)
    meanings: dict[str, str] = {}
    for described in classes:
        doc = docstring_parser.parse(
            inspect.getdoc(described) or "", style=docstring_parser.DocstringStyle.GOOGLE
        )
        meanings |= {entry.arg_name: entry.description or "" for entry in doc.params}
    return doc.short_description or "", meanings


def _parameters(target: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yields every parameter that gin can set, with its default as Markdown."""
    factories = {}
    if dataclasses.is_dataclass(target):
        factories = {
            field.name: field.default_factory
            for field in dataclasses.fields(target)
            if field.default_factory is not dataclasses.MISSING
        }
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if parameter.name in factories:
            default = factories[parameter.name]()
        yield parameter.name, _default(default)


def _default(value: Any) -> str:
    """Markdown of a default value; the same text on every run."""
    import gin

    if value is inspect.Parameter.empty:
        return "given by the caller"
    if value is gin.REQUIRED:
        return "required"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = [
            f"{field.name}={getattr(value, field.name)!r}"
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        ]
        return f"`{type(value).__name__}({', '.join(changed)})`"
    if isinstance(value, enum.Enum):
        return f"`{value}`"
    if callable(value):
        return f"`{value.__qualname__}`"
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return f"`{_cell(repr(value))}`"


# --- Gin files -----------------------------------------------------------------------------------


def _gin_file_section(path: pathlib.Path) -> list[str]:
    """Heading, first comment, includes and macro table of one gin file."""
    text = path.read_text(encoding="utf-8")
    relative = path.relative_to(ROOT).as_posix()
    lines = [f"### `{relative}`", ""]
    summary = _leading_comment(text)
    if summary:
        lines += [summary, ""]
    includes = re.findall(r"""^include\s+['"]([^'"]+)['"]""", text, flags=re.MULTILINE)
    if includes:
        lines += ["Includes " + ", ".join(f"`gin_configs/{name}`" for name in includes) + ".", ""]
    macros = list(_macros(text))
    if macros:
        lines += ["| macro | value | meaning |", "|---|---|---|"]
        lines += [
            f"| `{name}` | `{_cell(value)}` | {_cell(comment)} |" for name, value, comment in macros
        ]
    else:
        lines.append("Sets no macro.")
    return lines


def _leading_comment(text: str) -> str:
    """The comment block that opens a gin file: wrapped paragraphs, indented lines as code."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    parts = []
    for code, group in itertools.groupby(
        (line[1:].removeprefix(" ") for line in lines), lambda line: line.startswith("  ")
    ):
        block = "\n".join(group)
        if code:
            parts.append(f"```bash\n{textwrap.dedent(block)}\n```")
        elif block.strip():
            parts.append(textwrap.fill(block.strip(), WIDTH, break_on_hyphens=False))
    return "\n\n".join(parts)


def _macros(text: str) -> Iterator[tuple[str, str, str]]:
    """Yields (name, value, comment) of each macro that a gin file sets.

    The comment is the one behind the value, else the lines directly above the macro.
    """
    from gin import config_parser

    class Written(config_parser.ParserDelegate):
        """Parser delegate that keeps references and macros inside a value as written."""

        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> _Name:
            return _Name(f"@{scoped_configurable_name}{'()' if evaluate else ''}")

        def macro(self, macro_name: str) -> _Name:
            return _Name(f"%{macro_name}")

    lines = text.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    for statement in config_parser.ConfigParser(text, Written()):
        if not isinstance(statement, config_parser.BindingStatement) or statement.arg_name:
            continue
        number = statement.location.line_num
        comment = comments.get(number, "")
        if not comment:
            first = number
            while first > 1 and lines[first - 2].startswith("#"):
                first -= 1
            # A comment that opens the file describes the file.
            above = range(first, number) if first > 1 else ()
            comment = " ".join(filter(None, (comments[line] for line in above)))
        name = "/".join(filter(None, [statement.scope, statement.selector]))
        yield name, repr(statement.value), comment


class _Name(str):
    """A reference or macro inside a value: printed without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _cell(text: str) -> str:
    """Docstring text as one line of Markdown that fits into a table cell."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _anchor(name: str) -> str:
    """Anchor of a heading that consists of ``name``."""
    return re.sub(r"[^\w-]", "", name.lower())


if __name__ == "__main__":
    main()
