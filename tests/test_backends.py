"""What is written for any backend of Keras, on those that are installed beside TensorFlow."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

FILES = (
    "tests/losses/test_any_batch.py",
    "tests/losses/test_gradients.py",
    "tests/training/optimization/test_decayed_variables.py",
)


@pytest.mark.check
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not check", *FILES],
        cwd=CHECKOUT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
