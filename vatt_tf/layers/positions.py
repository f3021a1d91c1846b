"""Factorised position embeddings, and their interpolation to clips of another size."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@functools.lru_cache(maxsize=64)
def interpolation_matrix(src: int, dst: int) -> np.ndarray:
    """Matrix that resamples a position table of ``src`` rows to ``dst`` rows (facts section 7).

    The released code interpolates with a polyharmonic spline of order 3 with a linear term: train
    points i / src, query points j / dst. The spline is linear in the table, so it is one matrix.
    Computed in float64: the system is badly conditioned, and the float32 arithmetic of the release
    is off by 1e-3 for video tables and useless for 1200 audio positions.

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
    if dst == src:
        matrix = np.eye(src)
    elif dst == 1:
        matrix = np.eye(1, src)
    elif src == 1:
        matrix = np.ones((dst, 1))  # A constant is all that one row can say.
    else:
        matrix = _spline_matrix(np.arange(src) / src, np.arange(dst) / dst)
    matrix.setflags(write=False)
    return matrix


def _spline_matrix(train: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Solves the spline's linear system once for all unit vectors: [query, train], float64."""

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        squared = (left[:, None] - right[None, :]) ** 2
        return np.maximum(squared, 1e-10) ** 1.5  # The floor is the released code's.

    src = len(train)
    linear = np.stack([train, np.ones(src)], axis=1)
    system = np.zeros((src + 2, src + 2))
    system[:src, :src] = kernel(train, train)
    system[:src, src:] = linear
    system[src:, :src] = linear.T
    values = np.concatenate([np.eye(src), np.zeros((2, src))])
    weights = np.linalg.solve(system, values)
    evaluate = np.concatenate(
        [kernel(query, train), np.stack([query, np.ones(len(query))], axis=1)], axis=1
    )
    return evaluate @ weights


@keras.saving.register_keras_serializable("vatt_tf")
class FactorisedPositions(keras.layers.Layer):
    """Adds LayerNorm(sum of one learned embedding per axis) to the tokens (facts section 2.4).

    The layer norm is applied to the summed position embedding only; the tokens are not normalised.
    All of it is computed in float32 (it has no batch axis, so it costs next to nothing). When the
    number of patches along an axis differs from the table's, the table is interpolated first.

    Args:
        axes: Names of the axes, outermost first, e.g. ("temporal", "vertical", "horizontal"); the
            table of an axis is the variable ``<axis>_embeddings``.
        sizes: Rows of each table.
        d_model: Width of a token.

    Call arguments:
        tokens: [B, N, d_model], or [B, K, d_model] with indices.
        grid: Number of patches along each axis (Python integers); their product is N. None stands
            for the sizes of the tables.
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
            epsilon=1e-6, dtype=_float32(self.dtype_policy), name="layer_norm"
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

    def call(self, tokens: Any, grid: Sequence[int] | None = None, indices: Any = None) -> Any:
        positions = self.embeddings(grid or self.sizes)
        if indices is not None:
            positions = ops.take(positions, indices, axis=0)
        return tokens + ops.cast(positions, tokens.dtype)

    def embeddings(self, grid: Sequence[int]) -> Any:
        """Normalised position embeddings of all tokens of a grid, float32 [N, d_model]."""
        total = None
        for axis, (table, size, count) in enumerate(
            zip(self.tables, self.sizes, grid, strict=True)
        ):
            table = ops.cast(table, "float32")
            if count != size:
                matrix = interpolation_matrix(size, count).astype("float32")
                table = ops.matmul(ops.convert_to_tensor(matrix), table)
            shape = [1] * len(self.sizes) + [self.d_model]
            shape[axis] = count
            table = ops.reshape(table, shape)
            total = table if total is None else total + table
        return self.layer_norm(ops.reshape(total, (-1, self.d_model)))

    def compute_output_shape(self, tokens_shape: Any, indices_shape: Any = None) -> Any:
        return tokens_shape

    def get_config(self) -> dict[str, Any]:
        config = {"axes": self.axes, "sizes": self.sizes, "d_model": self.d_model}
        return {**super().get_config(), **config}


def _float32(policy: keras.DTypePolicy) -> keras.DTypePolicy | str:
    """The policy that computes in float32 and stores variables as the given one does."""
    return "float32" if policy.variable_dtype == "float32" else policy
