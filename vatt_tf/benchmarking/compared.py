"""Variants that a benchmark measures in turn with the package (``--compare``)."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterable

from vatt_tf import paths
from vatt_tf.errors import UserError

REFERENCE = "reference"
WORKER = "vatt_tf.benchmarking.worker"
# The package is the last row: without each of these in turn it is the row before.
ROWS = {
    "a": "(a) stock layers",
    "b": "(b) fused, AGG only",
    "c": "(c) b + remat",
    "d": "(d) c + cheap masks",
}
# Files of ``layers`` that only the rows behind need.
_FROM_ROW = {"recompute.py": "c", "masks.py": "d", "fusion.py": "e"}
_PARTS = ("forward", "train", "step")
_TESTS = pathlib.Path("tests", "reference")
_PACKAGE = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Other:
    """A variant beside the package.

    Attributes:
        name: What tables call it.
        module: Its worker (:mod:`vatt_tf.benchmarking.protocol`).
        arguments: Flags of its worker, beside those of ours.
        parts: What it has of the parts.
        lines: Of the code that makes up its towers.
        checkout: Folder of the package that it measures; None: this one.
        is_plain: Whether its step is one micro-batch of ours.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    parts: tuple[str, ...] = _PARTS
    lines: int = 0
    checkout: str | None = None
    is_plain: bool = False

    @property
    def python(self) -> str:
        """The interpreter of its checkout, where it has one."""
        own = os.path.abspath(os.path.join(self.checkout or "", ".venv", "bin", "python"))
        return own if self.checkout and os.path.exists(own) else sys.executable


def compared(given: str | None) -> list[Other]:
    """Reads ``--compare``.

    Raises:
        UserError: If it names something else, or what is not there.
    """
    found: list[Other] = []
    for name in given.split(",") if given else ():
        kind, _, folder = name.partition(":")
        if name in (REFERENCE, "ablation") and not _TESTS.is_dir():
            raise UserError(f"--compare={name}: run it in the top folder of a source checkout")
        if name == REFERENCE:
            lines = _lines([_TESTS / "plain_vatt.py"])
            parts: tuple[str, ...] = (*_PARTS, "export", "input")
            found.append(Other(name, "tests.reference.plain_worker", (), parts, lines))
        elif name == "plain":
            lines = layer_lines()
            found.append(Other("plain step", WORKER, (), ("step",), lines, is_plain=True))
        elif name == "ablation":
            found += [_row(row) for row in ROWS]
        elif kind == "checkout" and folder:
            folder = paths.expand(folder)
            if not pathlib.Path(folder, "vatt_tf", "benchmarking", "worker.py").is_file():
                raise UserError(
                    f"--compare={name}: {folder} holds no vatt_tf/benchmarking/worker.py, expected "
                    "the top folder of another source checkout"
                )
            shown = pathlib.Path(folder).resolve().name
            lines = layer_lines(pathlib.Path(folder, "vatt_tf"))
            parts = (*_PARTS, "export", "input", "run")
            found.append(Other(shown, WORKER, (), parts, lines, folder))
        else:
            raise UserError(
                f"--compare={given}: {name!r} is none of reference, plain, ablation, "
                "checkout:FOLDER"
            )
    names = [other.name for other in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--compare={given}: two are called {name}; expected other names")
    return found


def layer_lines(package: pathlib.Path = _PACKAGE, row: str = "e") -> int:
    """Lines of the Transformer's layers of a package, without what only later rows need."""
    files = [*package.glob("layers/*.py"), *package.glob("layers/transformer/*.py")]
    return _lines(file for file in files if _FROM_ROW.get(file.name, "") <= row)


def _row(row: str) -> Other:
    if row == "a":
        lines = _lines([_TESTS / "stock_towers.py"])
    else:
        lines = layer_lines(row=row)
    return Other(ROWS[row], "tests.reference.ablation_worker", (f"--row={row}",), lines=lines)


def _lines(files: Iterable[pathlib.Path]) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
