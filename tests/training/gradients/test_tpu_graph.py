"""What a TPU needs, checked without one: XLA compiles the whole step, nothing is host-only.

A TPU runs what XLA has kernels for, on shapes that are known beforehand. The XLA compiler for the
CPU has the same kernels.
"""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from tests.training.tiny import tiny_batch, tiny_classifier, tiny_model
from vatt_tf.data.input.pipeline import Augmentation, training_dataset
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.losses.objective import ObjectiveConfig
from vatt_tf.training.gradients.classification import ClassificationStep
from vatt_tf.training.gradients.contrastive import PretrainStep, step_key

# Structure, which the compiler takes apart itself.
STRUCTURE = {"NoOp", "Placeholder"}
# What a TPU has not, or only by slow emulation.
FOREIGN = {tf.string, tf.float64, tf.complex128}


def nodes(function):
    """All nodes of a concrete function and of every function that it calls."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]


def has_xla_kernel(op):
    """Whether XLA can compile the operation."""
    kernel_list = kernels.get_registered_kernels_for_op(op).kernel
    return any(kernel.device_type == "XLA_CPU_JIT" for kernel in kernel_list)


def dtypes(node):
    """All types among a node's attributes."""
    listed = [t for value in node.attr.values() for t in value.list.type]
    return {tf.as_dtype(t) for t in [*listed, *(v.type for v in node.attr.values() if v.type)]}


def device_function(step, batch):
    """The step as the trainer runs it: batch and step number in; gradients and metrics out."""

    @tf.function(jit_compile=True)
    def compute(batch, number):
        return step(batch, step_key(7, number, tf.constant(0)), 0)

    return compute, ({k: tf.constant(v) for k, v in batch.items()}, tf.constant(3, tf.int64))


def pretraining(micro):
    model = tiny_model(dropout=0.1, drop_token=0.5)
    return PretrainStep(model, ObjectiveConfig(), micro), tiny_batch(4)


def finetuning(micro):
    batch = {**tiny_batch(4), "labels": np.eye(3, dtype="float32")[[0, 1, 2, 0]]}
    return ClassificationStep(tiny_classifier(3), mixup_alpha=0.0, micro_batch_size=micro), batch


@pytest.mark.parametrize(
    ("make", "micro"), [pytest.param(pretraining, 2, marks=pytest.mark.check), (finetuning, 2)]
)
def test_xla_compiles_the_whole_step(make, micro):
    step, batch = make(micro)
    compute, arguments = device_function(step, batch)
    # Raises where an operation has no kernel or a shape depends on values.
    program = compute.experimental_get_compiler_ir(*arguments)(stage="hlo")
    assert "HloModule" in program and " dot(" in program
    assert "f64[" not in program and "custom-call" not in program

    found = nodes(compute.get_concrete_function(*arguments))
    ops = {node.op for node in found}
    assert not sorted(op for op in ops - STRUCTURE if not has_xla_kernel(op))
    assert not {(node.op, node.name) for node in found if dtypes(node) & FOREIGN}


def test_batches_have_static_shapes_and_need_no_python(shards):
    spec = ClipSpec(frames=4, height=16, width=16, samples=320, tokens=6, texts=2, sample_rate=800)
    tokenizer = load_tokenizer(str(shards / "tokenizer"), "word", 6)
    dataset = training_dataset(
        str(shards / "train"), spec, tokenizer, Augmentation(), batch_size=4, shuffle_window=4
    )
    for name, element in dataset.element_spec.items():
        assert element.shape.is_fully_defined() and element.shape[0] == 4, name
        assert element.dtype not in FOREIGN, name
    serialized = tf.raw_ops.DatasetToGraphV2(input_dataset=tf.data.experimental.to_variant(dataset))
    graph = tf.compat.v1.GraphDef.FromString(serialized.numpy())
    functions = [node for inner in graph.library.function for node in inner.node_def]
    assert "ParallelMapDatasetV2" in {node.op for node in graph.node}
    assert not {node.op for node in [*graph.node, *functions] if "PyFunc" in node.op}
