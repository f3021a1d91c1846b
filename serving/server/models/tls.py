"""TLS of the server: reads TensorFlow Serving's --ssl_config_file."""

from __future__ import annotations

import os
import ssl
import tempfile

from vatt_tf.errors import UserError
from vatt_tf.serving.server.models import config_files
from vatt_tf.serving.server.models.options import TlsOptions


def read(path: str | os.PathLike) -> TlsOptions:
    """Reads an --ssl_config_file; its fields hold PEM text, not paths.

    Raises:
        UserError: If it cannot be read, or key and certificate are missing or do not belong
            together.
    """
    message = config_files.read_ssl(path)
    for field in ("server_key", "server_cert"):
        if "-----BEGIN" not in getattr(message, field):
            raise UserError(
                f"{path}: {field}: expected the text of a PEM file (-----BEGIN ...), found "
                f"{'none' if not getattr(message, field) else 'something else'}"
            )
    if message.client_verify and not message.custom_ca:
        raise UserError(
            f"{path}: client_verify needs custom_ca, the PEM text of the clients' authority"
        )
    options = TlsOptions(
        message.server_key.encode(),
        message.server_cert.encode(),
        message.custom_ca.encode() or None,
        message.client_verify,
    )
    try:
        server_context(options)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"{path}: key and certificates cannot be used: {error}") from error
    return options


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """Context of the REST port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Python takes a key from a file only; this one nobody else can read, and it is gone at once.
    with tempfile.NamedTemporaryFile() as file:
        file.write(options.key + b"\n" + options.certificate)
        file.flush()
        context.load_cert_chain(file.name)
    if options.client_ca is not None:
        context.load_verify_locations(cadata=options.client_ca.decode())
    if options.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
