"""Checks of addresses: URLs and REST ports are no gRPC targets."""

from __future__ import annotations

import socket

from vatt_tf.errors import UserError

SECONDS = 2.0  # timeout for the probe of a port after a failed gRPC call


def check_target(target: str) -> None:
    """Checks that an address is ``host:port`` and no URL.

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
    """Whether an error of gRPC means that an HTTP/1 server answered."""
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
