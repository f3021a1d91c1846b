"""Factorised positions and their interpolation."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.transformer.positions import FactorisedPositions, interpolation_matrix


class TestFactorisedPositions(LayerTestCase):
    layer_class = FactorisedPositions
    config = {"axes": ("temporal", "vertical", "horizontal"), "sizes": (2, 3, 4), "d_model": 8}

    def inputs(self):
        return np.random.default_rng(0).normal(size=(2, 24, 8)).astype("float32")

    def test_token_order_is_row_major(self):
        layer = self.make()
        tables = [np.asarray(table) for table in layer.tables]
        summed = np.stack(
            [tables[0][t] + tables[1][h] + tables[2][w]
             for t in range(2) for h in range(3) for w in range(4)]
        )  # fmt: skip
        mean, variance = summed.mean(1, keepdims=True), summed.var(1, keepdims=True)
        expected = self.inputs() + (summed - mean) / np.sqrt(variance + 1e-6)
        np.testing.assert_allclose(layer(self.inputs()), expected, rtol=1e-4, atol=1e-4)

    def test_indices(self):
        layer, indices = self.make(), np.array([7, 0, 23], "int32")
        tokens = self.inputs()
        chosen = layer(tokens[:, indices], indices=indices)
        np.testing.assert_allclose(chosen, np.asarray(layer(tokens))[:, indices], rtol=1e-6)

    def test_other_grid_interpolates_each_axis(self):
        layer = self.make()
        tables = [interpolation_matrix(size, count) @ np.asarray(table) for table, size, count
                  in zip(layer.tables, (2, 3, 4), (2, 5, 6), strict=True)]  # fmt: skip
        other = FactorisedPositions(("t", "h", "w"), (2, 5, 6), 8)
        other.build((None, 60, 8))
        for variable, table in zip(other.tables, tables, strict=True):
            variable.assign(table)
        np.testing.assert_allclose(
            layer.embeddings((2, 5, 6)), other.embeddings((2, 5, 6)), rtol=1e-4, atol=1e-5
        )

    def test_positions_are_float32_under_mixed_precision(self):
        layer = self.make("mixed_bfloat16")
        embeddings = layer.embeddings((2, 3, 4))
        assert keras.backend.standardize_dtype(embeddings.dtype) == "float32"
        np.testing.assert_allclose(embeddings, self.make().embeddings((2, 3, 4)), rtol=1e-5)

    def test_initial_spread(self):
        layer = FactorisedPositions(("temporal",), (400,), 64)
        layer.build((None, 400, 64))
        # Truncated at two deviations, a normal's own deviation shrinks to 0.88.
        assert abs(np.std(np.asarray(layer.tables[0])) * 8 - 0.88) < 0.05


SIZES = [(4, 8), (8, 4), (14, 20), (14, 10), (16, 17), (2, 5), (8, 1), (300, 600), (1200, 2400)]


@pytest.mark.parametrize(("src", "dst"), SIZES)
def test_interpolation_is_the_natural_cubic_spline(src, dst):
    """Order 3 with a linear term in one dimension is that spline, linear beyond the last point."""
    interpolate = pytest.importorskip("scipy.interpolate")
    matrix = interpolation_matrix(src, dst)
    train, query = np.arange(src) / src, np.arange(dst) / dst
    table = np.random.default_rng(0).normal(size=(src, 3)) * 0.5
    if dst == 1:
        np.testing.assert_array_equal(matrix @ table, table[:1])
        return
    spline = interpolate.CubicSpline(train, table, bc_type="natural")
    beyond = np.maximum(query - train[-1], 0)[:, None]
    expected = spline(np.minimum(query, train[-1])) + beyond * spline(train[-1], 1)
    # What is left at 1200 rows is the release's floor of 1e-10 under the squared distance.
    tolerance = 2e-4 if src > 100 else 1e-6
    np.testing.assert_allclose(matrix @ table, expected, atol=tolerance)


def test_interpolation_reproduces_lines_and_its_own_points():
    line = np.arange(8) / 8
    np.testing.assert_allclose(interpolation_matrix(8, 20) @ line, np.arange(20) / 20, atol=1e-8)
    matrix = interpolation_matrix(4, 8)
    np.testing.assert_allclose(matrix[::2], np.eye(4), atol=1e-8)
    np.testing.assert_array_equal(interpolation_matrix(5, 5), np.eye(5))
    np.testing.assert_array_equal(interpolation_matrix(1, 3), np.ones((3, 1)))


def test_interpolation_in_float32_like_the_release():
    """Video tables: the release's float32 arithmetic is within 1e-3 of ours."""
    table = np.random.default_rng(1).normal(size=(14, 4)) * 0.5
    train = (np.arange(14) / 14).astype("float32")
    query = (np.arange(20) / 20).astype("float32")

    def kernel(left, right):
        squared = (left[:, None] - right[None, :]) ** 2
        return np.maximum(squared, np.float32(1e-10)) ** np.float32(1.5)

    linear = np.stack([train, np.ones_like(train)], 1)
    system = np.block([[kernel(train, train), linear], [linear.T, np.zeros((2, 2), "float32")]])
    right = np.concatenate([table, np.zeros((2, 4))]).astype("float32")
    weights = np.linalg.solve(system.astype("float32"), right)
    linear_query = np.stack([query, np.ones_like(query)], 1)
    official = np.concatenate([kernel(query, train), linear_query], 1) @ weights
    np.testing.assert_allclose(interpolation_matrix(14, 20) @ table, official, atol=2e-3)


@pytest.mark.parametrize(("src", "dst"), [(0, 3), (3, 0)])
def test_bad_sizes(src, dst):
    with pytest.raises(ValueError, match="positive"):
        interpolation_matrix(src, dst)


def test_matrix_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        interpolation_matrix(4, 6)[0, 0] = 1
