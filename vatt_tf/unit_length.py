"""Vectors of length 1, in NumPy; ``vatt_tf.losses.contrastive`` has the same for tensors."""

from __future__ import annotations

from typing import Any

import numpy as np


def l2_normalize(
    x: np.ndarray, axis: int | None = -1, epsilon: float = 1e-12, dtype: Any = np.float64
) -> np.ndarray:
    """Scales vectors to length 1 (a zero vector stays zero); keeps their dtype.

    Args:
        x: Vectors, or one.
        axis: Along which the vectors lie; None where ``x`` is one.
        epsilon: Least length that is divided by.
        dtype: In which lengths are computed; None for that of the vectors, which the stored vectors
            of an index were made with.
    """
    x = np.asarray(x)
    norm = np.linalg.norm(x.astype(dtype or x.dtype), axis=axis, keepdims=True)
    return (x / np.maximum(norm, epsilon)).astype(x.dtype)
