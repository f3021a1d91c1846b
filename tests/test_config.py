"""Gin: every shipped file parses and builds; every slip ends in one helpful line."""

import inspect
import pathlib

import gin
import pytest

from tests.conftest import CHECKOUT
from vatt_tf import config
from vatt_tf.errors import UserError

GIN_CONFIGS = CHECKOUT / "gin_configs"
RUN_FILES = sorted(
    str(path.relative_to(GIN_CONFIGS))
    for path in GIN_CONFIGS.rglob("*.gin")
    if path.parent.name not in ("models", "runs")
)


@pytest.fixture(autouse=True)
def clean_gin():
    config.clear()
    config.import_configurables()
    yield
    config.clear()


def train_config():
    from vatt_tf.training.tasks.config import TrainConfig

    return TrainConfig()


def test_bindings_of_the_environment_come_last_with_a_note(monkeypatch, capsys):
    monkeypatch.setenv(config.BINDINGS_VARIABLE, "STEPS=7; BATCH_SIZE=8")
    config.parse(["tiny.gin"], ["STEPS=100"])
    assert (train_config().steps, train_config().batch_size) == (7, 8)
    assert "note: VATT_TF_GIN_BINDINGS sets STEPS=7; BATCH_SIZE=8" in capsys.readouterr().err


def test_a_mistake_in_the_environment_is_one_line(monkeypatch):
    monkeypatch.setenv(config.BINDINGS_VARIABLE, "STPES=7")
    with pytest.raises(UserError, match="no macro STPES"):
        config.parse(["tiny.gin"], [])


@pytest.mark.parametrize("name", RUN_FILES)
def test_every_run_file_makes_a_run(name):
    config.parse([name], ["INITIAL_WEIGHTS=None"] if name.startswith("finetune/") else [])
    if config.only_configured(("train", "finetune")) == "finetune":
        check_finetuning(name)
        return
    run = train_config()
    batch, micro = run.sizes(replicas=1)
    assert batch % micro == 0
    assert run.clip.frames == run.model.video.frames
    has_audio = "audio" in run.model.modalities
    assert run.clip.audio == (run.model.audio.clip_fields["audio"] if has_audio else "none")
    check_header(name)


def check_finetuning(name):
    from vatt_tf.training.tasks.finetune_config import FinetuneConfig

    run = FinetuneConfig()
    batch, micro = run.sizes(replicas=1)
    assert batch % micro == 0
    model = run.model.resolve(run.model.num_classes or 7, run.initial_weights)
    clip = model.clip()
    if "video" in model.modalities:
        assert clip.frames == model.towers["video"].frames
    if "audio" in model.modalities:
        assert clip.audio == model.towers["audio"].input
    check_header(name)


def check_header(name):
    """The first lines of a run file say how it is used."""
    header = (GIN_CONFIGS / name).read_text().split("\n\n")[0]
    script = f"examples/measure.sh {pathlib.Path(name).stem} "
    assert f"python -m vatt_tf.train --gin_file=gin_configs/{name}" in header or script in header


def test_there_is_a_config_for_every_system():
    assert {"lbs.gin", "mbs.gin", "bbs.gin", "ma_medium.gin", "tiny.gin"} <= set(RUN_FILES)


def test_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("gin_configs/lbs.gin", "lbs.gin", str(GIN_CONFIGS / "lbs.gin")):
        config.clear()
        config.parse([name], [])
        assert train_config().model.video.size == "large"


def test_folders_named_like_the_included_ones_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs", "models"):
        pathlib.Path(name).mkdir()
    config.parse(["tiny.gin"], [])
    assert train_config().steps > 0


def test_own_file_may_include_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("own.gin").write_text(
        "include 'models/tiny.gin'\ninclude 'runs/pretrain.gin'\n"
        "TRAIN_DATA = 'x'\nEVAL_DATA = None\nvideo_tower.frames = 8\n"
    )
    config.parse(["own.gin"], ["STEPS=3"])
    run = train_config()
    assert (run.steps, run.model.video.frames, run.data[0].path) == (3, 8, "x")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("video_towr.size='base'", "did you mean video_tower"),
        ("video_tower.sise='base'", "did you mean size"),
        ("STEP=3", "did you mean STEPS"),
        ("TRAIN_DATA=shards/train", "a string needs quotes"),
        ("TRAIN_DATA=shards", "--gin_bindings=\"TRAIN_DATA='shards'\""),
        ("STEPS", "expected NAME=value"),
        ("train.steps=[1", "train.steps=[1"),
        ("TRAIN_DATA=%gin.REQUIRED", "TRAIN_DATA is not set"),
    ],
)
def test_slips_on_the_command_line(binding, message):
    with pytest.raises(UserError) as caught:
        config.parse(["tiny.gin"], [binding])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["STEPS=0"], "train.steps=0: expected a whole number of at least 1"),
        (["STEPS='many'"], "train.steps='many'"),
        (["BATCH_SIZE=7", "MICRO_BATCH_SIZE=2"], "expected a divisor of the 7 clips"),
        (["video_tower.size='huge'"], "video_tower.size"),
        (["train.precision='float16'"], "float32, mixed_bfloat16"),
        (["EVAL_DATA=None"], "needs train.eval_data"),
    ],
)
def test_bad_values(bindings, message):
    config.parse(["tiny.gin"], bindings)
    with pytest.raises((UserError, ValueError)) as caught:
        train_config().sizes(replicas=1)
    assert message in str(caught.value)


