"""The command under several replicas and several workers, each in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.training.tiny import spread
from vatt_tf import config
from vatt_tf.models.io import save_weights
from vatt_tf.training.config import TrainConfig
from vatt_tf.training.pretrain import Pretraining

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


@pytest.mark.slow
def test_replicas_and_workers_train_as_one_device(gin_file, tmp_path):
    initial = spread_weights(gin_file, tmp_path / "initial")
    own = ["STEPS=10", "train.log_every=1", f"train.initial_weights={initial!r}"]
    flags = [f"--gin_bindings={binding}" for binding in own]
    one, replicas, workers = (str(tmp_path / name) for name in ("one", "replicas", "workers"))
    finish(
        start(gin_file, one, *flags, "--strategy=one_device"),
        start(gin_file, replicas, *flags, "--strategy=mirrored", "--logical_cpus=2"),
    )
    finish(start(gin_file, workers, *flags, "--workers=2"))
    for run_dir in (replicas, workers):
        assert losses(run_dir)[0] == pytest.approx(losses(one)[0], rel=1e-6)
        # BatchNorm over four clips magnifies rounding; test_replicas compares ten steps to 1e-6.
        assert losses(run_dir) == pytest.approx(losses(one), rel=5e-3)
    assert os.path.exists(f"{workers}/model.weights.h5")


def test_multi_worker_needs_its_cluster(gin_file, tmp_path):
    process = start(gin_file, tmp_path / "run", "--strategy=multi_worker", TF_CONFIG="")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2
    assert output.strip().splitlines()[-1].startswith("error: --strategy=multi_worker")
