"""The field's words in names, and first lines of docstrings that state what is returned or done."""

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
# Rooms whose docstrings state in the first line what is returned or done; the list grows.
ROOMS = (
    *(f"vatt_tf/{room}" for room in ("benchmarking", "evaluation", "pretrained", "search_index")),
    *("vatt_tf/training", "export", "serving", "tools"),
)
# The docstring of a conformance case is its promise, a sentence that the suite prints.
PROMISES = CHECKOUT / "serving" / "conformance" / "cases"
OPENINGS = re.compile(
    r"(What|Which|Who|Whose|When|Where|Why|How|Wants|Says|Tells|Knows|Lets|Asks) "
)
NOT_SAID = re.compile(r"\b(says|tells|wants|knows|sick|guess|two-pass)\b")


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


def first_lines(path):
    """(line, first line of the docstring) of a module, its classes and functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield node.body[0].lineno, text.splitlines()[0]


def test_first_lines_of_docstrings():
    paths = [*(CHECKOUT / "vatt_tf").glob("*.py")]
    paths += [path for room in ROOMS for path in (CHECKOUT / room).rglob("*.py")]
    found = [
        f"{path.relative_to(CHECKOUT)}:{line}: {text}"
        for path in sorted(paths)
        if PROMISES not in path.parents
        for line, text in first_lines(path)
        if OPENINGS.match(text) or NOT_SAID.search(text)
    ]
    assert not found, "\n".join(found)
    assert OPENINGS.match("What a run costs.") and NOT_SAID.search("A folder says what it is.")