def test_missing_file_names_the_nearest():
    with pytest.raises(UserError, match="did you mean lbs.gin"):
        config.parse(["gin_configs/lbss.gin"], [])


def test_batch_size_follows_the_replicas_unless_given():
    config.parse(["lbs.gin"], [])
    assert train_config().sizes(replicas=256)[0] == 2048  # the paper's
    with pytest.raises(UserError, match="multiple of the 3 replicas"):
        config.clear()
        config.parse(["lbs.gin"], ["BATCH_SIZE=8"])
        train_config().sizes(replicas=3)


def test_earlier_names_are_read(tmp_path, capsys):
    file = tmp_path / "mine.gin"
    file.write_text("include 'lbs.gin'\ntrain.shuffle_buffer = 12\n")
    config.parse([str(file)], ["train.shuffle_buffer = 34", "STEPS = 5"])
    assert train_config().shuffle_window == 34
    told = "note: train.shuffle_buffer is read as train.shuffle_window, its name now\n"
    assert capsys.readouterr().err == told
    # A run that was started with the earlier name goes on: both are the same binding.
    written = config.bindings_in(config.config_text())
    assert "shuffle_buffer" not in config.config_text()
    stored = config.bindings_in(config.config_text().replace("shuffle_window", "shuffle_buffer"))
    assert stored == written and stored["train.shuffle_window"] == "34"
    # The names of gin itself are as before.
    config.clear()
    with pytest.raises(UserError, match="doesn't have a parameter named 'shuffle_bufer'"):
        config.parse([str(file)], ["train.shuffle_bufer = 34"])


def test_unused_bindings_are_reported():
    config.parse(["tiny.gin"], ["other/data_source.weight=2.0", "train.log_every=3"])
    train_config()
    unused = config.unused_bindings()
    assert "other/data_source.weight" in unused
    assert "train.log_every" not in unused and "STEPS" not in unused


def test_bindings_are_compared_by_value():
    first = config.bindings_in("a.b = 1\nSTEPS = 3\nc/a.d = %STEPS\n")
    assert first == {"a.b": "1", "STEPS": "3", "c/a.d": "'%STEPS'"}


def test_the_home_folder_in_gin_values(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "part.gin").write_text("video_tower.frames = 8\n")
    (tmp_path / "own.gin").write_text(
        "include 'models/tiny.gin'\ninclude 'runs/pretrain.gin'\ninclude '~/part.gin'\n"
        "TRAIN_DATA = '~/t'\nEVAL_DATA = '~/e'\ntrain.tokenizer_file = '~/words.txt'\n"
        "train.word_vectors = '~/v.npy'\n"
    )
    config.parse(["~/own.gin"], [])
    run = train_config()
    assert run.data[0].path == f"{tmp_path}/t" and run.eval_data == f"{tmp_path}/e"
    assert run.tokenizer_file == f"{tmp_path}/words.txt"
    assert run.word_vectors == f"{tmp_path}/v.npy" and run.model.video.frames == 8


def test_the_home_folder_in_the_values_of_finetuning(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    weights = "INITIAL_WEIGHTS={'video': '~/a', 'audio': 'b'}"
    bindings = [weights, "TRAIN_DATA='~/t'", "finetune.labels='~/l.txt'"]
    config.parse(["finetune/multimodal.gin"], bindings)
    run = gin.get_configurable("finetune")()
    assert dict(run.initial_weights) == {"video": "/h/a", "audio": "b"}
    assert run.labels == "/h/l.txt" and run.data[0].path == "/h/t"


class Thing:
    """A value that no configurable takes."""


def test_values_that_nothing_takes_are_one_line():
    """Of every parameter of every configurable; an object is shown by its kind."""
    from vatt_tf.data.shards.index import DataSource
    from vatt_tf.models.config.settings import ClassifierSettings
    from vatt_tf.models.config.vatt import VattConfig

    needed = {
        "train": {"data": DataSource("x"), "model": VattConfig(), "steps": 1},
        "finetune": {"data": DataSource("x"), "model": ClassifierSettings(), "steps": 1},
        "learning_rate": {"total_steps": 1},
        "optimizer": {"learning_rate": 0.1},
    }
    tried, wrong = 0, []
    for selector in sorted(gin.config._REGISTRY._selector_map):
        if not selector.startswith("vatt_tf."):
            continue
        make, name = gin.get_configurable(selector), selector.split(".")[-1]
        given = needed.get(name, {})
        for parameter in inspect.signature(make).parameters:
            if parameter in ("total_steps", "learning_rate"):  # the program gives them
                continue
            for value in (Thing(), [Thing()], "high"):
                tried += 1
                try:
                    make(**{**given, parameter: value})
                except UserError as error:
                    message = str(error).split("\n  In call to configurable")[0]
                    if " object at 0x" in message or "\n" in message:
                        wrong.append(message)
                except Exception as error:
                    wrong.append(f"{name}.{parameter}={value!r}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
    assert tried > 300
