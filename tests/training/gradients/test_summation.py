"""The order of a sum does not depend on threads.

``AddN`` begins with its first input whose buffer nothing else reads any more. If that can be
another one than the first or the second, the result depends on who was faster. Whether it can is
told by the graph that TensorFlow runs.
"""

import collections

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from tests.models import tiny as small
from tests.models.test_convolutional import TSM
from tests.training.gradients import test_conv_step as conv
from tests.training.tiny import tiny_batch, tiny_classifier, tiny_model
from vatt_tf.losses.objective import ObjectiveConfig
from vatt_tf.models.vatt import build_vatt
from vatt_tf.training.gradients.classification import ClassificationStep
from vatt_tf.training.gradients.contrastive import PretrainStep
from vatt_tf.training.gradients.summation import add, add_gradients_in_pairs

KEY = tf.constant([1, 2])
# What hands on the buffer that it was given.
VIEWS = {"Reshape", "Identity", "StridedSlice", "Slice", "EnsureShape", "Squeeze", "ExpandDims"}
# Whose buffers have other owners: arguments, constants, what goes round in a loop.
SHARED = {"_Arg", "Placeholder", "Const", "ReadVariableOp", "Switch", "Merge", "Enter"}


def graphs_of(function, *arguments):
    """The nodes of each graph that TensorFlow makes of a function, as it runs them."""
    context.enable_run_metadata()
    try:
        function(*arguments)
        metadata = context.export_run_metadata()
    finally:
        context.disable_run_metadata()
    for functions in metadata.function_graphs:
        graph = functions.post_optimization_graph
        yield graph.node
        yield from (inner.node_def for inner in graph.library.function)


def racing(nodes):
    """The sums of one graph whose order is open: name -> inputs."""
    producers = {node.name: node for node in nodes}
    readers = collections.Counter(_tensor(name) for node in nodes for name in node.input)

    def alone(name):
        """Whether a sum is certainly the last reader of this input's buffer."""
        while readers[_tensor(name)] == 1:
            node = producers.get(name.split(":")[0])
            if node is None or node.op in SHARED:
                return False
            if node.op not in VIEWS:
                return True
            name = node.input[0]
        return False

    sums = {
        node.name: [name for name in node.input if not name.startswith("^")]
        for node in nodes
        if node.op == "AddN"
    }
    return {
        name: inputs
        for name, inputs in sums.items()
        if len(inputs) > 2 and not any(map(alone, inputs[:2]))
    }


def _tensor(name):
    """Name of an input with its output number, which may be left out."""
    node, *parts = name.split(":")
    return node, parts[-1] if parts and parts[-1].isdigit() else "0"


def racing_of(function, *arguments):
    function = tf.function(function, autograph=False)
    found = [racing(nodes) for nodes in graphs_of(function, *arguments)]
    assert found
    return {name: inputs for sums in found for name, inputs in sums.items()}


def constants(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def two_pass():
    return PretrainStep(tiny_model(dropout=0.1), ObjectiveConfig(), 2), constants(tiny_batch(4))


def shared_weights():
    masks = {"video_mask": np.ones(4), "audio_mask": np.ones(4), "text_mask": np.ones((4, 2))}
    batch = small.batch(4) | {name: mask.astype("float32") for name, mask in masks.items()}
    return PretrainStep(build_vatt(small.agnostic()), ObjectiveConfig()), constants(batch)


def convolutions():
    return PretrainStep(conv.model(video=TSM), ObjectiveConfig()), conv.batch()


def micro_batches():
    batch = {"video": tiny_batch(4)["video"], "labels": np.eye(4, 3, dtype="float32")}
    step = ClassificationStep(tiny_classifier(3), mixup_alpha=1.0, micro_batch_size=2)
    return step, constants(batch)


@pytest.mark.parametrize(
    "make",
    [
        two_pass,
        pytest.param(shared_weights, marks=pytest.mark.check),
        pytest.param(convolutions, marks=pytest.mark.check),
        micro_batches,
    ],
)
def test_no_sum_of_a_step_depends_on_threads(make):
    step, batch = make()
    assert not racing_of(step, batch, KEY)


def uses(plus):
    """A sum of three products, each of which something else reads too."""

    def function(values):
        products = [values @ values for values in (values, values + 1.0, values + 2.0)]
        return plus(plus(products[0], products[1]), products[2]), [tf.abs(p) for p in products]

    return function


def test_sums_of_sums_stay_what_they_are():
    values = tf.ones((8, 8))
    assert racing_of(uses(tf.add), values)
    assert not racing_of(uses(add), values)
    assert add(values, values).numpy().tolist() == (2 * values).numpy().tolist()


def test_gradients_of_a_tensor_with_three_readers():
    add_gradients_in_pairs()
    values = tf.constant(np.random.default_rng(0).normal(size=(8, 8)), tf.float32)

    def gradient(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            parts = [tf.sin(values), tf.cos(values), tf.exp(values), values**3]
            target = tf.add_n([tf.reduce_sum(part) for part in parts])
        return tape.gradient(target, values)

    nodes = tf.function(gradient).get_concrete_function(values).graph.as_graph_def().node
    assert "AddN" not in {node.op for node in nodes if node.input and "gradient" in node.input[0]}
    expected = np.cos(values) - np.sin(values) + np.exp(values) + 3 * values.numpy() ** 2
    np.testing.assert_allclose(gradient(values), expected, rtol=1e-5)


def test_rows_of_tables_are_still_listed():
    add_gradients_in_pairs()
    table = tf.Variable(tf.ones((5, 2)))
    with tf.GradientTape() as tape:
        target = tf.reduce_sum(tf.gather(table, [1, 1])) + tf.reduce_sum(tf.gather(table, [4]))
    gradient = tape.gradient(target, table)
    assert isinstance(gradient, tf.IndexedSlices)
    dense = tf.convert_to_tensor(gradient).numpy()
    assert dense[:, 0].tolist() == [0, 2, 0, 0, 1]
