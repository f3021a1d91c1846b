"""The command under several replicas and several workers, each in processes of their own."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from tests.conftest import CHECKOUT
from tests.training.test_run import assert_same_checkpoints
from tests.training.tiny import spread
from vatt_tf import config
from vatt_tf.models.io import save_weights
from vatt_tf.training.cluster.local_workers import free_ports
from vatt_tf.training.cluster.workers import WORKER_LOST
from vatt_tf.training.tasks.config import TrainConfig
from vatt_tf.training.tasks.pretrain import Pretraining

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


def spread_weights(gin_file, folder):
    """Initial weights that tell clips apart, for the configured model."""
    config.import_configurables()
    config.parse([gin_file], [])
    task = Pretraining(TrainConfig())
    folder.mkdir()
    task.describe(str(folder))
    save_weights(str(folder), spread(task.model(), 0))
    return str(folder)


@pytest.mark.check
def test_two_workers_train_as_one_device_also_when_one_is_killed(gin_file, tmp_path):
    initial = spread_weights(gin_file, tmp_path / "initial")
    bindings = ["STEPS=10", "train.log_every=1", f"train.initial_weights={initial!r}"]
    flags = [f"--gin_bindings={binding}" for binding in bindings]
    one, whole, parts = (str(tmp_path / name) for name in ("one", "whole", "parts"))
    finish(
        start(gin_file, one, *flags, "--strategy=one_device"),
        start(gin_file, whole, *flags, "--workers=2"),
    )
    assert losses(whole) == pytest.approx(losses(one), rel=5e-6)
    assert os.path.exists(f"{whole}/model.weights.h5")

    # The same on two "hosts", worker 1 of which is killed after the first checkpoint.
    hosts = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    own = [*flags, f"--worker_hosts={hosts}"]
    workers = [start(gin_file, parts, *own, f"--worker_index={index}") for index in (0, 1)]
    while not os.path.exists(f"{parts}/checkpoints/checkpoint"):
        time.sleep(0.01)
        assert all(worker.poll() is None for worker in workers)
    workers[1].kill()
    killed = time.monotonic()
    output = workers[0].communicate(timeout=500)[0]
    assert time.monotonic() - killed < 60
    assert workers[0].returncode == WORKER_LOST, output[-3000:]
    assert re.search(r"error: worker 1 \(127.0.0.1:\d+\) is gone: .*start the same", output)

    (output,) = finish(start(gin_file, parts, *flags, "--workers=2"))
    assert re.search(r"continues after step \d+ of 10", output)
    assert losses(parts) == losses(whole)
    assert_same_checkpoints(whole, parts)


def test_multi_worker_needs_its_cluster(gin_file, tmp_path):
    process = start(gin_file, tmp_path / "run", "--strategy=multi_worker", TF_CONFIG="")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2
    assert output.strip().splitlines()[-1].startswith("error: --strategy=multi_worker")
