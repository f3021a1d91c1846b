"""Sums of gradients whose order does not depend on what happened to finish first.

TensorFlow's sum of many tensors (``AddN``) writes into the first of its inputs that nothing else
reads any more at that moment, and begins to add there: with three or more of them the last bit of
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

# With it an addition counts as one that TensorFlow's optimizer has made of several already.
_MERGED = "_grappler_ArithmeticOptimizer_AddOpsRewriteStage"


@functools.cache
def add_gradients_in_pairs() -> None:
    """From now on all tapes of this process add up what reaches a tensor two by two.

    TensorFlow has no public place for this; tests/training/gradients/test_summation.py looks at
    the graphs of steps, and would tell if it came to nothing.
    """
    space = backprop._default_vspace._replace(aggregate_fn=_sum)
    pywrap_tfe.TFE_Py_RegisterVSpace(space)


def add(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """``one + other``, which stays a sum of two where it is part of a longer one."""
    if tf.executing_eagerly():
        return tf.add(one, other)
    graph = tf.compat.v1.get_default_graph()
    with graph._attr_scope({_MERGED: tf.compat.v1.AttrValue(b=True)}):
        return tf.add(one, other)


def _sum(gradients: Sequence[Any]) -> Any:
    if all(isinstance(gradient, tf.Tensor) for gradient in gradients):
        return functools.reduce(add, gradients)
    # Rows of embedding tables are listed, not added.
    return backprop._aggregate_grads(gradients)
