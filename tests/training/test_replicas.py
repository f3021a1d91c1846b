"""Two replicas with four clips each compute what one device with eight does."""

import json
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT


@pytest.fixture(scope="module")
def report():
    command = [sys.executable, "-m", "tests.training.replicas_script"]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("step", ["plain", "two_pass"])
def test_same_loss_gradients_statistics_and_weights(report, step):
    difference = report[step]
    assert difference["loss"] < 1e-5
    assert difference["gradients"] < 1e-5
    assert difference["statistics"] < 1e-5
    assert difference["losses"] < 1e-5  # of three steps
    assert difference["weights"] < 1e-5


def test_replicas_draw_different_masks(report):
    first, second = report["masks"]
    assert first != second
