"""Addresses of servers: URLs and REST ports are no gRPC targets; TLS to them."""

from __future__ import annotations

import socket

import grpc

from vatt_tf import paths
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


def credentials(
    tls_ca: str | None, tls_cert: str | None = None, tls_key: str | None = None
) -> grpc.ChannelCredentials | None:
    """TLS credentials of PEM files; None without files: the connection is not encrypted.

    Args:
        tls_ca: Authority that the server's certificate must be of.
        tls_cert: Certificate of the client, where the server asks for one.
        tls_key: Its private key.

    Raises:
        UserError: If a file is missing or no PEM file.
    """
    if (tls_cert is None) != (tls_key is None):
        raise UserError("--tls_cert and --tls_key belong together: give both, or neither")
    if tls_ca is None and tls_cert is not None:
        raise UserError("--tls_cert needs --tls_ca, the authority of the server's certificate")
    if tls_ca is None:
        return None
    return grpc.ssl_channel_credentials(
        _pem("--tls_ca", tls_ca), _pem("--tls_key", tls_key), _pem("--tls_cert", tls_cert)
    )


def _pem(flag: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(paths.expand(path), "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"{flag}={path}: cannot be read: {error.strerror}") from error
    if b"-----BEGIN" not in content:
        raise UserError(
            f"{flag}={path}: expected a PEM file (-----BEGIN ...), found something else"
        )
    return content


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
