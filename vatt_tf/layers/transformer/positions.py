"""Factorised position embeddings, and their interpolation to clips of another size."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer


@functools.lru_cache(maxsize=64)
def interpolation_matrix(src: int, dst: int) -> np.ndarray:
    """Matrix that resamples a position table of ``src`` rows to ``dst`` rows.

    The released code (docs/reference.md, Position interpolation) interpolates with a polyharmonic
    spline of order 3 with a linear term: train points i / src, query points j / dst. On a line that
    is the natural cubic spline, which is linear in the table, so it is one well conditioned matrix;
    the general system, solved in float32, is off by 1e-3 for video, and useless for 1200 positions.

    Args:
        src: Rows of the table.
        dst: Rows wanted.

    Returns:
        float64 [dst, src], read-only. ``dst == 1`` selects row 0 exactly.

    Raises:
        ValueError: When a size is not positive.
    """
    if src < 1 or dst < 1:
        raise ValueError(f"sizes must be positive, got src={src}, dst={dst}")
    if src == 1:
        matrix = np.ones((dst, 1))  # A constant is all that one row can say.
    else:
        rows = np.arange(dst) * src
        cell = np.minimum(rows // dst, src - 2)
        matrix = _spline(np.eye(src), _curvatures(src), cell, rows / dst - cell, np)
    matrix.setflags(write=False)
    return matrix


def interpolate(table: Any, count: Any) -> Any:
    """Resamples a position table by :func:`interpolation_matrix`.

    Args:
        table: float32 [src, d], src static.
        count: The rows wanted, an integer or, where only the graph knows it, an int32 scalar.

    Returns:
        float32 [count, d].
    """
    src = table.shape[0]
    if isinstance(count, int):
        if count == src:
            return table
        matrix = interpolation_matrix(src, count).astype("float32")
        return ops.matmul(ops.convert_to_tensor(matrix), table)
    if src == 1:
        return ops.broadcast_to(table, (count, table.shape[1]))

    def resampled() -> Any:
        rows = ops.arange(count, dtype="int32") * src
        cell = ops.minimum(rows // count, src - 2)
        part = ops.cast(rows - cell * count, "float64") / ops.cast(count, "float64")
        values = ops.cast(table, "float64")
        curvatures = ops.matmul(ops.convert_to_tensor(_curvatures(src), "float64"), values)
        return ops.cast(_spline(values, curvatures, cell, part, ops), "float32")

    # The usual size costs nothing.
    return ops.cond(ops.equal(count, src), lambda: table, resampled)


@functools.lru_cache(maxsize=16)
def _curvatures(src: int) -> np.ndarray:
    """Matrix from values to second derivatives of their natural spline: float64 [src, src]."""
    system = (np.eye(src) * 4 + np.eye(src, k=1) + np.eye(src, k=-1)) / 6
    differences = np.eye(src, k=1) + np.eye(src, k=-1) - 2 * np.eye(src)
    matrix = np.zeros((src, src))  # Natural: no curvature at the ends.
    matrix[1:-1] = np.linalg.solve(system[1:-1, 1:-1], differences[1:-1])
    return matrix


def _spline(values: Any, curvatures: Any, cell: Any, part: Any, xp: Any) -> Any:
    """Evaluates a cubic spline with knots 0, 1, 2, ..., behind the last one its tangent.

    Args:
        values: Values at the knots, [n, d].
        curvatures: Second derivatives there, [n, d].
        cell: Number of the knot before each query point, at most n - 2, integer [q].
        part: Distance from it; more than 1 behind the last knot, [q].
        xp: ``numpy`` or ``keras.ops``.

    Returns:
        [q, d].
    """
    beyond = xp.maximum(part - 1.0, 0.0)[:, None]
    right = part[:, None] - beyond
    left = 1.0 - right
    tangent = values[-1] - values[-2] + curvatures[-2] / 6.0
    return (
        left * xp.take(values, cell, axis=0)
        + right * xp.take(values, cell + 1, axis=0)
        + (left**3 - left) / 6.0 * xp.take(curvatures, cell, axis=0)
        + (right**3 - right) / 6.0 * xp.take(curvatures, cell + 1, axis=0)
        + beyond * tangent
    )


@keras.saving.register_keras_serializable("vatt_tf")
class FactorisedPositions(ConfiguredLayer):
    """Adds LayerNorm(sum of one learned embedding per axis) to the tokens.

    The layer norm is applied to the summed position embedding only; the tokens are not normalised
    (docs/reference.md, Positions).
    All of it is computed in float32 (it has no batch axis, so it costs next to nothing). When the
    number of patches along an axis differs from the table's, the table is interpolated first.

    Args:
        axes: Names of the axes, outermost first, e.g. ("temporal", "vertical", "horizontal"); the
            table of an axis is the variable ``<axis>_embeddings``.
        sizes: Rows of each table.
        d_model: Width of a token.

    Call arguments:
        tokens: [B, N, d_model], or [B, K, d_model] with indices.
        grid: Number of patches along each axis, integers or, in a graph, scalar tensors; their
            product is N. None stands for the sizes of the tables.
        indices: int32 [K] numbers of the tokens present, or None when all are.

    Returns:
        Tensor of the shape and dtype of the tokens.
    """

    def __init__(
        self, axes: Sequence[str], sizes: Sequence[int], d_model: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if len(axes) != len(sizes):
            raise ValueError(f"one size per axis is needed, got axes {axes} and sizes {sizes}")

        # === Config ===
        self.axes = tuple(axes)
        self.sizes = tuple(sizes)
        self.d_model = d_model

        # === Layers ===
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=1e-6, dtype=float32_of(self.dtype_policy), name="layer_norm"
        )

    def build(self, tokens_shape: Any) -> None:
        initializer = keras.initializers.TruncatedNormal(stddev=self.d_model**-0.5)
        self.tables = tuple(
            self.add_weight(
                name=f"{axis}_embeddings",
                shape=(size, self.d_model),
                initializer=initializer.clone(),
                autocast=False,
            )
            for axis, size in zip(self.axes, self.sizes, strict=True)
        )
        self.layer_norm.build((math.prod(self.sizes), self.d_model))

    def call(self, tokens: Any, grid: Sequence[Any] | None = None, indices: Any = None) -> Any:
        positions = self.embeddings(grid or self.sizes)
        if indices is not None:
            positions = ops.take(positions, indices, axis=0)
        return tokens + ops.cast(positions, tokens.dtype)

    def embeddings(self, grid: Sequence[Any]) -> Any:
        """Normalised position embeddings of all tokens of a grid, float32 [N, d_model]."""
        total = None
        for axis, (table, count) in enumerate(zip(self.tables, grid, strict=True)):
            table = interpolate(ops.cast(table, "float32"), count)
            shape = [1] * len(self.sizes) + [self.d_model]
            shape[axis] = count
            table = ops.reshape(table, shape)
            total = table if total is None else total + table
        return self.layer_norm(ops.reshape(total, (-1, self.d_model)))


def float32_of(policy: keras.DTypePolicy) -> keras.DTypePolicy | str:
    """The policy that computes in float32 and stores variables as the given one does."""
    return "float32" if policy.variable_dtype == "float32" else policy
