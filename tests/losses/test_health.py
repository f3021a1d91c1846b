"""Mean cosine and effective rank against NumPy in float64."""

import numpy as np
import pytest

from vatt_tf.losses.health import embedding_health


def reference(rows):
    rows = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    pairs = ~np.eye(len(rows), dtype=bool)
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    return cosines[pairs].mean(), values.sum() ** 2 / (values**2).sum()


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_of_the_rows_that_count(shape):
    rng = np.random.default_rng(0)
    rows = rng.normal(0.3, 1.0, shape).astype("float32")
    mask = (rng.random(shape[0]) < 0.7).astype("float32")
    found = [float(value) for value in embedding_health(rows, mask)]
    np.testing.assert_allclose(found, reference(rows[mask > 0]), rtol=1e-5)


def test_of_several_captions_a_clip():
    rng = np.random.default_rng(1)
    rows, mask = rng.normal(size=(4, 3, 5)).astype("float32"), np.ones((4, 3), "float32")
    mask[1] = 0
    found = [float(value) for value in embedding_health(rows, mask)]
    np.testing.assert_allclose(found, reference(rows[mask > 0].reshape(-1, 5)), rtol=1e-5)


def test_of_a_collapse():
    cosine, rank = embedding_health(np.full((8, 16), 0.3, "float32"), np.ones(8))
    assert float(cosine) == pytest.approx(1.0, abs=1e-6) and float(rank) == 0.0
    line = np.outer(np.linspace(-1, 1, 8), np.ones(16)).astype("float32")  # two opposite points
    cosine, rank = embedding_health(line, np.ones(8))
    assert float(rank) == pytest.approx(1.0, rel=1e-5)


def test_of_nothing():
    cosine, rank = embedding_health(np.ones((4, 2), "float32"), np.array([1.0, 0, 0, 0]))
    assert float(cosine) == 0.0 and float(rank) == 0.0
