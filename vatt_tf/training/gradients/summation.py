"""Summation of gradients in an order that does not depend on thread timing.

TensorFlow's sum of many tensors (``AddN``) adds into the first of its inputs that nothing
else reads at that moment: with three or more of them the last bit of
the sum depends on threads. A variable that is used three times has such a sum for a gradient, and
the graph optimizer makes more of them, from sums of sums. An interrupted run would then not
continue exactly. A sum of two has no order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop

# Marks an addition for TensorFlow's graph optimizer as already merged, so that it merges no more.
_MERGED = "_grappler_ArithmeticOptimizer_AddOpsRewriteStage"


@functools.cache
def add_gradients_in_pairs() -> None:
    """Makes all gradient tapes of this process sum gradients in pairs.

    TensorFlow has no public interface for this (tensorflow/tensorflow issue 15760);
    tests/training/gradients/test_summation.py checks the graphs of steps.
    """
    space = backprop._default_vspace._replace(aggregate_fn=_sum)
    pywrap_tfe.TFE_Py_RegisterVSpace(space)


def add(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Returns ``one + other``, which the graph optimizer does not merge into a longer sum."""
    if tf.executing_eagerly():
        return tf.add(one, other)
    graph = tf.compat.v1.get_default_graph()
    with graph._attr_scope({_MERGED: tf.compat.v1.AttrValue(b=True)}):
        return tf.add(one, other)


def _sum(gradients: Sequence[Any]) -> Any:
    if all(isinstance(gradient, tf.Tensor) for gradient in gradients):
        return functools.reduce(add, gradients)
    # Sparse gradients of embedding tables are concatenated, not added.
    return backprop._aggregate_grads(gradients)
