"""Named parts that a configuration chooses: towers, heads, losses, sources, optimizers, tokenizers.

A module registers its parts when it is imported; so does a user's own module, which a gin file
imports or ``--module`` names (docs/extending.md).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from vatt_tf.errors import UserError, value_text

Part = TypeVar("Part")
PACKAGE = __name__.partition(".")[0]


class Registry(Generic[Part]):
    """The parts of one kind by name.

    Args:
        option: The option that chooses one, for messages, e.g. ``"common_space.kind"``.
    """

    def __init__(self, option: str) -> None:
        self.option = option
        self._parts: dict[str, Part] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that adds a part.

        Raises:
            ValueError: When a part of another origin has the name.
        """

        def add(part: Part) -> Part:
            held = self._parts.get(name, part)
            if _origin(held) != _origin(part):  # equal where a module is loaded once more
                raise ValueError(f"{self.option}: {name!r} is {_origin(held)} already")
            self._parts[name] = part
            return part

        return add

    def __getitem__(self, name: str) -> Part:
        """The part of that name.

        Raises:
            UserError: When there is none; lists the names.
        """
        self.check(name)
        return self._parts[name]

    def check(self, name: Any) -> None:
        """Raises a UserError that lists the names unless the name is registered."""
        if not isinstance(name, str) or name not in self._parts:
            known = ", ".join(repr(known) for known in self._parts)
            raise UserError(
                f"{self.option} = {value_text(name)}: expected one of {known}; import the module "
                "that registers another one (--module=NAME, or import it in the gin file)"
            )

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._parts)

    def values(self) -> tuple[Part, ...]:
        """All parts, in order of registration."""
        return tuple(self._parts.values())


def _origin(part: Any) -> str:
    part = part if hasattr(part, "__qualname__") else type(part)
    return f"{part.__module__}.{part.__qualname__}"


def modules_of(parts: Iterable[Any]) -> list[str]:
    """Modules outside of the package that define some of the parts, sorted."""
    names = {str(getattr(part, "__module__", PACKAGE)) for part in parts}
    return sorted(name for name in names if name.partition(".")[0] != PACKAGE)


def import_modules(names: Sequence[str]) -> None:
    """Imports modules that register parts.

    Args:
        names: Names as in an ``import`` line; the current folder is searched first.

    Raises:
        UserError: When a module is not found, or a name is none.
    """
    for name in names:
        if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
            raise UserError(
                f"module {name!r}: expected a name as in an import line, e.g. own_tower"
            )
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # found, but one of its own imports is missing
            raise UserError(
                f"module {name}: not found; expected {name.replace('.', '/')}.py in the current "
                "folder or on PYTHONPATH"
            ) from error


def check_imported(modules: Sequence[str], source: str) -> None:
    """Raises a UserError that names the modules that a model needs and nobody has imported.

    Args:
        modules: Of :func:`modules_of`, as a model's description has them.
        source: The folder, for the message.
    """
    missing = [name for name in modules if name not in sys.modules]
    if missing:
        flags = " ".join(f"--module={name}" for name in missing)
        raise UserError(
            f"{source}: needs parts of the module {', '.join(missing)}; add {flags}, or in Python "
            f"vatt_tf.load(..., modules={missing})"
        )
