"""What can be known before the first step is refused before it."""

import dataclasses

import pytest

from tests.training.tasks.test_finetune import gin_file, labelled  # noqa: F401
from tests.training.tasks.test_finetune import record as labelled_record
from tests.training.tiny import tiny_config
from vatt_tf import config as gin_config
from vatt_tf import train
from vatt_tf.data.shards.index import DataSource
from vatt_tf.errors import UserError
from vatt_tf.training import estimate, preflight
from vatt_tf.training.tasks.config import TrainConfig

COUNTS = {"total": 10_000, "trainable": 10_000}


def tiny_run(**fields):
    return TrainConfig(model=tiny_config(), data=DataSource("x"), steps=2, batch_size=8, **fields)


@pytest.fixture(autouse=True)
def clean_gin():
    gin_config.clear()
    gin_config.import_configurables()
    yield
    gin_config.clear()


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (
            "video_tower.frames=15",
            "video_tower.frames = 15: patches of 4 (..._tower.patch) leave a rest that nothing "
            "reads; expected a multiple, e.g. 12 or 16",
        ),
        ("video_tower.image_size=(64, 100)", "e.g. (64, 96) or (64, 112)"),
        ("BATCH_SIZE=1", "train.batch_size=1 (macro BATCH_SIZE): the losses compare the clips"),
        ("learning_rate.peak='high'", "learning_rate.peak='high': expected a number of at least 0"),
        ("optimizer.beta_1=1.5", "optimizer.beta_1=1.5: expected a number in [0, 1)"),
        ("train.frame_rate=0", "train.frame_rate=0: expected a number above 0, or None"),
        ("train.sample_rate=16000.0", "train.sample_rate=16000.0: expected a whole number"),
    ],
)
def test_wrong_values_are_one_line(binding, message, capsys):
    assert train.main(["--gin_file=tiny.gin", "--dry_run", f"--gin_bindings={binding}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_step_that_does_not_fit_names_the_micro_batch_that_does():
    config = tiny_run()
    whole = estimate.memory_bytes(config, COUNTS, 1)["total"]
    parts = dataclasses.replace(config, micro_batch_size=2)
    free = estimate.memory_bytes(parts, COUNTS, 1)["total"]
    assert free < whole
    for enough in (None, whole):
        preflight.check_memory(config, COUNTS, 1, enough)
    with pytest.raises(UserError, match="--gin_bindings=MICRO_BATCH_SIZE=2 "):
        preflight.check_memory(config, COUNTS, 1, free)
    with pytest.raises(UserError, match="also with MICRO_BATCH_SIZE=1: choose a smaller"):
        preflight.check_memory(config, COUNTS, 1, 1000.0)


def test_free_memory_is_that_of_the_machine_or_its_container(tmp_path, monkeypatch):
    files = {"max": "5000000\n", "current": "3000000\n", "stat": "anon 7\ninactive_file 1000\n"}
    for name, text in files.items():
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(preflight, "_CGROUP", tmp_path)
    assert preflight.free_memory() == 2_001_000
    (tmp_path / "memory.max").write_text("max\n")
    assert preflight.free_memory() > 1e7


def test_a_run_asks_for_its_memory_before_it_writes(gin_file, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(preflight, "free_memory", lambda: 1000.0)
    assert train.main([f"--gin_file={gin_file}", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert "GB are free; also with MICRO_BATCH_SIZE=1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("classes", "message"),
    [([], "none of the 2 clips has a label"), ([b"dark", b"grey"], "2 clips with several classes")],
)
def test_evaluation_data_that_cannot_be_scored(gin_file, tmp_path, capsys, classes, message):  # noqa: F811
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as out:
        for number in (200, 201):
            example = tf.train.SequenceExample.FromString(labelled_record(number))
            context = example.context.feature
            del context["clip/label/index"]
            context["clip/label/text"].bytes_list.value[:] = classes
            out.write(example.SerializeToString())
    flags = [f"--gin_file={gin_file}", f"--run_dir={tmp_path / 'run'}"]
    bindings = [f"EVAL_DATA='{tmp_path}/x.tfrecord'", "finetune.evaluate_every=2"]
    assert train.main([*flags, *(f"--gin_bindings={binding}" for binding in bindings)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "(macro EVAL_DATA): " in last and message in last
    assert not (tmp_path / "run").exists()
