"""What a TPU needs, checked without one: XLA compiles the whole step, nothing is host-only.

A TPU runs what XLA has kernels for, on shapes that are known beforehand. The XLA compiler for the
CPU has the same kernels.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from tests.conftest import CHECKOUT
from tests.training.tiny import tiny_batch, tiny_classifier, tiny_model
from vatt_tf import config
from vatt_tf.data.input.pipeline import Augmentation, training_dataset
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.losses.objective import ObjectiveConfig
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.vatt import build_vatt
from vatt_tf.training.gradients.classification import ClassificationStep
from vatt_tf.training.gradients.contrastive import PretrainStep
from vatt_tf.training.optimization.optimizer import optimizer
from vatt_tf.training.optimization.schedule import learning_rate
from vatt_tf.training.tasks.config import TrainConfig
from vatt_tf.training.tasks.registry import configured_run, make_step
from vatt_tf.training.trainer import Trainer

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


def trainer_of(step, updates):
    """The trainer whose step is compiled: gradients, check, update."""
    updates.build(step.variables)
    return Trainer(
        strategy=tf.distribute.get_strategy(),
        model=step.model,
        optimizer=updates,
        step=step,
        global_step=tf.Variable(3, dtype=tf.int64),
        make_iterator=iter,
        batch_size=4,
        seed=7,
        clip_norm=1.0,
    )


def check_compiles(step, batch, updates):
    """XLA compiles the trainer's step."""
    trainer = trainer_of(step, updates)
    compute = tf.function(lambda *given: trainer._one_step(*given, None, ()), jit_compile=True)
    arguments = {k: tf.constant(v) for k, v in batch.items()}, tf.zeros(3)
    # Raises where an operation has no kernel or a shape depends on values.
    program = compute.experimental_get_compiler_ir(*arguments)(stage="hlo")
    assert "HloModule" in program and " dot(" in program
    assert "f64[" not in program and "custom-call" not in program

    found = nodes(compute.get_concrete_function(*arguments))
    ops = {node.op for node in found}
    assert not sorted(op for op in ops - STRUCTURE if not has_xla_kernel(op))
    assert not {(node.op, node.name) for node in found if dtypes(node) & FOREIGN}


def pretraining():
    return PretrainStep(tiny_model(dropout=0.1, drop_token=0.5), ObjectiveConfig(), 2)


def fine_tuning():
    return ClassificationStep(tiny_classifier(3), mixup_alpha=5.0, micro_batch_size=2)


def small_batch():
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    return {**tiny_batch(4), "labels": labels, "mixing_shares": np.ones(4, "float32")}


@pytest.mark.parametrize("make", [pytest.param(pretraining, marks=pytest.mark.check), fine_tuning])
def test_xla_compiles_the_whole_step(make):
    check_compiles(make(), small_batch(), optimizer(1e-3))


SIZES = dict(size="base", num_layers=1, d_model=16, num_heads=2, d_kv=8, d_ff=32)


def small(tower, sizes=SIZES):
    """The tower with little of everything that is only a size."""
    sizes = dict(width=1 / 16, blocks=(1, 1, 1, 1), vocab_size=50, embedding_dim=8, **sizes)
    patch = getattr(tower, "patch", None)
    if tower.modality == "video":
        frames, *sides = (4, 32, 32) if patch is None else (2 * size for size in patch)
        sizes |= dict(frames=frames, image_size=tuple(sides))
    elif tower.modality == "audio" and isinstance(patch, int):
        sizes |= dict(samples=4 * patch)
    fields = {field.name for field in dataclasses.fields(tower)}
    return dataclasses.replace(tower, **{k: v for k, v in sizes.items() if k in fields})


def small_model(run):
    """The model of a run with small towers."""
    if not isinstance(run, TrainConfig):
        config = dataclasses.replace(run.model.resolve(run.model.num_classes or 5), num_classes=5)
        if "tower" in vars(config):
            return build_classifier(dataclasses.replace(config, tower=small(config.tower)))
        towers = {name: small(tower) for name, tower in config.towers.items()}
        return build_classifier(dataclasses.replace(config, **towers))
    config = run.model
    own = SIZES if config.kind == "specific" else {}
    towers = {name: small(getattr(config, name), own) for name in config.modalities}
    agnostic = dataclasses.replace(config.agnostic, **SIZES)
    return build_vatt(dataclasses.replace(config, agnostic=agnostic, **towers))


FILES = [
    path
    for folder in (".", "finetune", "mmv", "examples")
    for path in sorted((CHECKOUT / "gin_configs" / folder).glob("*.gin"))
]


# What was checked in this process: a program is kept for as long as it lives.
CHECKED = set()


@pytest.mark.check
@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_xla_compiles_the_step_of_every_gin_file(file):
    check_file(file, check_compiles)


def check_file(file, check):
    """Checks the step of a gin file, with small towers."""
    config.clear()
    weights = ["INITIAL_WEIGHTS=None"] if file.parent.name == "finetune" else []
    config.parse([str(file)], ["TRAIN_DATA='none'", "EVAL_DATA='none'", *weights])
    run = configured_run()
    model, updates = small_model(run), optimizer(learning_rate(total_steps=run.steps))
    config.clear()
    if isinstance(run, TrainConfig):
        settings = run.objective
    else:
        settings = (run.label_smoothing, run.mixup_alpha, run.class_balance)
    program = check, repr((model.config, settings, updates.name))
    if program in CHECKED:
        return  # Files that differ in sizes alone, or in data.
    CHECKED.add(program)
    batch = {"record_id": np.arange(4), "mixing_shares": np.ones(4, "float32")}
    for name, tower in model.config.towers.items():
        rows = (4, 2) if name == "text" else (4,)
        dtype = {"video": "uint8", "audio": "float32", "text": "int32"}[name]
        batch[name] = np.ones((*rows, *tower.input_shape), dtype)
        batch[f"{name}_mask"] = np.ones(rows, "float32")
    if not isinstance(run, TrainConfig):
        batch["labels"] = np.eye(4, model.config.num_classes, dtype="float32")
    check(make_step(run, model, 2), batch, updates)


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
