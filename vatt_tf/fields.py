"""Checks and JSON form of the fields of configuration dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from vatt_tf.errors import UserError, value_text


def fail(name: str, value: Any, expected: str) -> NoReturn:
    """Reports a wrong value under its gin name."""
    raise UserError(f"{name} = {value_text(value)}: expected {expected}")


def check_positive(name: str, value: Any) -> None:
    """Checks that a value is a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        fail(name, value, "a positive whole number")


def check_rate(name: str, value: Any) -> None:
    """Checks that a value is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        fail(name, value, "a number in [0, 1)")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Checks that a value is one of the choices."""
    if value not in choices:
        fail(name, value, f"one of {', '.join(repr(choice) for choice in choices)}")


def check_flag(name: str, value: Any) -> None:
    """Checks that a value is True or False."""
    if not isinstance(value, bool):
        fail(name, value, "True or False")


def as_sizes(name: str, value: Any, length: int) -> tuple[int, ...]:
    """Checks some positive whole numbers and makes them a tuple (JSON and gin give lists)."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != length:
        fail(name, value, f"{length} positive whole numbers")
    for number in value:
        check_positive(name, number)
    return tuple(value)


def set_field(instance: Any, field: str, value: Any) -> None:
    """Sets a field of a frozen dataclass while it is being made."""
    object.__setattr__(instance, field, value)


def added_later(default: Any) -> Any:
    """A field that older files do not have: they mean the default."""
    return dataclasses.field(default=default, metadata={"added_later": True})


def made_from(part: type, values: Any, where: str) -> Any:
    """Makes a dataclass from a dict that has exactly its fields, so that gin adds nothing."""
    if not isinstance(values, Mapping):
        raise UserError(f"model config: {where} is {value_text(values)}, expected an object")
    later = [field for field in dataclasses.fields(part) if field.metadata.get("added_later")]
    values = {field.name: field.default for field in later} | dict(values)
    names = {field.name for field in dataclasses.fields(part)}
    unknown, missing = set(values) - names, names - set(values)
    if unknown or missing:
        raise UserError(
            f"model config: {where} has unknown keys {sorted(unknown)} and lacks "
            f"{sorted(missing)}; was it written by another version?"
        )
    return part(**values)


class AsDict:
    """Gives a configuration dataclass its JSON form."""

    def to_dict(self: Any) -> dict[str, Any]:
        """JSON form: dicts, lists and numbers."""
        return _plain(dataclasses.asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
