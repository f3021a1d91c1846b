"""What a GPU needs, checked without one: all of a step that is traced for it can run there.

TensorFlow's wheel for Linux has its GPU kernels registered whether or not there is a GPU.
"""

import functools

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from tests.conftest import CHECKOUT
from tests.training.gradients import test_tpu_graph as tpu


@functools.cache
def gpu_kernels(op):
    """The types by attribute that each kernel for GPUs, or for any device, takes."""
    return [
        {limit.name: set(limit.allowed_values.list.type) for limit in kernel.constraint}
        for kernel in kernels.get_registered_kernels_for_op(op).kernel
        if kernel.device_type in ("GPU", "DEFAULT")
    ]


def runs_on_gpu(node):
    """Whether one of them takes the node's types."""
    return any(
        all(
            set(node.attr[name].list.type or [node.attr[name].type]) <= allowed
            for name, allowed in limits.items()
        )
        for limits in gpu_kernels(node.op)
    )


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, for all that asks before it makes a graph."""
    if not runs_on_gpu(
        tf.compat.v1.NodeDef(op="Shape", attr=types(T=tf.float32, out_type=tf.int32))
    ):
        pytest.skip("this TensorFlow is built without kernels for GPUs")
    listed = tf.config.list_logical_devices

    def with_gpu(kind=None):
        there = [tf.config.LogicalDevice("/device:GPU:0", "GPU")]
        return there if kind == "GPU" else listed(kind)

    monkeypatch.setattr(tf.config, "list_logical_devices", with_gpu)


def types(**given):
    return {name: tf.compat.v1.AttrValue(type=t.as_datatype_enum) for name, t in given.items()}


def check_runs_on_gpu(step, batch, updates):
    trainer = tpu.trainer_of(step, updates)
    with tf.device("/device:GPU:0"):
        program = trainer._one_step.get_concrete_function(batch, tf.zeros(3), None, ())
    found = [node for node in tpu.nodes(program) if node.op not in tpu.STRUCTURE]
    assert "MatMul" in {node.op for node in found}
    elsewhere = [node for node in found if not runs_on_gpu(node)]
    assert not {(node.op, *sorted(t.name for t in tpu.dtypes(node))) for node in elsewhere}
    assert not {node.name for node in found if "CPU" in node.device}
    assert not {node.name for node in found if "_XlaMustCompile" in node.attr}


# A Transformer of each kind, each kind of convolutional tower, a classifier.
FILES = ("bbs", "ma_medium", "mil_nce", "mmv/tsm_r50_fac", "finetune/multimodal")


@pytest.mark.check
@pytest.mark.parametrize("file", FILES)
def test_the_step_has_no_operation_for_cpus_alone(gpu, file):
    tpu.check_file(CHECKOUT / "gin_configs" / f"{file}.gin", check_runs_on_gpu)


def test_what_has_no_kernel_is_found():
    kinds = types(T=tf.float32)
    assert runs_on_gpu(tf.compat.v1.NodeDef(op="MatMul", attr=kinds))
    assert not runs_on_gpu(tf.compat.v1.NodeDef(op="MatMul", attr=types(T=tf.uint8)))
    assert not runs_on_gpu(tf.compat.v1.NodeDef(op="EagerPyFunc", attr=kinds))
    assert not runs_on_gpu(tf.compat.v1.NodeDef(op="LookupTableFindV2", attr=kinds))
