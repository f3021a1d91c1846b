"""One device and two replicas compute the same from the same whole batches."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def report(made_once):
    def make(folder):
        command = [sys.executable, "-m", "tests.training.replicas_script"]
        result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-3000:]
        folder.mkdir()
        (folder / "report.json").write_text(result.stdout.splitlines()[-1])

    return json.loads((made_once("replicas", make) / "report.json").read_text())


@pytest.mark.parametrize("run", ["pre-training", "fine-tuning"])
def test_ten_steps_are_those_of_one_device(report, run):
    one, several = report[f"{run} on 1"], report[f"{run} on 2"]
    assert len(set(one["losses"])) == 10
    np.testing.assert_allclose(several["losses"], one["losses"], rtol=1e-6)
    np.testing.assert_allclose(several["weights"], one["weights"], rtol=0, atol=1e-4)


def test_gradients_are_summed_once(report):
    """With loss, accuracy and the requests to stop by two signals and to save."""
    assert report["summed"] == report["parameters"] + 5


def test_replicas_draw_different_masks(report):
    first, second = report["masks"]
    assert first != second


def test_replicas_that_draw_the_same_masks_end_the_run(report):
    assert report["alarm"].startswith("step 1: replicas 0 and 1 draw the same random numbers")
