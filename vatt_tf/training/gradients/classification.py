"""Gradients of one fine-tuning step: cross entropy over classes, optionally in micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from vatt_tf.layers.fusion import fusion
from vatt_tf.losses import classification as losses
from vatt_tf.training.gradients.compilation import compiler_of
from vatt_tf.training.gradients.contrastive import Gather, dense, fold, seeded, step_key
from vatt_tf.training.gradients.summation import add, add_gradients_in_pairs
from vatt_tf.wording import count_of

# Folded into the random key for numbers drawn for the whole batch; no micro-batch has this index.
_WHOLE_BATCH = 1 << 30
# Key of the batches that holds each clip's own share in its mixture.
_SHARES = "mixing_shares"


def mixing_shares(rows: int, alpha: float, key: tf.Tensor) -> tf.Tensor:
    """Own share of each clip in its mixup with another one, Beta(alpha, alpha), float32 ``[rows]``.

    Args:
        rows: Clips of a replica.
        alpha: Both parameters of the Beta distribution.
        key: Random key of the replica and step.
    """
    _, first, second = _mixing_keys(key)
    # A Beta(a, a) variable is g / (g + h) of two Gamma(a) variables.
    g = tf.random.stateless_gamma([rows], first, alpha)
    h = tf.random.stateless_gamma([rows], second, alpha)
    return g / (g + h)


def with_mixing_shares(
    batches: tf.data.Dataset, alpha: float, seed: int, start_step: int, replicas: range
) -> tf.data.Dataset:
    """Adds :func:`mixing_shares` to batches: XLA has no kernel for the gamma distribution.

    Args:
        batches: One batch for each replica of this worker in turn, with ``record_id``.
        alpha: Both parameters of the Beta distribution.
        seed: Seed of the run.
        start_step: Step of the first batches.
        replicas: Numbers of this worker's replicas.
    """

    @tf.autograph.experimental.do_not_convert
    def add_shares(number: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        step, place = number // len(replicas), number % len(replicas)
        key = step_key(seed, start_step + step, replicas.start + place)
        rows = batch["record_id"].shape[0]
        return {**batch, _SHARES: mixing_shares(rows, alpha, key)}

    return batches.enumerate().map(add_shares)


class ClassificationStep:
    """Computes loss and gradients of a batch for one replica.

    No layer of a classifier looks at more than one clip, so gradients of micro-batches add up
    exactly to those of the batch.

    Args:
        model: Built classifier: inputs -> ``{"logits"}``, with ``config.modalities``,
            ``config.multi_label`` and ``head_variables``.
        label_smoothing: Fraction of a label that is spread over all classes (single label).
        mixup_alpha: Both parameters of the Beta distribution that mixup draws from; 0: no mixup.
            Clips that are there are mixed with each other.
        class_balance: Weigh clips by the rarity of their classes in the batch.
        micro_batch_size: Clips that pass through the towers at a time; None: all of them.
        gather: Joins a local ``[b, ...]`` tensor with those of the other replicas.
        jit_compile: Compile the model with XLA (forward and backward).

    Attributes:
        variables: Trainable variables: those of the towers, then those of the head.
        clipped: Number of leading ``variables`` whose gradients are clipped: the towers'
            (docs/reference.md, Fine-tuning).
    """

    def __init__(
        self,
        model: Any,
        *,
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        class_balance: bool = False,
        micro_batch_size: int | None = None,
        gather: Gather = tf.identity,
        jit_compile: bool = False,
    ) -> None:
        self.model = model
        self.label_smoothing = label_smoothing
        self.mixup_alpha = mixup_alpha
        self.class_balance = class_balance
        self.micro_batch_size = micro_batch_size
        self.gather = gather
        self.variables = list(model.tower_variables) + list(model.head_variables)
        self.clipped = len(model.tower_variables)
        modalities = model.config.modalities
        self._inputs = (*modalities, *(f"{modality}_mask" for modality in modalities))
        self._compiler = compiler_of(jit_compile)
        self._forward = seeded(model, jit_compile)
        add_gradients_in_pairs()

    def __call__(
        self, batch: Mapping[str, tf.Tensor], key: tf.Tensor, row_offset: tf.Tensor | int = 0
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Returns gradients (in the order of ``variables``), loss and accuracy of this replica.

        Their sums over the replicas are those of the whole batch.

        Args:
            batch: One replica's rows: the model's inputs, ``labels`` float32 ``[b, C]``, and for
                mixup those of :func:`with_mixing_shares`, which are drawn where they are not there.
            key: Random key of this replica and step, see
                :func:`vatt_tf.training.gradients.contrastive.step_key`.
            row_offset: Not read: no clip depends on another one.
        """
        with fusion(self._compiler):
            return self._gradients(batch, key)

    def _gradients(self, batch, key):
        labels = batch["labels"]
        rows = labels.shape[0]
        size = self.micro_batch_size or rows
        if rows % size:
            raise ValueError(
                f"micro_batch_size={size} does not divide the {count_of(rows, 'clip')} of a "
                "replica's batch"
            )
        targets = labels
        if self.label_smoothing:
            targets = losses.smooth_labels(labels, self.label_smoothing)
        inputs = {name: batch[name] for name in self._inputs if name in batch}
        # Clips without any modality of the model have weight 0, and are no one's partner.
        present = self._present(inputs, rows)
        if self.mixup_alpha:
            partners = _partners(present, key)
            shares = batch.get(_SHARES)
            if shares is None:
                shares = mixing_shares(rows, self.mixup_alpha, key)
            labels, targets = (
                _mixed(value, tf.gather(value, partners), shares) for value in (labels, targets)
            )
        mean = present / tf.maximum(tf.reduce_sum(self.gather(present)), 1.0)
        weights = mean
        if self.class_balance:
            # Over all replicas, so that the loss does not depend on how the batch is split; of the
            # labels before smoothing, which makes no clip a member of another class.
            counts = tf.reduce_sum(self.gather(labels * present[:, tf.newaxis]), axis=0)
            weights = mean * losses.balance_weights(labels, counts)

        def part(begin):
            """Gradients and metrics of the rows from ``begin`` on."""
            rows = tf.range(size) + begin
            chosen = {name: _rows(value, rows) for name, value in inputs.items()}
            if self.mixup_alpha:
                numbers = tf.gather(partners, rows)
                others = {name: _rows(value, numbers) for name, value in inputs.items()}
                chosen = self._mix(chosen, others, tf.gather(shares, rows))
            with tf.GradientTape() as tape:
                logits = self._forward(fold(key, begin), chosen)["logits"]
                loss, metrics = self._loss(
                    logits, *(tf.gather(value, rows) for value in (targets, weights, mean))
                )
            values = [variable.value for variable in self.variables]
            gradients = tape.gradient(loss, values, unconnected_gradients="zero")
            return [*(dense(gradient) for gradient in gradients), *metrics.values()]

        names = ("loss",) if self.model.config.multi_label else ("loss", "top1")
        if size == rows:
            results = part(0)
        else:
            zeros = [tf.zeros(variable.shape) for variable in self.variables]
            start = (tf.constant(0), *zeros, *(tf.constant(0.0) for _ in names))
            _, *results = tf.while_loop(
                lambda begin, *_: begin < rows,
                lambda begin, *totals: (
                    begin + size,
                    *(add(total, new) for total, new in zip(totals, part(begin), strict=True)),
                ),
                start,
                parallel_iterations=1,
            )
        count = len(self.variables)
        return results[:count], dict(zip(names, results[count:], strict=True))

    def _present(self, inputs, rows):
        """Mask of the rows that have at least one of the modalities, float32 [rows]."""
        masks = [value for name, value in inputs.items() if name.endswith("_mask")]
        if not masks:
            return tf.ones([rows])
        flat = [tf.reduce_max(tf.reshape(mask, (rows, -1)), axis=1) for mask in masks]
        return tf.reduce_max(tf.stack(flat), axis=0)

    def _loss(self, logits, labels, weights, mean):
        if self.model.config.multi_label:
            loss = tf.reduce_sum(weights * losses.sigmoid_cross_entropy(logits, labels))
            return loss, {"loss": loss}
        loss = tf.reduce_sum(weights * losses.softmax_cross_entropy(logits, labels))
        hits = tf.argmax(logits, axis=-1) == tf.argmax(labels, axis=-1)
        return loss, {"loss": loss, "top1": tf.reduce_sum(mean * tf.cast(hits, tf.float32))}

    def _mix(self, own, others, shares):
        """Mixes inputs of clips with those of their partners; uint8 frames become float32.

        Where one of the two lacks a modality the other's is taken as it is.
        """
        mixed = {}
        for name in self.model.config.modalities:
            value, other, share = own[name], others[name], shares
            if value.dtype == tf.uint8:  # to [-1, 1], which towers accept too
                value, other = (
                    tf.cast(x, tf.float32) * (2.0 / 255.0) - 1.0 for x in (value, other)
                )
            mask = f"{name}_mask"
            if mask in own:
                share = tf.where(others[mask] > 0, tf.where(own[mask] > 0, share, 0.0), 1.0)
                mixed[mask] = tf.maximum(own[mask], others[mask])
            mixed[name] = _mixed(value, other, share)
        return mixed


def _rows(value: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Rows of a tensor by their numbers, int32 [n]."""
    if value.dtype != tf.uint8:
        return tf.gather(value, numbers)
    # TensorFlow gathers no bytes on a GPU; float16 holds them exactly.
    return tf.cast(tf.gather(tf.cast(value, tf.float16), numbers), tf.uint8)


def _mixing_keys(key: tf.Tensor) -> list[tf.Tensor]:
    return tf.unstack(tf.random.split(fold(key, _WHOLE_BATCH), 3, alg="philox"))


def _partners(present: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Mixup partner of each row: a permutation of those that are there; others keep themselves."""
    draws = tf.random.stateless_uniform(present.shape, _mixing_keys(key)[0], alg="philox")
    there = tf.argsort(-present, stable=True)
    drawn = tf.argsort(tf.where(present > 0, draws, 2.0), stable=True)
    return tf.gather(drawn, tf.argsort(there))


def _mixed(value: tf.Tensor, other: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    shares = tf.reshape(shares, (-1, *[1] * (value.shape.rank - 1)))
    return shares * value + (1.0 - shares) * other
