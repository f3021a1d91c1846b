"""Each guard is provoked; one that is not stays silent."""

import math
import os
import re

import numpy as np
import pytest

from tests.training.test_run import command, lines
from tests.training.tiny import tiny_model
from vatt_tf.errors import UserError
from vatt_tf.layers.batch_norm import batch_norms
from vatt_tf.losses.objective import ObjectiveConfig, chance_level_loss, objective
from vatt_tf.training.monitoring.guards import (
    Chance,
    Collapse,
    FrozenStatistics,
    GuardConfig,
    Guards,
    Starvation,
    Temperature,
    check_replicas,
)

CONFIG = GuardConfig(patience=3)
HEALTHY = {
    "loss": 2.0,
    "loss/video_audio": 1.0,
    "cosine/va/video": 0.4,
    "rank/va/video": 7.0,
    "input_wait_share": 0.1,
}


@pytest.mark.parametrize(
    ("guard", "sick", "said"),
    [
        (Collapse(CONFIG), {"cosine/va/video": 0.999}, r"va/video: mean cosine 0.9990 \(over 0.99"),
        (Collapse(CONFIG), {"rank/va/video": 1.2}, r"effective rank 1.20 \(below 1.5"),
        (Chance(CONFIG, {"loss/video_audio": 2.7}), {"loss/video_audio": 2.695}, "2.6950 .chance"),
        (Starvation(CONFIG), {"input_wait_share": 0.8}, "80 % of the time is spent waiting"),
    ],
)
def test_a_complaint_that_lasts_is_an_alarm(guard, sick, said):
    guards = Guards(CONFIG, [guard])
    lines = [HEALTHY, *[HEALTHY | sick] * 2, HEALTHY, *[HEALTHY | sick] * 5]
    alarms = [[alarm.message for alarm in guards.check(line)] for line in lines]
    # Two lines are too few; the third of the second row gives one alarm, not three.
    assert [len(found) for found in alarms] == [0] * 6 + [1] + [0] * 2
    assert re.search(said, alarms[6][0])


def test_a_loss_that_is_0_from_the_start_has_no_ratio():
    assert Chance(CONFIG, {"loss/video_audio": 0.0})({"loss/video_audio": 0.0}) is None


def test_only_what_all_workers_see_ends_a_run():
    config = GuardConfig(patience=1, on_alarm="stop")
    guards = Guards(config, [Starvation(config), Collapse(config)])
    alarms = guards.check(HEALTHY | {"input_wait_share": 0.9, "cosine/va/video": 1.0})
    assert [(alarm.guard, alarm.ends_run) for alarm in alarms] == [
        ("starvation", False),
        ("collapse", True),
    ]


def test_temperature_out_of_range():
    assert Temperature(CONFIG, 0.07)({}) is None
    assert "temperature is 0.0007, outside 0.01 to 1" in Temperature(CONFIG, 0.0007)({})


def test_batch_statistics_that_do_not_move():
    norms = batch_norms(tiny_model())
    assert len(norms) == 3
    guard = FrozenStatistics(norms)
    assert guard({}) is None
    norms[2].trainable = False  # frozen on purpose
    norms[0].moving_variance.assign(norms[0].moving_variance + 1.0)
    said = guard({})
    assert norms[0].moving_mean.path in said and norms[1].moving_mean.path in said
    assert norms[0].moving_variance.path not in said and norms[2].moving_mean.path not in said


def test_replicas_that_do_not_differ():
    assert check_replicas(np.array([[1, 2, 7], [1, 3, 8]])) == (None, None)
    keys, data = check_replicas(np.array([[1, 2, 7], [1, 3, 8], [1, 2, 7]]))
    assert keys.startswith("replicas 0 and 2 draw the same random numbers")
    assert data == "replicas 0 and 2 read the same clips"


@pytest.mark.parametrize("denominator", ["joint", "joint_positive_twice", "symmetric"])
def test_chance_level_loss(denominator):
    config = ObjectiveConfig(denominator=denominator)
    rows, texts = 5, 3
    same = {"video": np.ones((rows, 4)), "audio": np.ones((rows, 4))}
    same["text"] = np.ones((rows, texts, 4))
    masks = {name: value[..., 0] for name, value in same.items()}
    spaces = {"vat": {name: value.astype("float32") for name, value in same.items()}}
    _, losses = objective(spaces, spaces, masks, masks, config)
    guess = chance_level_loss(config, rows, texts)
    assert guess.keys() == losses.keys()
    for name, value in losses.items():
        assert guess[name] == pytest.approx(float(value), rel=1e-5)
    if denominator == "joint":
        assert guess["video_audio"] == pytest.approx(math.log(2 * rows - 1), rel=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [("on_alarm", "shout"), ("patience", 0), ("min_rank", -1), ("temperature", (1.0, 0.1))],
)
def test_wrong_values(field, value):
    with pytest.raises(UserError, match=f"guards.{field}="):
        GuardConfig(**{field: value})


@pytest.mark.check
def test_alarms_of_a_run(gin_file, tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    sick = ["guards.patience=1", "guards.min_rank=100.0"]
    assert command(gin_file, run_dir, *sick, flags=["--stop_at_step=2"]) == 0
    assert (
        "warning: step 2: embeddings collapse (va/video: effective rank" in capsys.readouterr().err
    )
    (alarm,) = [line for line in lines(run_dir) if line["kind"] == "alarm"]
    assert (alarm["step"], alarm["guard"]) == (2, "collapse")

    assert command(gin_file, run_dir, *sick, "guards.on_alarm='stop'") == 2
    assert "error: step 3: embeddings collapse" in capsys.readouterr().err
    assert os.path.exists(f"{run_dir}/checkpoints/ckpt-3.index")
