"""The GELU whose backward pass computes everything again."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from vatt_tf.layers.gelu import gelu

INPUTS = np.linspace(-6.0, 6.0, 101)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 3e-2)])
def test_value_and_gradient_against_the_normal_distribution(dtype, tolerance):
    close = {"rtol": tolerance, "atol": tolerance}
    values = tf.constant(INPUTS, dtype)
    x = tf.cast(values, tf.float64).numpy()
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = gelu(values)
    gradient = tape.gradient(outputs, values, output_gradients=tf.fill(x.shape, tf.cast(2, dtype)))
    assert outputs.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), x * norm.cdf(x), **close)
    expected = 2 * (norm.cdf(x) + x * norm.pdf(x))
    np.testing.assert_allclose(tf.cast(gradient, tf.float64), expected, **close)
