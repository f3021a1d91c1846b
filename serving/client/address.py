"""Addresses that are no gRPC targets: URLs, and ports where REST answers."""

from __future__ import annotations

import socket

from vatt_tf.errors import UserError

SECONDS = 2.0  # for an answer of a port that a gRPC call did not get through to


def check_target(target: str) -> None:
    """Refuses a URL in the place of ``host:port``.

    Raises:
        UserError: With the address that may be meant.
    """
    for scheme in ("http://", "https://", "grpc://"):
        if target.lower().startswith(scheme):
            host = target[len(scheme) :].split("/")[0]
            name = host.rpartition(":")[0] or host
            raise UserError(
                f"{target}: expected host:port of the server's gRPC port without {scheme}, e.g. "
                f"{name}:8500 (REST has another port, often 8501)"
            )


def is_http_error(details: str) -> bool:
    """Whether gRPC says that an HTTP/1 server answered."""
    return "http1" in details.lower()


def answers_http(target: str) -> bool:
    """Whether an HTTP/1 server answers at ``host:port``."""
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        return False
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False
