"""Encrypted ports, with a certificate authority of the tests' own."""

from __future__ import annotations

import json
import ssl
import urllib.request

import grpc
import pytest

from tests.serving.server.double import PATIENCE, request
from vatt_tf.errors import UserError
from vatt_tf.serving.client import command
from vatt_tf.serving.client.address import credentials
from vatt_tf.serving.server.embedded import start_server
from vatt_tf.serving.server.models import tls

trustme = pytest.importorskip("trustme")
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """Files of an authority and of the certificates that it has given to server and client."""
    folder = tmp_path_factory.mktemp("pems")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("localhost", "client"):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other_ca.pem")
    return folder


def write_config(pems, path, **changes):
    """An --ssl_config_file of the server; PEM text in its fields."""
    files = {"server_key": "localhost.key", "server_cert": "localhost.pem", "custom_ca": "ca.pem"}
    fields = {name: json.dumps((pems / file).read_text()) for name, file in files.items()}
    fields.update(changes)
    path.write_text("\n".join(f"{name}: {value}" for name, value in fields.items() if value))
    return path


@pytest.fixture(params=[False, True], ids=["server", "both"])
def served(models, pems, tmp_path, request):
    file = write_config(pems, tmp_path / "ssl.config", client_verify=str(request.param).lower())
    with start_server(models, tls=tls.read(file)) as server:
        yield server, request.param


def test_grpc_and_rest(served, pems):
    server, verifies = served
    ca, cert, key = (str(pems / name) for name in ("ca.pem", "client.pem", "client.key"))

    def ask(files):
        with grpc.secure_channel(f"localhost:{server.port}", credentials(*files)) as channel:
            return channel.unary_unary(PREDICT)(request(1.0).SerializeToString(), timeout=PATIENCE)

    def ask_rest(files):
        context = ssl.create_default_context(cafile=files[0])
        if len(files) > 1:
            context.load_cert_chain(files[1], files[2])
        url = f"https://localhost:{server.rest_port}/v1/models/double"
        with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as reply:
            return reply.status

    full = (ca, cert, key)
    assert ask(full) and ask_rest(full) == 200
    wrong = [(str(pems / "other_ca.pem"),), *([(ca,)] if verifies else [])]
    for files in wrong:
        with pytest.raises(grpc.RpcError) as caught:
            ask(files)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with pytest.raises(OSError):
            ask_rest(files)
    if not verifies:
        assert ask((ca,)) and ask_rest((ca,)) == 200


def test_flags_of_the_client(served, pems, capsys):
    server, _ = served
    flags = ["text", "a", f"--server=localhost:{server.port}", "--timeout=5"]
    files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
    flags += [f"--tls_{name}={pems / file}" for name, file in files.items()]
    assert command.main(flags) == 2
    # It gets through; this server has another model.
    assert "Servable not found for request: Latest(text)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"server_key": None}, "server_key: expected the text of a PEM file .*found none"),
        ({"server_cert": '"/etc/server.pem"'}, "server_cert: expected the text.*something else"),
        ({"custom_ca": None, "client_verify": "true"}, "client_verify needs custom_ca"),
        ({"server_key": '"-----BEGIN PRIVATE KEY-----"'}, "cannot be used"),
        ({"ssl": "true"}, 'no field named "ssl"'),
    ],
)
def test_wrong_files(pems, tmp_path, changes, part):
    with pytest.raises(UserError, match=part) as caught:
        tls.read(write_config(pems, tmp_path / "ssl.config", **changes))
    assert str(tmp_path / "ssl.config") in str(caught.value)


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ((None, "a", None), "--tls_cert and --tls_key belong together"),
        ((None, "a", "b"), "--tls_cert needs --tls_ca"),
        (("/no/file", None, None), "--tls_ca=/no/file: cannot be read"),
        (("no.pem", None, None), "--tls_ca=no.pem: expected a PEM file"),
    ],
)
def test_wrong_flags_of_the_client(files, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.pem").write_text("a certificate")
    with pytest.raises(UserError, match=part):
        credentials(*files)
