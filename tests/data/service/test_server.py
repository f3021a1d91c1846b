"""Data services: the same batches as reading locally, clear errors when one is not there."""

import itertools
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.data.records import example, numbered, spec, write_shards
from vatt_tf.data.input import service_client
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.pipeline import training_dataset
from vatt_tf.data.input.service_client import ServiceLostError
from vatt_tf.data.service import server as service
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.errors import UserError

# Little to set up; clips are the subject of test_pipeline.py.
SMALL = spec(texts=1)
PLAIN = Augmentation(crop="random", colour_probability=0)
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "caption", "number", *map(str, range(12)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(numbered(tmp_path_factory.mktemp("shards"), 12, shards=2))


@pytest.fixture
def services():
    servers = [service.start_server("localhost") for _ in range(3)]
    return [dispatcher.target.split("://")[1] for dispatcher, _ in servers], servers


def read(folder, count, **settings):
    tokenizer = WordTokenizer(WORDS, max_tokens=SMALL.tokens)
    settings = {"batch_size": 4, "seed": 3} | settings
    dataset = training_dataset(folder, SMALL, tokenizer, PLAIN, **settings)
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.check
def test_batches_are_those_of_reading_locally(folder, services):
    addresses, _ = services
    local = read(folder, 7)
    assert_equal(read(folder, 7, services=addresses), local)
    # Resumed, by two trainers that ask the same services for their rows.
    settings = {"batch_size": 2, "num_workers": 2, "services": addresses[:2], "start_step": 4}
    halves = [read(folder, 3, worker_index=i, **settings) for i in (0, 1)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves, strict=True)]
    assert_equal(joined, local[4:])


def test_damage_is_told_as_when_reading_locally(tmp_path, services):
    addresses = services[0][:1]
    shards = str(write_shards(tmp_path, [example(0), example(1, waveform=np.full(800, np.nan))]))
    with pytest.raises(UserError, match="record 1 .*NaN or infinite"), read_errors(shards):
        list(service_client.watched(iter(read(shards, 2, services=addresses)), addresses))
    batch = read(shards, 1, services=addresses, tolerate_damage=True)[0]
    assert batch["damaged"].tolist() == (batch["record_id"] == 1).tolist()


def test_no_service_is_an_error_that_says_how_to_start_it(folder, monkeypatch):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    monkeypatch.setattr(service_client, "ANSWER_SECONDS", 0.5)
    with pytest.raises(ServiceLostError) as error:
        service_client.check_services([address])
    for part in (
        address,
        "vatt_tf.data.service --port=" + address.split(":")[1],
        "within 0.5 s",
    ):
        assert part in str(error.value)
    monkeypatch.setattr(service_client, "check_services", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # asked before anything is sent
        read(folder, 1, services=[address])


def test_a_service_that_dies_is_an_error_and_no_hang(monkeypatch):
    """The iterator blocks as TensorFlow's client does."""
    monkeypatch.setattr(service_client, "_PATIENCE_SECONDS", 0.05)
    dead, blocked = threading.Event(), threading.Event()

    def batches():
        yield 1
        yield 2
        dead.set()
        blocked.wait()

    def check(addresses):
        if dead.is_set():
            raise ServiceLostError(f"no data service at {addresses[0]}")

    monkeypatch.setattr(service_client, "check_services", check)
    watched = service_client.watched(batches(), ["host:1"])
    assert next(watched) == 1 and next(watched) == 2
    with pytest.raises(ServiceLostError, match="host:1"):
        next(watched)
    blocked.set()
    assert list(service_client.watched(iter([1, 2]), ["host:1"])) == [1, 2]
    assert list(service_client.watched(iter([1, 2]), [])) == [1, 2]


def test_a_closed_iterator_leaves_no_thread():
    """A thread in TensorFlow's code while the interpreter shuts down aborts the process."""
    before = set(threading.enumerate())
    for _ in range(20):
        watched = service_client.watched(itertools.count(), ["host:1"])
        assert next(watched) == 0
        watched.close()
        assert set(threading.enumerate()) <= before


@pytest.mark.check
def test_command_serves_until_it_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(service_client, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(service_client, "ANSWER_SECONDS", 1.0)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vatt_tf.data.service", f"--port={port}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith(f"data services: localhost:{port} ")
        addresses = [f"localhost:{port}"]
        arguments = {"sources": folder, "spec": SMALL, "tokenizer": None, "augmentation": PLAIN}
        dataset = service.service_dataset(addresses, **arguments, batch_size=4)
        batches = service_client.watched(iter(dataset), addresses)
        assert next(batches)["video"].shape[0] == 4
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "data services: stopped\n"
        with pytest.raises(ServiceLostError, match=addresses[0]):
            for _ in range(100):  # a few are on the way
                next(batches)
        assert f"the ports {port} to {port + 1} listen on all interfaces" in process.stderr.read()
    assert process.returncode == 0


def test_a_port_on_which_another_service_listens_is_refused(capsys, monkeypatch):
    """gRPC sets SO_REUSEPORT: two services would share the calls of a trainer."""
    monkeypatch.setattr(service.multiprocessing, "get_context", lambda *_: 1 / 0)  # not started
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        assert service.main([f"--port={port - 1}"]) == 2  # the second of its two ports
    assert f"the port {port} cannot be used (Address already in use)" in capsys.readouterr().err


def test_another_host_needs_allow_remote(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        service.main(["--host=10.0.0.7"])
    assert stop.value.code == 2 and "then add --allow_remote" in capsys.readouterr().err
    monkeypatch.setattr(service, "_serve", lambda flags: 0)
    assert service.main(["--host=10.0.0.7", "--allow_remote"]) == 0


def test_flags(capsys):
    for flag in ("--port=0", "--workers=x", "--prot=1"):
        with pytest.raises(SystemExit) as stop:
            service.main([flag])
        assert stop.value.code == 2 and flag[:4] in capsys.readouterr().err
