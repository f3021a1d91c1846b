"""The benchmark command: figures that follow from each other, and refusals before TensorFlow."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from tests.conftest import CHECKOUT
from vatt_tf import config
from vatt_tf.benchmark import main
from vatt_tf.benchmarking.batches import read_config, synthetic_batch
from vatt_tf.benchmarking.compared import ROWS
from vatt_tf.benchmarking.measure import part_names
from vatt_tf.benchmarking.report import report
from vatt_tf.benchmarking.table import Timing, duration, whole_run
from vatt_tf.benchmarking.worker import Worker
from vatt_tf.errors import UserError
from vatt_tf.models.features import pooled_features

# The smallest model that the plain reference has too.
CONFIG = """
include 'tiny.gin'
TRAIN_DATA = 'not/there'
STEPS = 1000
BATCH_SIZE = 4
MICRO_BATCH_SIZE = 2
audio_tower.input = 'waveform'
audio_tower.patch = 128
audio_tower.samples = 2048
video_tower.frames = 4
video_tower.image_size = (32, 32)
video_tower.num_layers = 1
audio_tower.num_layers = 1
text_tower.num_layers = 1
"""


def benchmark(*flags):
    command = [sys.executable, "-m", "vatt_tf.benchmark", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)


@pytest.fixture(scope="module")
def gin_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "small.gin"
    file.write_text(CONFIG)
    return file


@pytest.mark.check
def test_everything_beside_the_reference(gin_file, tmp_path):
    out = tmp_path / "new" / "figures.json"
    flags = ["--compare=reference", "--rounds=1", "--price_per_hour=3.6", f"--out={out}"]
    flags.append("--parts=peak,forward/text,train/audio,export,step,input,run")
    found = benchmark(f"--gin_file={gin_file}", *flags)
    assert found.returncode == 0, found.stderr
    results = json.loads(out.read_text())
    rows = {(row["part"], row["variant"]): row for row in results["rows"]}
    towers = {"forward/text", "train/audio", "export/video", "export/audio"}
    compared = towers | {"step", "input"}
    assert {part for part, _ in rows} == compared | {"peak", "run"}
    assert {part for part, variant in rows if variant == "reference"} == compared
    assert results["output_difference"]["float32"] < 1e-5
    step = rows["step", "float32"]
    assert step["clips_per_second"] == pytest.approx(4 / step["seconds"])
    assert 0 < step["mfu"] < 1.5 and results["peaks"]["float32"] > 1e9
    assert step["peak_bytes"] > 1e8
    assert step["peak_bytes"] > step["passing_bytes"] > 1e5
    assert 0 <= rows["run", "float32"]["waiting"] <= 1
    estimate = results["estimates"]["float32"]
    assert estimate["seconds"] == pytest.approx(1000 * rows["run", "float32"]["seconds"])
    assert estimate["cost"] == pytest.approx(estimate["seconds"] * 1e-3)
    assert [row["micro_batch_size"] for row in estimate["memory"]] == [1, 2, 4]
    assert results["configuration"]["data"] == "noise"
    assert "JPEG noise instead" in found.stdout
    lines = found.stdout.splitlines()
    assert {"step", "the", "package", "reference"} <= set(" ".join(lines).split())


@pytest.mark.check
def test_the_ablation(gin_file, tmp_path):
    out = tmp_path / "figures.json"
    flags = ["--compare=ablation,checkout:.", "--parts=step", "--rounds=1", f"--out={out}"]
    found = benchmark(f"--gin_file={gin_file}", "--precision=mixed_bfloat16", *flags)
    assert found.returncode == 0, found.stderr
    ratios = {row["beside"]: row for row in json.loads(out.read_text())["ratios"]}
    assert list(ratios) == ["mixed_bfloat16", *ROWS.values(), CHECKOUT.name]
    assert ratios["mixed_bfloat16"]["median"] == 1.0
    assert ratios["mixed_bfloat16"]["lines"] == ratios[CHECKOUT.name]["lines"]
    lines = [ratios[name]["lines"] for name in ROWS.values()]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts=step,stpe"], "--parts=step,stpe: 'stpe' is none of peak, towers, export, step"),
        (["--precision=float16"], "'float16' is none of float32, mixed_bfloat16"),
        (["--rounds=0"], "expected a whole number >= 1"),
        (["--price_per_hour=-1"], "expected a number > 0"),
        (["--compare=itself"], "'itself' is none of reference, plain, ablation, checkout:FOLDER"),
        (["--compare=plain", "--gin_bindings=BATCH_SIZE=2"], "--compare=plain: the step is plain"),
        (["--compare=plain,plain"], "--compare=plain,plain: two are called plain step"),
        (["--compare=checkout:docs"], "docs holds no vatt_tf/benchmarking/worker.py, expected"),
    ],
)
def test_wrong_flags(gin_file, flags, message, capsys):
    config.clear()
    try:
        code = main([f"--gin_file={gin_file}", *flags])
    except SystemExit as end:
        code = end.code
    errors = capsys.readouterr().err
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_single_parts():
    run = SimpleNamespace(model_config=SimpleNamespace(towers={"audio": None, "text": None}))
    towers = ["forward/audio", "forward/text", "train/audio", "train/text"]
    assert list(part_names(run, ["towers", "step"])) == [*towers, "step"]
    assert list(part_names(run, ["export", "train/text"])) == ["export/audio", "train/text"]
    with pytest.raises(UserError, match="train/video: the model has no such tower, but audio"):
        list(part_names(run, ["train/video"]))


def test_ratios_are_taken_round_by_round():
    ours = Timing("step", "float32", [1.0, 2.0, 4.0], peak_bytes=4, ready=12.0)
    its = Timing("step", "reference", [2.0, 3.0, 4.0], peak_bytes=6, ready=8.0)
    its.beside = ours.seconds
    row = its.compared(ours)
    assert (row["median"], row["least"], row["most"]) == (1.5, 1.0, 2.0)
    its.clips, ours.clips = 1, 2  # half of the clips in 1.5 times the time
    assert its.compared(ours)["median"] == 3.0
    # Of the time until a part is ready, one of its two runs belongs to the second.
    assert (row["memory"], row["first"]) == (1.5, 0.5)


def test_rows():
    peaks = [4e9, 4e9, 2e9]
    row = Timing("step", "float32", [2.0, 4.0, 3.0], flops=6e9, clips=12, peaks=peaks).row()
    assert (row["seconds"], row["fastest"], row["slowest"]) == (3.0, 2.0, 4.0)
    assert row["clips_per_second"] == 4.0
    assert row["mfu"] == 0.75  # Round by round: 0.75, 0.375 and 1.
    assert Timing("step", "float32", [1.0], flops=1.0).row()["mfu"] is None


def test_the_whole_run():
    assert whole_run(100, 36.0, 2.0) == {"steps": 100, "seconds": 3600.0, "cost": 2.0}
    assert "cost" not in whole_run(100, 36.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (90, "90.00 s"), (600, "10.0 min"), (9e4, "25.0 h"), (9e5, "10.4 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_report_says_when_nothing_fits():
    memory = [{"micro_batch_size": 1, "bytes": 9.5e9}]
    results = {
        "machine": {
            "gpus": [],
            "processor": "",
            "cores": 2,
            "tensorflow": "2",
            "memory_bytes": 1e10,
        },
        "configuration": {
            "gin_files": ["a.gin"],
            "batch_size": 1,
            "micro_batch_size": 1,
            "data": "x",
        },
        "peaks": {},
        "rows": [Timing("step", "float32", [1.0]).row()],
        "ratios": [],
        "estimates": {"float32": {"steps": 10, "seconds": 10.0, "memory": memory}},
    }
    assert "In 10.0 GB fits none of them." in report(results)


@pytest.mark.check
def test_products_in_bfloat16_are_no_float32(gin_file):
    config.clear()
    run = read_config([str(gin_file)], [])
    before = keras.config.dtype_policy()
    try:
        worker = Worker(dataclasses.replace(run, precision="mixed_bfloat16"), has_data=False)
        tower, frames = worker.model.towers["video"], synthetic_batch(run, 2)["video"]
    finally:
        keras.config.set_dtype_policy(before)
    traced = tf.function(lambda: pooled_features(tower, frames, True)).get_concrete_function()
    products = [op for op in traced.graph.get_operations() if "MatMul" in op.type]
    assert len(products) == 1 + 6  # patches; queries with keys and values, scores, values, ...
    assert {op.inputs[0].dtype for op in products} == {tf.bfloat16}
