"""The temporal shift against an element-wise loop and against its matrix."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.convolution.temporal_shift import TemporalShift


def clip(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def loop(values, part):
    """Element by element: channel c of a frame is one of a neighbouring frame's, or zero."""
    frames, channels = values.shape[1], values.shape[-1]
    shifted = np.zeros_like(values)
    for frame in range(frames):
        for channel in range(channels):
            if channel < part:
                source = (frame + 1, channels - part + channel)
            elif channel >= channels - part:
                source = (frame - 1, channel - (channels - part))
            else:
                source = (frame, channel)
            if 0 <= source[0] < frames:
                shifted[:, frame, ..., channel] = values[:, source[0], ..., source[1]]
    return shifted


class TestTemporalShift(LayerTestCase):
    layer_class = TemporalShift
    config = {"fraction": 0.125}

    def inputs(self):
        return clip(2, 4, 3, 2, 16)

    @pytest.mark.parametrize("shape", [(2, 4, 3, 2, 16), (2, 1, 3, 2, 8), (1, 2, 8), (3, 5, 4, 24)])
    def test_equals_the_loop(self, shape):
        values = clip(*shape)
        np.testing.assert_array_equal(self.make()(values), loop(values, shape[-1] // 8))

    def test_equals_the_matrix(self):
        """Over time and channels together the shift is one 0/1 matrix."""
        frames, channels, part = 4, 16, 2
        next_frame, same, previous = (np.eye(frames, k=k) for k in (1, 0, -1))
        first, last = np.zeros((channels, channels)), np.zeros((channels, channels))
        first[:part, -part:] = np.eye(part)
        last[-part:, :part] = np.eye(part)
        middle = np.diag([0.0] * part + [1.0] * (channels - 2 * part) + [0.0] * part)
        matrix = np.kron(next_frame, first) + np.kron(same, middle) + np.kron(previous, last)
        values = clip(2, frames, channels)
        expected = values.reshape(2, -1) @ matrix.T
        np.testing.assert_array_equal(self.make()(values), expected.reshape(values.shape))
        np.testing.assert_array_equal(matrix, matrix.T)  # which the gradient relies on

    def test_gradient_is_that_of_the_slices(self):
        values, upstream = tf.constant(self.inputs()), clip(2, 4, 3, 2, 16)[::-1]
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = self.make()(values)
        gradient = tape.gradient(outputs, values, output_gradients=tf.constant(upstream.copy()))
        jacobian = np.zeros((4 * 16, 4 * 16))
        for index in range(4 * 16):
            one = np.zeros((1, 4, 16))
            one.flat[index] = 1.0
            jacobian[:, index] = loop(one, 2).ravel()
        by_pixel = np.moveaxis(upstream, (1, 4), (3, 4)).reshape(-1, 4 * 16)
        expected = (by_pixel @ jacobian).reshape(2, 3, 2, 4, 16)
        np.testing.assert_array_equal(gradient, np.moveaxis(expected, (3, 4), (1, 4)))

    @pytest.mark.parametrize(("fraction", "part"), [(0.0, 0), (0.25, 4), (0.5, 8), (0.05, 0)])
    def test_other_fractions(self, fraction, part):
        shifted = TemporalShift(fraction)(self.inputs())
        np.testing.assert_array_equal(shifted, loop(self.inputs(), part))

    def test_unknown_sizes(self):
        layer = self.make()
        signature = [tf.TensorSpec([None, None, None, None, 16])]
        shifted = tf.function(lambda values: layer(values), input_signature=signature)
        np.testing.assert_array_equal(shifted(self.inputs()), loop(self.inputs(), 2))

    def test_more_than_all_channels(self):
        with pytest.raises(ValueError, match=r"fraction must be in \[0, 0.5\], got 0.6"):
            TemporalShift(0.6)
