"""The order of records: which record stands at global position p, as a function of the seed.

Training reads an endless stream of positions p = 0, 1, 2, ... Position p of global batch g and
row r is ``p = g * global_batch + r``. The source of each position comes from block-wise exact
weighted choice; within a source, epoch e is one permutation of its records seeded by (seed,
source, e). Both are computed on record numbers, so that any position can be reached by
arithmetic: nothing is read to get there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf

# What a seed is used for: keeps the streams of random numbers apart.
SHUFFLE, MIXTURE, AUGMENTATION = 1, 2, 3

# Mixture weights are met exactly in each block of about this many positions.
_BLOCK = 1024


def make_seed(*parts: int | tf.Tensor) -> tf.Tensor:
    """Folds whole numbers into one int64 ``[2]`` seed for stateless random ops."""
    seed = tf.stack([tf.cast(_int64(parts[0]), tf.int64), tf.constant(0, tf.int64)])
    for part in parts[1:]:
        # Explicit algorithm: the automatic choice may differ from device to device.
        seed = tf.random.fold_in(seed, tf.cast(_int64(part), tf.int64), alg="philox")
    return seed


def _int64(value: int | tf.Tensor) -> tf.Tensor | np.int64:
    """Wraps Python numbers of any size into 63 bits; leaves tensors alone."""
    return value if tf.is_tensor(value) else np.int64(int(value) % (1 << 63))


def allocate(weights: Sequence[float]) -> np.ndarray:
    """Positions of each source in one block of the mixture.

    The block is chosen so that simple ratios are exact; other weights are met to one part in
    the block, every source with at least one position.

    Args:
        weights: Positive weights.

    Returns:
        int64 ``[sources]``; the sum is the length of a block.
    """
    total = sum(Fraction(w) for w in weights)
    shares = [(Fraction(w) / total).limit_denominator(_BLOCK) for w in weights]
    block = math.lcm(*(share.denominator for share in shares))
    if sum(shares) == 1 and min(shares) > 0 and block <= 4 * _BLOCK:
        block *= max(1, _BLOCK // block)
        return np.asarray([int(share * block) for share in shares], np.int64)
    block = 4 * _BLOCK
    exact = [Fraction(w) / total * block for w in weights]
    counts = [max(1, int(share)) for share in exact]
    # Largest remainder: hand out (or take back) what rounding has left over.
    order = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in range(max(0, block - sum(counts))):
        counts[order[i % len(order)]] += 1
    while sum(counts) > block:
        counts[int(np.argmax(counts))] -= 1
    return np.asarray(counts, np.int64)


def block_sources(seed: int, block: int | tf.Tensor, counts: np.ndarray) -> tf.Tensor:
    """Source of each position in a block of the mixture: int64 ``[sum(counts)]``."""
    sources = tf.repeat(tf.range(len(counts), dtype=tf.int64), counts)
    return tf.gather(sources, _permutation(make_seed(seed, MIXTURE, block), int(sum(counts))))


def records_before(position: int, seed: int, counts: np.ndarray) -> np.ndarray:
    """Records that each source has given to positions below ``position``: int64 ``[sources]``."""
    block, rest = divmod(int(position), int(sum(counts)))
    given = block * counts
    if rest and len(counts) > 1:
        head = block_sources(seed, block, counts)[:rest].numpy()
        return given + np.bincount(head, minlength=len(counts))
    return given + (rest if len(counts) == 1 else 0)


def epoch_order(
    seed: int,
    source: int,
    epoch: int | tf.Tensor,
    first_row: np.ndarray,
    shuffle_window: int,
) -> tf.Tensor:
    """One epoch's order of a source's records.

    Shards come in random order; a record then moves less than ``shuffle_window`` places from its
    place in that order. A window as large as the source gives a uniform permutation.

    Args:
        seed: Seed of the run.
        source: Number of the source.
        epoch: Number of the epoch.
        first_row: int64 ``[shards + 1]``, see :class:`~vatt_tf.data.shards.index.ShardIndex`.
        shuffle_window: Records; 1 shuffles the order of the shards only.

    Returns:
        int64 ``[records]``: record numbers, each exactly once.
    """
    key = make_seed(seed, SHUFFLE, source, epoch)
    records = int(first_row[-1])
    if shuffle_window >= records:
        return _permutation(key, records)
    shard_key, record_key = tf.unstack(tf.random.split(key, 2, alg="philox"))
    first = tf.constant(first_row[:-1], tf.int64)
    sizes = tf.constant(np.diff(first_row), tf.int64)
    shards = _permutation(shard_key, len(first_row) - 1)
    sizes = tf.gather(sizes, shards)
    # Record numbers with the shards in shuffled order, records of a shard in file order.
    shift = tf.gather(first, shards) - tf.cumsum(sizes, exclusive=True)
    in_order = tf.range(records, dtype=tf.int64) + tf.repeat(shift, sizes)
    if shuffle_window <= 1:
        return in_order
    jitter = _uniform(record_key, records) * shuffle_window
    key = tf.range(records, dtype=tf.float64) + jitter
    return tf.gather(in_order, tf.argsort(key, stable=True))


def _uniform(key: tf.Tensor, size: int) -> tf.Tensor:
    return tf.random.stateless_uniform([size], key, dtype=tf.float64, alg="philox")


def _permutation(key: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cast(tf.argsort(_uniform(key, size), stable=True), tf.int64)


def _source_stream(
    seed: int, source: int, first_row: np.ndarray, shuffle_window: int, start: int
) -> tf.data.Dataset:
    """Endless ``(source, record number)`` of one source from its record ``start`` on."""
    epoch0, done = divmod(int(start), int(first_row[-1]))

    @tf.autograph.experimental.do_not_convert
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        order = epoch_order(seed, source, number, first_row, shuffle_window)
        skip = tf.where(number == epoch0, tf.constant(done, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(order[skip:])

    stream = tf.data.Dataset.range(epoch0, np.iinfo(np.int64).max).flat_map(epoch)
    return stream.map(lambda row: (tf.constant(source, tf.int64), row))


def record_stream(
    first_rows: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    seed: int,
    start: int = 0,
    shuffle_window: int = 4096,
) -> tf.data.Dataset:
    """Endless stream of ``(source, record number)``, both int64, from global position ``start``.

    Args:
        first_rows: ``first_row`` of each source's index.
        weights: Weight of each source.
        seed: Seed of the run.
        start: Position of the first element; costs no reading.
        shuffle_window: See :func:`epoch_order`.
    """
    counts = allocate(weights)
    starts = records_before(start, seed, counts)
    streams = [
        _source_stream(seed, i, first_row, shuffle_window, starts[i])
        for i, first_row in enumerate(first_rows)
    ]
    if len(streams) == 1:
        return streams[0]
    block0, done = divmod(int(start), int(sum(counts)))

    @tf.autograph.experimental.do_not_convert
    def block(number: tf.Tensor) -> tf.data.Dataset:
        skip = tf.where(number == block0, tf.constant(done, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(block_sources(seed, number, counts)[skip:])

    choice = tf.data.Dataset.range(block0, np.iinfo(np.int64).max).flat_map(block)
    return tf.data.Dataset.choose_from_datasets(streams, choice, stop_on_empty_dataset=False)
