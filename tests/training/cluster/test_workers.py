"""Workers: who they are, what they must share, what happens when one is gone."""

import json
import os
import signal
import socket
import sys
import threading
import time
import types

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.training import fingerprints
from vatt_tf.training.cluster import local_workers
from vatt_tf.training.cluster import workers as cluster

HOSTS = "host1:2222,host2:2222"


def test_flags_make_the_cluster_that_tf_config_describes(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", cluster.cluster_config(HOSTS, 1))
    expected = {"worker 0": "host1:2222", "worker 1": "host2:2222"}
    assert cluster.workers_in_environment() == (expected, "worker 1")
    monkeypatch.delenv("TF_CONFIG")
    assert cluster.workers_in_environment() == ({}, "")


@pytest.mark.parametrize(
    ("hosts", "index", "message"),
    [
        ("host1", 0, "'host1', expected HOST:PORT"),
        (f"{HOSTS},host1:2222", 0, "twice"),
        (HOSTS, 2, "--worker_index=2: expected .* 0 to 1"),
        (HOSTS, None, "--worker_index=None"),
    ],
)
def test_wrong_flags(hosts, index, message):
    with pytest.raises(UserError, match=message):
        cluster.cluster_config(hosts, index)


@pytest.mark.parametrize("text", ["{", "[1]", '{"cluster": {"worker": ["a:1", "b:1"]}}'])
def test_unreadable_tf_config(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG=.*cannot be read.*host1:2222"):
        cluster.workers_in_environment()


@pytest.fixture
def left(monkeypatch):
    """What the watch left with, and an event for it; it looks every few milliseconds."""
    found = types.SimpleNamespace(event=threading.Event(), message="", code=0)

    def leave(message, code):
        found.message, found.code = message, code
        found.event.set()

    monkeypatch.setattr(cluster, "leave", leave)
    monkeypatch.setattr(cluster, "_INTERVAL", 0.01)
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    return found


def test_watch_leaves_when_a_worker_that_was_there_is_gone(left):
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    workers = {"worker 0": "127.0.0.1:1", "worker 1": address}
    with cluster.PeerWatch(workers, "worker 0", "runs/a"):
        listener.accept()[0].close()
        assert not left.event.is_set()
        listener.close()
        assert left.event.wait(60)
    assert left.code == 3
    assert left.message.startswith(f"error: worker 1 ({address}) is gone")
    assert "start the same command on all hosts again" in left.message and "runs/a" in left.message


def test_watch_waits_for_a_worker_that_has_not_come_yet(left, monkeypatch):
    (port,) = local_workers.free_ports(1)
    workers = {"worker 0": "127.0.0.1:1", "worker 1": f"127.0.0.1:{port}"}
    with cluster.PeerWatch(workers, "worker 0", "runs/a"):
        assert not left.event.wait(0.3)
        monkeypatch.setattr(cluster, "_START", 0.0)
        assert left.event.wait(60)
    assert "worker 1" in left.message and "has not come within" in left.message


def test_after_an_error_the_watch_says_whether_a_worker_is_gone(left):
    (port,) = local_workers.free_ports(1)
    workers = {"worker 0": "127.0.0.1:1", "worker 1": f"127.0.0.1:{port}"}
    with pytest.raises(RuntimeError), cluster.PeerWatch(workers, "worker 0", "runs/a"):
        raise RuntimeError("collective aborted")
    assert "worker 1" in left.message and "is gone" in left.message


def run_script(script, count=2):
    return local_workers.run_workers([sys.executable, "-c", script], count)


def test_local_workers_have_a_cluster_and_a_prefix(capfd):
    assert run_script("import os; print(os.environ['TF_CONFIG'], flush=True)") == 0
    output = capfd.readouterr()  # of the whole process: TensorFlow's threads may log
    lines = [line for line in (output.out + output.err).splitlines() if '"cluster"' in line]
    first, second = sorted(lines, key=lambda line: line.startswith("[worker 1] "))
    assert second.startswith("[worker 1] ")
    configs = [json.loads(first), json.loads(second.removeprefix("[worker 1] "))]
    assert configs[0]["cluster"] == configs[1]["cluster"]
    assert [config["task"]["index"] for config in configs] == [0, 1]


def test_local_workers_stop_all_when_one_fails(monkeypatch):
    monkeypatch.setattr(local_workers, "_GRACE", 0.2)
    script = (
        "import os, sys, time; time.sleep(3600 * ('\"index\": 0' in os.environ['TF_CONFIG'])); "
    )
    assert run_script(script + "sys.exit(7)") == 7
    assert run_script(script + "os.kill(os.getpid(), 9)") == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_local_workers_hand_signals_on(tmp_path, number):
    """Each worker ends by itself, with its own code, when the starter is asked to stop."""
    script = (
        "import os, pathlib, signal, sys, time; "
        f"signal.signal({int(number)}, lambda *_: sys.exit(75)); "
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(3600)"
    )

    def ask():
        while len(os.listdir(tmp_path)) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=ask)
    thread.start()
    assert run_script(script) == 75
    thread.join()


def test_a_signal_before_all_workers_are_started_reaches_each_once():
    sent = []
    workers = []
    with local_workers._hand_on(workers, 2) as hand_on_early:
        workers.append(types.SimpleNamespace(send_signal=sent.append))
        signal.raise_signal(signal.SIGINT)
        assert not sent
        workers.append(types.SimpleNamespace(send_signal=sent.append))
        hand_on_early()
    assert sent == [signal.SIGINT, signal.SIGINT]


def check(monkeypatch, own, other):
    """Two workers' comparison as worker 0 makes it."""

    def gather(strategy, rows):
        own_row = np.frombuffer(json.dumps(own).encode(), np.uint8)
        row = np.frombuffer(json.dumps(other).encode(), np.uint8)
        if rows.ndim == 1:  # the lengths
            return np.array([own_row.size, row.size], np.int32)
        width = max(own_row.size, row.size)
        assert rows.shape == (1, width)
        return np.concatenate([rows, np.pad(row, (0, width - row.size))[None].astype(np.int32)])

    monkeypatch.setattr(fingerprints, "_gather", gather)
    monkeypatch.setattr(
        fingerprints.tf.distribute, "MultiWorkerMirroredStrategy", types.SimpleNamespace
    )
    fingerprints.check_workers(types.SimpleNamespace(), own)


def test_a_worker_with_another_configuration_is_refused(monkeypatch):
    own = {"train.steps": "10", "version of TensorFlow": "2.20.0"}
    check(monkeypatch, own, own)
    with pytest.raises(UserError) as error:
        check(monkeypatch, own, {**own, "train.steps": "20", "more": "1"})
    assert "worker 1: more is 1, on worker 0 not there; train.steps is 20, on worker 0 10" in str(
        error.value
    )
    assert "worker 0:" not in str(error.value) and "version of" not in str(error.value)
