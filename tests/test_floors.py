"""The house keeps its floors: docs/architecture.md draws them, this test reads every import."""

import ast
import collections
import functools
import graphlib

import pytest

from tests.conftest import CHECKOUT

# From the ground up. A room imports from itself and from lower floors, also inside of functions.
# The longest name that fits counts; a room within a room belongs to it unless it is listed.
FLOORS = (
    ("errors", "lazy", "keras_imports", "native_log", "paths", "progress_bar", "unit_length")
    + ("wording",),
    ("atomic", "data.schema", "fields", "registry"),
    ("cli",),
    ("layers", "losses", "evaluation.metrics", "output_folder"),
    ("heads", "encoders", "data.text", "training.optimization", "training.cluster"),
    ("models", "data.media", "training.gradients", "training.monitoring", "serving.server"),
    ("embedder",),
    ("data.shards", "evaluation.collect", "serving.client", "serving.conformance"),
    ("data.lists", "data.input", "evaluation", "serving.benchmarks"),
    ("data.prepare", "data.service", "evaluation.tasks", "api"),
    ("data.transcripts", "export", "pretrained"),
    ("data.datasets", "config"),
    ("training.saving", "training.tasks", "evaluation.report", "search_index"),
    ("training",),
    ("benchmarking",),
    # Commands, and what forwards to a room for those who import it by an earlier name.
    ("prepare", "train", "evaluate", "convert", "deflate", "embed", "search", "benchmark")
    + ("serving", "data.plan", "data.service_benchmark"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MOST_FILES = 12
# The folder of the commands, and packages themselves.
ASIDE = {"", "data", "__main__"}


def sources():
    """Module below ``vatt_tf`` -> its file."""
    found = {}
    for top in ("vatt_tf", "export", "serving"):
        for path in sorted((CHECKOUT / top).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            parts = parts[1:] if parts[0] == "vatt_tf" else parts
            found[".".join(parts).removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = sources()


def room(module):
    """The listed room of a module; "" for packages and lists of commands."""
    if module in ASIDE:
        return ""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(name for name in names if name in FLOOR)


def only_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(node, at_start):
    """Modules of the package that code imports, those of type checkers left out.

    Args:
        node: A syntax tree.
        at_start: Whether only those count that are imported with the module.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "write absolute imports"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner.removeprefix("vatt_tf.") in MODULES else node.module
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if not only_for_types(child) and not (at_start and later):
            yield from imported(child, at_start)


@functools.cache
def imports(module, at_start=False):
    names = imported(ast.parse(MODULES[module].read_text(encoding="utf-8")), at_start)
    below = {name.removeprefix("vatt_tf.") for name in names if name.startswith("vatt_tf.")}
    return frozenset(name for name in below if name in MODULES and name != module)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ASIDE])
def test_nothing_imports_from_a_higher_floor(module):
    here = room(module)
    for other in imports(module):
        there = room(other)
        if there not in (here, ""):
            assert FLOOR[there] < FLOOR[here], f"{module} ({here}) imports {other} ({there})"


def test_no_module_waits_for_itself():
    """What is imported with a module makes no circle."""
    graph = {module: imports(module, at_start=True) for module in MODULES}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_room_is_on_one_floor_and_there():
    assert len(FLOOR) == sum(map(len, FLOORS))
    assert {room(module) for module in MODULES} - {""} == set(FLOOR)


def test_folders_can_be_overlooked():
    counts = collections.Counter(
        path.parent for path in MODULES.values() if path.name != "__init__.py"
    )
    del counts[CHECKOUT / "vatt_tf"]  # the commands
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}
