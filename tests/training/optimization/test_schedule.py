"""Learning-rate vectors of the paper and the released code."""

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.training.optimization.schedule import WarmupCosine, learning_rate


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (5_000, 5e-5),
        (10_000, 1e-4),
        (125_000, 9.6641e-5),
        (250_000, 8.5917e-5),
        (375_000, 6.9504e-5),
        (450_000, 5.7980e-5),
        (500_000, 5e-5),
        (600_000, 5e-5),
    ],
)
def test_paper(step, rate):
    schedule = learning_rate(total_steps=500_000)
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (2_500, 5e-5),
        (5_000, 1e-4),
        (125_000, 9.3093e-5),
        (250_000, 7.5397e-5),
        (375_000, 5.7463e-5),
        (450_000, 5.1248e-5),
        (500_000, 5e-5),
    ],
)
def test_released_code(step, rate):
    schedule = WarmupCosine(1e-4, 5e-5, 5_000, 500_000, "half_cosine")
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-4)


def test_short_runs_warm_up_for_half_of_their_steps_at_most():
    schedule = learning_rate(total_steps=100)
    assert float(schedule(50)) == pytest.approx(1e-4)


def test_warmup_as_a_share_of_the_run():
    schedule = learning_rate(total_steps=200, warmup_steps=0.1)
    assert float(schedule(20)) == pytest.approx(1e-4)
    assert float(schedule(10)) == pytest.approx(5e-5)


def test_constant_and_config_round_trip():
    schedule = WarmupCosine(1e-3, 1e-4, 0, 10, "constant")
    copy = WarmupCosine.from_config(schedule.get_config())
    assert float(copy(7)) == pytest.approx(1e-3)


def test_errors_name_the_parameter():
    with pytest.raises(UserError, match="learning_rate.shape='cosine'"):
        learning_rate(total_steps=10, shape="cosine")
    with pytest.raises(UserError, match="learning_rate.warmup_steps=-1"):
        learning_rate(total_steps=10, warmup_steps=-1)
