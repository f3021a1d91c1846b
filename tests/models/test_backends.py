"""The models train on every backend of Keras, with the same numbers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import CHECKOUT

BACKENDS = ("tensorflow", "jax", "torch")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """Numbers of a step by backend; None for what is not installed."""
    found = dict.fromkeys(BACKENDS)
    folder = tmp_path_factory.mktemp("steps")
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            command = [sys.executable, "-m", "tests.models.backend_step", folder / f"{backend}.npz"]
            environment = {**os.environ, "KERAS_BACKEND": backend}
            done = subprocess.run(
                command, cwd=CHECKOUT, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-3000:]
            found[backend] = dict(np.load(folder / f"{backend}.npz"))
    return found


def of(numbers, backend):
    if numbers[backend] is None:
        pytest.skip(f"needs {backend}: pip install vatt_tf[backends]")
    return numbers[backend]


@pytest.mark.check
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_a_step_is_that_of_tensorflow(numbers, backend):
    """Losses, gradients of all variables, weights and moving averages after an update."""
    expected, found = of(numbers, "tensorflow"), of(numbers, backend)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        scale = np.max(np.abs(values.astype("float64")))
        np.testing.assert_allclose(
            found[name], values, rtol=0, atol=1e-4 * scale + 1e-5, err_msg=name
        )


@pytest.mark.check
@pytest.mark.parametrize("backend", BACKENDS)
def test_recomputed_blocks_have_the_same_gradients(numbers, backend):
    """With dropout and DropToken."""
    found = of(numbers, backend)
    kept = {name: values for name, values in found.items() if "/kept/" in name}
    assert len(kept) > 200
    for name, values in kept.items():
        scale = np.max(np.abs(values))
        again = found[name.replace("/kept/", "/remat/")]
        np.testing.assert_allclose(again, values, rtol=0, atol=1e-6 * max(scale, 1), err_msg=name)


@pytest.mark.check
@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_are_those_of_the_key(numbers, backend):
    found = of(numbers, backend)
    assert found["specific/replays"] and found["agnostic/replays"]
