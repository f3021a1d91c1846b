"""No line of TensorFlow, XLA, absl or gRPC stands among ours; each test is a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.data.records import numbered
from tests.test_api import write_video

pytestmark = pytest.mark.check

API = """
import pathlib, sys
import vatt_tf

weights, video, shards, out = map(pathlib.Path, sys.argv[1:])
try:
    vatt_tf.load("/no/such/run")
except vatt_tf.errors.UserError:
    pass
embedder = vatt_tf.load(str(weights))
embedder.embed_text(["a red circle"])
embedder.embed_video([str(video)])

import vatt_tf.export
vatt_tf.export.export_models(weights, out)
vatt_tf.export.load(out).embed_video([str(video)])

# XLA compiles the change of colours, here and in a data service.
from tests.data.service.test_server import SMALL, WORDS
from vatt_tf.data.service import server as service
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.pipeline import training_dataset
from vatt_tf.data.text.tokenizer import WordTokenizer
server = service.start_server("localhost")
for services in ((), [server[0].target.split("://")[1]]):
    batches = iter(training_dataset(
        str(shards), SMALL, WordTokenizer(WORDS, max_tokens=SMALL.tokens),
        Augmentation(crop="random", colour_probability=1.0), batch_size=4, services=services))
    next(batches)
del server  # the client's heartbeats fail from now on
import time
time.sleep(3)
"""

CLIENTS = """
import socket, threading
from vatt_tf.errors import UserError
from vatt_tf.serving.client.client import Client
from tests.serving import fake_server

def ask(client):
    try:
        client.embed_text(["a"])
    except UserError:
        print("refused")

def answer_as_tls():
    while True:
        connection, _ = listener.accept()
        connection.sendall(bytes.fromhex("15030300020246"))  # the alert to a client without TLS
        connection.close()

listener = socket.create_server(("localhost", 0))
threading.Thread(target=answer_as_tls, daemon=True).start()
for port in (1, listener.getsockname()[1]):
    with Client(f"localhost:{port}", timeout=2) as client:
        ask(client)
serving = fake_server.serve()
with Client(f"localhost:{next(serving).port}", timeout=2) as client:
    client.embed_text(["a"])
    next(serving, None)  # the server goes away
    ask(client)
"""


# As in a shell in which nobody has silenced anything.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY")
}
OWN_LINE = re.compile(r"\S+ \S+ [IWE] vatt_tf\.")


def run(*command) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        timeout=300,
    )


def test_the_python_api(weights_folder, tmp_path):
    write_video(tmp_path / "a.mp4", [10] * 12)
    shards = numbered(tmp_path / "shards", 12, shards=2)
    done = run("-c", API, weights_folder, tmp_path / "a.mp4", shards, tmp_path / "models")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_clients_of_servers_that_are_not_there():
    done = run("-c", CLIENTS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n" * 3, "")


def test_the_server(exported_models, tmp_path):
    command = [sys.executable, "-m", "vatt_tf.serving", f"--models={exported_models}", "--port=0"]
    with subprocess.Popen(
        [*command, "--host=localhost"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as server:
        try:
            address = re.search(r" at (\S+)", server.stdout.readline()).group(1)
            asked = run("-m", "vatt_tf.serving.client", "text", "a", f"--server={address}")
        finally:
            server.terminate()
        printed = server.stderr.read()
    assert asked.returncode == 0 and asked.stderr == ""
    assert printed and all(OWN_LINE.match(line) for line in printed.splitlines()), printed
