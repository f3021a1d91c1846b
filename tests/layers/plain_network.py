"""What the NumPy versions of the convolutional networks share: random weights, BatchNorm, ReLU."""

from __future__ import annotations

import numpy as np


def set_weights(layer, seed=0):
    """Random weights and statistics that keep the numbers near one; returns them in float64."""
    rng = np.random.default_rng(seed)
    draws = {
        "kernel": lambda shape: rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])),
        "bias": lambda shape: rng.normal(0.0, 0.5, shape),
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0.0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0.0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 2.0, shape),
    }
    for variable in layer.weights:
        variable.assign(draws[variable.path.rsplit("/")[-1]](tuple(variable.shape)))
    return read_weights(layer)


def read_weights(layer):
    """Values by path below the layer, in float64."""
    return {v.path.split("/", 1)[1]: np.asarray(v, "float64") for v in layer.weights}


class PlainNetwork:
    """Base; ``after`` holds the moving statistics that a training step leaves.

    Args:
        weights: Values by path, as :func:`read_weights` gives them.
        training: Whether the norms use the statistics of the batch.
    """

    def __init__(self, weights, training=False):
        self.weights, self.training, self.after = weights, training, {}

    def norm_relu(self, values, name):
        gamma, beta, mean, variance = (
            self.weights[f"{name}/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        if self.training:
            old_mean, old_variance = mean, variance
            axes = tuple(range(values.ndim - 1))
            mean, variance = values.mean(axes), values.var(axes)
            self.after[f"{name}/moving_mean"] = 0.9 * old_mean + 0.1 * mean
            self.after[f"{name}/moving_variance"] = 0.9 * old_variance + 0.1 * variance
        return np.maximum((values - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0.0)
