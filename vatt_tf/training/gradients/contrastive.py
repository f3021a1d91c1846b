"""Gradients of one pre-training step, for large batches by gradient caching (GradCache).

A contrastive loss needs the embeddings of the whole batch at once, but not the activations of the
towers. Gradient caching (Gao et al., 2021) embeds micro-batches without keeping activations,
computes the loss and the gradients of the features on the full batch, then embeds the micro-batches
again and back-propagates these gradients through the towers. The result is exact, so the batch size
is a choice of the method and not of the hardware. The heads' BatchNorm reads the full batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from vatt_tf.data.schema import MODALITIES
from vatt_tf.layers.fusion import fusion
from vatt_tf.layers.random import seed_scope
from vatt_tf.losses.health import embedding_health
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.losses.statistical import statistical_loss
from vatt_tf.training.gradients.compilation import compiler_of
from vatt_tf.training.gradients.summation import add, add_gradients_in_pairs
from vatt_tf.wording import count_of

Gather = Callable[[tf.Tensor], tf.Tensor]


def step_key(seed: int, step: tf.Tensor, replica: tf.Tensor) -> tf.Tensor:
    """Random key of a replica at a step, int32 ``[2]``: a function of seed, step and replica."""
    key = fold(tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int32), tf.cast(step, tf.int32))
    return fold(key, tf.cast(replica, tf.int32))


def fold(key: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """Derives a key from a key and a number; different numbers give different keys."""
    return tf.random.experimental.stateless_fold_in(key, number)


def seeded(function: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
    """Returns ``f(key, inputs)``: ``function(inputs, training=True)`` with draws of that key.

    ``f(key, inputs, hold=True)`` leaves the moving averages of BatchNorm unchanged.

    The key is an argument because XLA traces a function once: a key from the enclosing scope would
    be a constant of the graph (the first replica's, for example). Every call is traced anew, since
    layers may have been frozen in between.
    """

    def run(key: tf.Tensor, inputs: Mapping[str, tf.Tensor], hold: bool = False) -> Any:
        with seed_scope(key, hold):
            return function(inputs, training=True)

    def compiled(*arguments: Any) -> Any:
        return tf.function(run, jit_compile=True, autograph=False)(*arguments)

    return compiled if jit_compile else run


class PretrainStep:
    """Computes loss and gradients of a batch for one replica.

    Args:
        model: A built ``VATT`` (or anything with its ``towers``, ``encode``, ``project``,
            ``tower_variables`` and ``head_variables``).
        config: The objective.
        micro_batch_size: Clips that pass through the towers at a time; ``None`` for one
            pass. Must divide the replica's batch.
        gather: Joins a local ``[b, ...]`` tensor with those of the other replicas to ``[B, ...]``,
            differentiable. Identity for one replica.
        jit_compile: Compile the towers with XLA (forward and backward).

    Attributes:
        variables: Trainable variables: those of the towers, then those of the head.
        clipped: Number of leading ``variables`` whose gradients are clipped: all.
    """

    def __init__(
        self,
        model: Any,
        config: ObjectiveConfig,
        micro_batch_size: int | None = None,
        gather: Gather = tf.identity,
        jit_compile: bool = False,
    ) -> None:
        self.model = model
        self.config = config
        self.micro_batch_size = micro_batch_size
        self.gather = gather
        # Trainable variables of each tower; a shared Transformer is in the list of every tower.
        self._trained = {
            name: {id(variable) for variable in tower.trainable_variables}
            for name, tower in model.towers.items()
        }
        self.variables = list(model.tower_variables) + list(model.head_variables)
        self.clipped = len(self.variables)
        self._compiler = compiler_of(jit_compile)
        self._encode = seeded(model.encode, jit_compile)
        add_gradients_in_pairs()

    def __call__(
        self, batch: Mapping[str, tf.Tensor], key: tf.Tensor, row_offset: tf.Tensor | int = 0
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Returns gradients (in the order of ``variables``) and losses of this replica.

        Their sums over the replicas are those of the whole batch.

        Args:
            batch: One replica's rows: ``video``, ``audio``, ``text`` and their masks.
            key: Random key of this replica and step, see :func:`step_key`.
            row_offset: Index of the first local row in the whole batch.
        """
        rows = batch["video"].shape[0]
        size = self.micro_batch_size or rows
        if rows % size:
            raise ValueError(
                f"micro_batch_size={size} does not divide the {count_of(rows, 'clip')} of a "
                "replica's batch"
            )
        with fusion(self._compiler):
            if size == rows:
                return self._plain(batch, key, row_offset)
            return self._with_cached_gradients(batch, key, row_offset, rows // size, size)

    def _plain(self, batch, key, row_offset):
        with tf.GradientTape() as tape:
            features = self._embed(batch, key, 0)
            loss, metrics = self._loss(features, batch, row_offset)
        gradients = tape.gradient(loss, self._values(), unconnected_gradients="zero")
        # The gradient of an embedding table comes first and is as large as the table when dense, so
        # that it is made dense last.
        others = [one for one in gradients if isinstance(one, tf.Tensor)]
        with tf.control_dependencies([tf.group(*others)]):
            return [dense(gradient) for gradient in gradients], metrics

    def _with_cached_gradients(self, batch, key, row_offset, count, size):
        inputs = {name: _split(batch[name], count, size) for name in self._trained if name in batch}

        def embed(index):
            parts = {name: value[index] for name, value in inputs.items()}
            return self._embed(parts, key, index, hold=True)

        # First pass: features of every micro-batch, no activations kept. The statistics of the
        # towers' BatchNorm are those of a micro-batch; they are recorded in the second pass.
        shapes = self._feature_signature(inputs, key)
        # One at a time: parallel micro-batches would hold the activations of several.
        features = tf.map_fn(
            embed, tf.range(count), fn_output_signature=shapes, parallel_iterations=1
        )
        features = {name: _join(value, count * size) for name, value in features.items()}

        # Loss on the full batch: gradients of the heads and of the features.
        heads = [variable.value for variable in self.model.head_variables]
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss, metrics = self._loss(features, batch, row_offset)
        head_gradients, feature_gradients = tape.gradient(
            loss, (heads, features), unconnected_gradients="zero"
        )

        # Second pass: the same features (same key, so the same dropout masks), back-propagated one
        # tower after the other, so that activations and gradient sums of one tower exist at a time.
        variables = self.model.tower_variables
        sums: dict[int, tf.Tensor] = {}

        def sum_of(variable):
            return sums.get(id(variable), tf.zeros_like(variable.value))

        for name, value in inputs.items():
            upstream = _split(feature_gradients[name], count, size)
            own = [one for one in variables if id(one) in self._trained[name]]
            with tf.control_dependencies([tf.group(*feature_gradients.values(), *sums.values())]):
                before = [sum_of(one) for one in own]
                after = self._pulled_back(name, value, upstream, key, own, before)
            sums |= {id(one): total for one, total in zip(own, after, strict=True)}
        tower_gradients = [sum_of(one) for one in variables]
        return tower_gradients + [dense(gradient) for gradient in head_gradients], metrics

    def _pulled_back(self, name, inputs, upstream, key, variables, sums):
        """Adds the gradients of a tower to ``sums``, micro-batch by micro-batch."""
        weights = [variable.value for variable in variables]

        def accumulate(index, *sums):
            with tf.GradientTape() as tape:
                features = self._embed({name: inputs[index]}, key, index)[name]
                # The gradient of this scalar is the cached gradient times the tower's Jacobian.
                target = tf.reduce_sum(features * upstream[index])
            gradients = tape.gradient(target, weights, unconnected_gradients="zero")
            added = [add(total, dense(one)) for total, one in zip(sums, gradients, strict=True)]
            return (index + 1, *added)

        count = inputs.shape[0]
        _, *sums = tf.while_loop(
            lambda index, *_: index < count,
            accumulate,
            (tf.constant(0), *sums),
            parallel_iterations=1,
        )
        return sums

    def _embed(self, inputs, key, index, hold=False):
        """Embeds a micro-batch: pooled features in float32.

        Each tower has its own key, so that it draws the same numbers alone and beside the others.
        """
        features: dict[str, tf.Tensor] = {}
        for number, name in enumerate(MODALITIES):
            if name in inputs and name in self._trained:
                own_key = fold(fold(key, index), number)
                features |= self._encode(own_key, {name: inputs[name]}, hold)
        return {name: tf.cast(value, tf.float32) for name, value in features.items()}

    def _feature_signature(self, inputs, key):
        """Shapes of the features, from tracing the towers once without running them."""

        def trace():
            parts = {name: value[0] for name, value in inputs.items()}
            return self._embed(parts, key, 0, hold=True)

        outputs = tf.function(trace, autograph=False).get_concrete_function().structured_outputs
        return {name: tf.TensorSpec(value.shape, value.dtype) for name, value in outputs.items()}

    def _loss(self, features, batch, row_offset):
        masks = {name: batch[f"{name}_mask"] for name in features}
        spaces = self.model.project(features, training=True, masks=masks)
        # Inside of the tape: embeddings also get gradients as negatives on other replicas.
        all_spaces = tf.nest.map_structure(self.gather, spaces)
        all_masks = tf.nest.map_structure(self.gather, masks)
        loss, metrics = objective(spaces, all_spaces, masks, all_masks, self.config, row_offset)
        if self.config.statistics_weight:
            metrics["statistics"] = self._statistics(features, all_masks)
            loss = loss + self.config.statistics_weight * metrics["statistics"]
        return loss, {
            "loss": loss,
            **{f"loss/{name}": value for name, value in metrics.items()},
            **_health(spaces, all_spaces, all_masks),
        }

    def _statistics(self, features, all_masks):
        """Contribution of this replica to the loss on the distributions of the features."""
        rows = next(iter(features.values())).shape[0]
        features = tf.nest.map_structure(self.gather, features)
        # Every replica computes the whole loss; its fraction of the rows makes the sum right.
        share = rows / next(iter(features.values())).shape[0]
        kind, components = self.config.statistics, self.config.mixture_components
        return share * statistical_loss(features, all_masks, kind, components)

    def _values(self):
        return [variable.value for variable in self.variables]


def _health(spaces, all_spaces, all_masks):
    """Contribution of this replica to ``cosine/...`` and ``rank/...`` of the batch's embeddings."""
    metrics = {}
    for space, members in all_spaces.items():
        for modality, embeddings in members.items():
            share = spaces[space][modality].shape[0] / embeddings.shape[0]
            health = embedding_health(tf.stop_gradient(embeddings), all_masks[modality])
            for name, value in zip(("cosine", "rank"), health, strict=True):
                metrics[f"{name}/{space}/{modality}"] = share * value
    return metrics


def _split(tensor: tf.Tensor, count: int, size: int) -> tf.Tensor:
    return tf.reshape(tensor, (count, size, *tensor.shape[1:]))


def _join(tensor: tf.Tensor, rows: int) -> tf.Tensor:
    return tf.reshape(tensor, (rows, *tensor.shape[2:]))


def dense(gradient: Any) -> tf.Tensor:
    """Converts the sparse gradient of an embedding table to a dense one, for sums and norms."""
    return tf.convert_to_tensor(gradient)
