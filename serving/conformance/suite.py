"""Registry of the conformance cases: name, promise, requirements and check of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from vatt_tf.serving.conformance.cases.connection import Reply, Server

# Requirements of cases: a REST address; the models folder, to change versions in it; a server with
# batching; a server without batching.
NEEDS = ("rest", "models", "batching", "no batching")


class Disagreement(Exception):
    """Raised when a server breaks a promise; the message has the expected and the found."""


class NotApplicable(Exception):
    """Raised when the server was started without a requirement; the message names it."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Case: one promise.

    Attributes:
        name: ``group/case``.
        promise: The sentence that must be true of the server.
        check: Raises Disagreement if it is not.
        needs: Members of NEEDS.
    """

    name: str
    promise: str
    check: Callable[[Server], None]
    needs: frozenset[str]


class Group:
    """Cases of one subject, in the order of their definition."""

    def __init__(self, name: str, *needs: str):
        self.name = name
        self.cases: list[Case] = []
        self._needs = _known(needs)

    def case(self, *needs: str) -> Callable[[Callable[[Server], None]], Callable[[Server], None]]:
        """Registers a function as a case; its docstring is the promise."""

        def register(check: Callable[[Server], None]) -> Callable[[Server], None]:
            assert check.__doc__, check.__name__
            self.cases.append(
                Case(
                    name=f"{self.name}/{check.__name__}",
                    promise=" ".join(check.__doc__.split()),
                    check=check,
                    needs=self._needs | _known(needs),
                )
            )
            return check

        return register


def accepted(reply: Reply) -> Any:
    """Returns the response of a call that must succeed."""
    if reply.code is not grpc.StatusCode.OK:
        raise Disagreement(f"expected OK, found {reply.code.name} {reply.message!r}")
    return reply.response


def refused(
    reply: Reply, code: grpc.StatusCode, message: str | None = None, *, parts: Iterable[str] = ()
) -> None:
    """Checks the code of a call that must fail, and its whole message or parts of it."""
    if reply.code is not code or (message is not None and reply.message != message):
        wanted = code.name if message is None else f"{code.name} {message!r}"
        raise Disagreement(f"expected {wanted}, found {reply.code.name} {reply.message!r}")
    for part in parts:
        if part not in reply.message:
            raise Disagreement(f"expected {part!r} in the message, found {reply.message!r}")


def equal(found: Any, expected: Any, what: str) -> None:
    """Checks a value."""
    if found != expected:
        raise Disagreement(f"{what}: expected {expected!r}, found {found!r}")


def _known(needs: Iterable[str]) -> frozenset[str]:
    unknown = set(needs) - set(NEEDS)
    if unknown:
        raise ValueError(f"unknown needs {sorted(unknown)}, known are {NEEDS}")
    return frozenset(needs)
