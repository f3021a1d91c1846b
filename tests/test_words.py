"""Names are the field's: those of ``words.txt`` are not used."""

import ast
import pathlib
import re

from tests.conftest import CHECKOUT

PATTERNS = [
    line
    for line in pathlib.Path(__file__).with_name("words.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
REFUSED = re.compile("|".join(PATTERNS))
FOLDERS = ("vatt_tf", "export", "serving", "tools", "examples")


def names(path):
    """(line, name) of a module and of what it defines."""
    yield 1, path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg


def test_refused_names():
    found = [
        f"{path.relative_to(CHECKOUT)}:{line}: {name}"
        for folder in FOLDERS
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        for line, name in names(path)
        if REFUSED.fullmatch(name.strip("_"))
    ]
    assert not found
    assert REFUSED.fullmatch("of_kernel") and not REFUSED.fullmatch("offset")
