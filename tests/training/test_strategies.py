"""The command under several replicas and several workers, each in processes of their own."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

NO_CHANCE = [
    f"{tower}.{name}=0.0"
    for tower in ("video_tower", "audio_tower")
    for name in ("dropout_rate", "position_dropout_rate", "drop_token_rate")
] + ["text_tower.dropout_rate=0.0"]


def start(gin_file, run_dir, *flags, **environment):
    bindings = [f"--gin_bindings={binding}" for binding in [*NO_CHANCE, "train.evaluate_every=3"]]
    command = [sys.executable, "-m", "vatt_tf.train", f"--gin_file={gin_file}", *bindings, *flags]
    return subprocess.Popen(
        [*command, f"--run_dir={run_dir}"],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses(run_dir):
    with open(f"{run_dir}/metrics.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def finish(*processes):
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    return outputs


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.mark.slow
def test_replicas_and_workers_train_as_one_device(gin_file, tmp_path):
    one, replicas, workers = (str(tmp_path / name) for name in ("one", "replicas", "workers"))
    finish(
        start(gin_file, one, "--strategy=one_device"),
        start(gin_file, replicas, "--strategy=mirrored", "--logical_cpus=2"),
    )
    assert losses(replicas) == pytest.approx(losses(one), rel=1e-4)

    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    configs = [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(2)
    ]
    finish(*(start(gin_file, workers, TF_CONFIG=config) for config in configs))
    assert losses(workers) == pytest.approx(losses(one), rel=1e-4)
    assert os.path.exists(f"{workers}/model.weights.h5")


def test_multi_worker_needs_its_cluster(gin_file, tmp_path):
    process = start(gin_file, tmp_path / "run", "--strategy=multi_worker", TF_CONFIG="")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2
    assert output.strip().splitlines()[-1].startswith("error: --strategy=multi_worker")
