"""Dense layers that keep less for their backward pass, against TensorFlow's own gradients."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from vatt_tf.layers.transformer.checkpointed_dense import checkpointed_dense, gelu_dense, norm_dense

RANDOM = np.random.default_rng(0)
TOKENS = 2.0 * RANDOM.normal(size=(2, 5, 6)) + 0.5
GAMMA, BETA, KERNEL, BIAS = (RANDOM.normal(size=shape) for shape in (6, 6, (6, 4), 4))
UPSTREAM = RANDOM.normal(size=(2, 5, 4))
KEPT = RANDOM.uniform(size=TOKENS.shape) > 0.3


def plain_dense(tokens, kernel, bias=0.0):
    return tokens @ kernel + bias


def plain_norm_dense(tokens, gamma, beta, kernel, bias=0.0):
    mean, variance = tf.nn.moments(tokens, -1, keepdims=True)
    return ((tokens - mean) / tf.sqrt(variance + 1e-6) * gamma + beta) @ kernel + bias


def plain_gelu_dense(tokens, kernel, bias=0.0, kept=None):
    hidden = 0.5 * tokens * (1.0 + tf.math.erf(tokens / np.sqrt(2.0)))
    hidden = hidden if kept is None else 1.25 * hidden * tf.cast(kept, hidden.dtype)
    return hidden @ kernel + bias


def outputs_and_gradients(function, operands, dtype):
    operands = [tf.constant(operand, dtype) for operand in operands]
    with tf.GradientTape() as tape:
        tape.watch(operands)
        outputs = function(*operands)
        target = tf.reduce_sum(outputs * tf.constant(UPSTREAM, dtype))
    return [outputs, *tape.gradient(target, operands)]


def scale_of(values):
    return float(tf.reduce_max(tf.abs(values)))


CASES = {
    "dense": (checkpointed_dense, plain_dense, (TOKENS, KERNEL, BIAS)),
    "dense, no bias": (checkpointed_dense, plain_dense, (TOKENS, KERNEL)),
    "norm": (norm_dense, plain_norm_dense, (TOKENS, GAMMA, BETA, KERNEL, BIAS)),
    "norm, no bias": (norm_dense, plain_norm_dense, (TOKENS, GAMMA, BETA, KERNEL)),
    "gelu": (gelu_dense, plain_gelu_dense, (TOKENS, KERNEL, BIAS)),
    "gelu, no bias": (gelu_dense, plain_gelu_dense, (TOKENS, KERNEL)),
    "dropped": (
        lambda *operands: gelu_dense(*operands, tf.constant(KEPT), 1.25),
        lambda *operands: plain_gelu_dense(*operands, tf.constant(KEPT)),
        (TOKENS, KERNEL, BIAS),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name, dtype):
    ours, plain, operands = CASES[name]
    rounded = [tf.cast(tf.constant(operand, dtype), tf.float64) for operand in operands]
    found = outputs_and_gradients(ours, operands, dtype)
    expected = outputs_and_gradients(plain, rounded, tf.float64)
    tolerance = 2e-6 if dtype == "float32" else 3e-2
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        difference = np.abs(tf.cast(one, tf.float64) - other)
        assert difference.max() <= tolerance * scale_of(other)


def test_gelu_is_exact():
    values = np.linspace(-6.0, 6.0, 101)
    outputs = gelu_dense(tf.constant(values[None, :, None], tf.float32), tf.ones([1, 1]))
    np.testing.assert_allclose(outputs[0, :, 0], values * norm.cdf(values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_inputs_are_kept_alone(jit_compile):
    """In a graph, the gradients are those of eager execution: what waits does come."""
    function = tf.function(
        lambda: outputs_and_gradients(norm_dense, CASES["norm"][2], "float32"),
        jit_compile=jit_compile,
    )
    eager = outputs_and_gradients(norm_dense, CASES["norm"][2], "float32")
    for one, other in zip(function(), eager, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
