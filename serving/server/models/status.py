"""Errors that a client sees: a gRPC status code and a message, the same over gRPC and REST."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import NoReturn

import grpc

# A longer message is cut, so that it fits into the trailing metadata of a reply.
_MAX_MESSAGE_BYTES = 1024
_TRUNCATED = "...TRUNCATED"

Code = grpc.StatusCode

# Numbers of the codes as they stand in protocol buffers (GetModelStatus) and in TensorFlow errors.
_NUMBER_TO_CODE = {code.value[0]: code for code in Code}

# Whether the client of the call in this thread still waits for it.
CLIENT_WAITS: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar(
    "client_waits", default=lambda: True
)
# How often a call that waits looks whether its client does, too.
LOOK_SECONDS = 0.25

HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class ServingError(Exception):
    """Raised when a request or the loading of a version fails.

    Attributes:
        code: Status code.
        message: The message, without the code.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def number(self) -> int:
        """The code as it stands in protocol buffers."""
        return self.code.value[0]

    @property
    def wire_message(self) -> str:
        """The message as it is sent over gRPC: at most 1024 bytes of UTF-8."""
        encoded = self.message.encode("utf-8", "replace")
        cut = encoded[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore")
        return cut if len(encoded) <= _MAX_MESSAGE_BYTES else cut + _TRUNCATED


def invalid(message: str) -> NoReturn:
    """Raises INVALID_ARGUMENT, by far the most frequent answer to a bad request."""
    raise ServingError(Code.INVALID_ARGUMENT, message)


def check_client_waits() -> None:
    """Raises CANCELLED where nobody waits for the call of this thread any more."""
    if not CLIENT_WAITS.get()():
        raise ServingError(Code.CANCELLED, "the client has given the call up")


def from_exception(error: Exception) -> ServingError:
    """Converts an exception of TensorFlow to its status.

    Args:
        error: A ``tf.errors.OpError`` (has the code of the kernel that failed) or any other
            exception, which becomes INTERNAL.
    """
    if isinstance(error, ServingError):
        return error
    code = _NUMBER_TO_CODE.get(getattr(error, "error_code", None))
    if code is not None:
        return ServingError(code, str(getattr(error, "message", error)))
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, f"out of memory: {error}")
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
