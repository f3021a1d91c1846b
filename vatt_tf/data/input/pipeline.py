"""From shards to batches: training clips in a seeded order, evaluation clips in file order.

    positions -> record numbers (order.py) -> record (records.py) -> clip (clip.py)
    -> batch -> tokens

Everything random is a function of (seed, global position), so a batch depends neither on where
the stream was entered nor on the number of threads or workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from vatt_tf.data.input import order, service_client
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.clip import CROP_PLACES, evaluation_clip, training_clip
from vatt_tf.data.input.tolerance import tolerant_map
from vatt_tf.data.schema import ClipSpec, RecordKeys
from vatt_tf.data.shards.index import DataSource, Sources, as_sources, index_source
from vatt_tf.data.shards.read_errors import NOT_FINITE, check_keys
from vatt_tf.data.shards.records import Record, RecordTable, class_vector, parse_record, require
from vatt_tf.data.text.tokenizer import Tokenizer
from vatt_tf.errors import UserError
from vatt_tf.wording import count_of

# Splits looked for when the top folder of a prepared data set is given.
TRAINING_SPLITS = ("train",)
# Commands take training clips only where they are named, see ``evaluation.source.find_source``.
EVALUATION_SPLITS = ("val", "valid", "validation", "test", "train")


def training_dataset(
    sources: Sources,
    spec: ClipSpec,
    tokenizer: Tokenizer | None,
    augmentation: Augmentation | None = None,
    *,
    batch_size: int,
    global_batch_size: int | None = None,
    seed: int = 0,
    start_step: int = 0,
    num_workers: int = 1,
    worker_index: int = 0,
    shuffle_window: int = 4096,
    label_names: Sequence[str] | None = None,
    keys: RecordKeys | None = None,
    num_parallel_calls: int | None = None,
    prefetch: int | None = None,
    tolerate_damage: bool = False,
    services: Sequence[str] = (),
) -> tf.data.Dataset:
    """Endless batches of one worker.

    Global position ``p = step * global_batch_size + row`` decides record and augmentation; this
    worker gets the rows ``[worker_index * batch_size, (worker_index + 1) * batch_size)`` of each
    global batch. Mixture weights are met exactly in each block of about a thousand positions, and
    each epoch of a source holds each of its records once.

    Args:
        sources: Data sources (or paths) to mix by weight.
        spec: Shape of a clip.
        tokenizer: Turns captions into tokens; None leaves text out.
        augmentation: Random changes; None: the defaults.
        batch_size: Rows of this worker.
        global_batch_size: Rows of all workers together (None: ``batch_size * num_workers``).
        seed: Seed of order and augmentation.
        start_step: First global batch; costs no reading.
        num_workers: Workers that share a global batch.
        worker_index: Number of this one.
        shuffle_window: How far a record may move from its place in the shards; a value as large
            as the source shuffles it completely. It costs no memory; smaller values read more
            sequentially.
        label_names: All classes in index order; adds ``labels`` to the batches. Classes are looked
            up by name, since indices differ from one ``prepare`` to the next; records without
            names (foreign shards) are taken by their index.
        keys: Names of the features; None: DMVR's.
        num_parallel_calls: Clips made at a time; None lets tf.data tune it.
        prefetch: Batches held ready; None for one, so that memory does not grow with the batch.
        tolerate_damage: Whether a record that cannot be read, parsed or decoded becomes a row
            without content (all masks 0, ``label`` -1, ``record_id`` as it is) instead of an
            error, and what is left of a shard that is cut short is used; adds ``damaged`` to the
            batches. All other rows stay what they are. See ``damage.DamageLog``.
        services: Addresses (``host:port``) of data services that make the clips, see
            ``service_client``; none: this process makes them. The batches are the same.

    Returns:
        Dataset of dicts: ``video`` uint8 ``[b, T, H, W, 3]``, ``video_mask`` float32 ``[b]``,
        ``audio`` float32 ``[b, samples, 1]`` or ``[b, mel_frames, mel_bins, 1]``, ``audio_mask``
        float32 ``[b]``, ``text`` int32 ``[b, P, L]``, ``text_mask`` float32 ``[b, P]``, ``label``
        int32 ``[b]`` (first stored label, -1 for none), ``record_id`` int64 ``[b]``, and with
        ``label_names`` also ``labels`` float32 ``[b, classes]``, 1 for each class of the record,
        with ``tolerate_damage`` also ``damaged`` bool ``[b]``. A missing modality is zeros with
        mask 0. Audio is absent if ``spec.audio`` is ``"none"``, video if ``spec.frames`` is 0.

    Raises:
        UserError: If there is no data, a shard is damaged, the arguments do not fit, or a service
            does not answer.
    """
    sources, keys = as_sources(sources), keys or RecordKeys()
    augmentation = augmentation or Augmentation()
    global_batch_size = global_batch_size or batch_size * num_workers
    if batch_size < 1 or batch_size * num_workers != global_batch_size:
        raise UserError(
            f"a global batch of {global_batch_size} is not {num_workers} workers with "
            f"{count_of(batch_size, 'row')} each"
        )
    if not 0 <= worker_index < num_workers or start_step < 0 or shuffle_window < 1:
        raise UserError(
            f"worker_index {worker_index} of {num_workers}, start_step {start_step}, "
            f"shuffle_window {shuffle_window}: expected a worker below the number of workers, a "
            "step from 0 on and a window of at least 1"
        )
    _check_tokens(spec, tokenizer)
    indexes = [
        index_source(source, TRAINING_SPLITS, tolerate_damage=tolerate_damage) for source in sources
    ]
    for source, index in zip(sources, indexes, strict=True):
        check_keys(source, index, keys, tolerate_damage=tolerate_damage)
    table = RecordTable.build(indexes)
    stream = order.record_stream(
        [index.first_row for index in indexes],
        [source.weight for source in sources],
        seed=seed,
        start=start_step * global_batch_size,
        shuffle_window=shuffle_window,
    )
    first, rows = worker_index * batch_size, np.arange(batch_size)

    @tf.autograph.experimental.do_not_convert
    def rows_of_worker(step: tf.Tensor, places: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        source, row = (part[first : first + batch_size] for part in places)
        return step * global_batch_size + first + rows, source, row

    stream = stream.batch(global_batch_size, drop_remainder=True).enumerate(start=start_step)

    @tf.autograph.experimental.do_not_convert
    def clip(position: tf.Tensor, source: tf.Tensor, row: tf.Tensor) -> dict[str, tf.Tensor]:
        record = _read(table, sources, source, row, keys, spec)
        clip = training_clip(record, spec, augmentation, seed, position)
        return clip | _labels(record, label_names)

    def batches(part: int, parts: int) -> tf.data.Dataset:
        """Every ``parts``-th batch from number ``part`` on."""
        places = stream.shard(parts, part).map(rows_of_worker).unbatch()
        calls = num_parallel_calls or tf.data.AUTOTUNE
        if tolerate_damage:
            clips = tolerant_map(places, clip, lambda _, *place: table.record_id(*place), calls)
        else:
            clips = places.map(clip, num_parallel_calls=calls)
        return clips.batch(batch_size, drop_remainder=True)

    dataset = service_client.joined(batches, services) if services else batches(0, 1)
    return _finish(dataset, tokenizer, prefetch)


def evaluation_dataset(
    source: DataSource | str,
    spec: ClipSpec,
    tokenizer: Tokenizer | None,
    *,
    batch_size: int,
    windows: int = 1,
    crops: int = 1,
    label_names: Sequence[str] | None = None,
    keys: RecordKeys | None = None,
    num_parallel_calls: int | None = None,
    prefetch: int | None = None,
) -> tf.data.Dataset:
    """Every record of a source once, in file order, without any randomness.

    Args:
        source: Data source or path. For the top folder of a prepared data set the split ``val``
            is read (then ``test``, then ``train``).
        spec: Shape of a clip.
        tokenizer: Turns captions into tokens; None leaves the tokens out.
        batch_size: Rows of a batch; the last one is filled up with rows whose ``valid`` is False
            and whose masks are 0.
        windows: Clips of each record, linearly spaced over it; the centre for one.
        crops: Crops of each window: 1 in the centre, or 3 along the longer side (start, middle,
            end).
        label_names: As for :func:`training_dataset`.
        keys: Names of the features; None: DMVR's.
        num_parallel_calls: Records read at a time; None lets tf.data tune it.
        prefetch: Batches held ready; None for one, so that memory does not grow with the batch.

    Returns:
        Finite dataset of the dicts of :func:`training_dataset` with ``video`` ``[b, windows *
        crops, T, H, W, 3]`` (largest crops of the clip's aspect ratio; crop ``c`` of window ``w``
        at ``w * crops + c``) and ``audio`` ``[b, windows, ...]``, and besides ``valid`` bool
        ``[b]``, ``caption`` string ``[b, P]`` (valid UTF-8, "" for none, the one that overlaps the
        record most first), ``label_text`` string ``[b]`` (all classes, ``schema.split_labels``),
        ``label_index`` string ``[b]`` (the indices of a record that names no class, likewise),
        ``filename`` string ``[b]``, ``start`` and ``end`` float32 ``[b]`` in seconds.

    Raises:
        UserError: If there is no data, a shard is damaged, or the arguments do not fit.
    """
    (source,), keys = as_sources(source), keys or RecordKeys()
    if crops not in CROP_PLACES:
        raise UserError(f"crops {crops}: expected 1 (centre) or 3 (start, middle, end)")
    if batch_size < 1 or windows < 1:
        raise UserError(f"batch_size {batch_size}, windows {windows}: expected at least 1 of each")
    _check_tokens(spec, tokenizer)
    index = index_source(source, EVALUATION_SPLITS)
    check_keys(source, index, keys)
    table = RecordTable.build([index])
    last = index.records - 1

    @tf.autograph.experimental.do_not_convert
    def clip(row: tf.Tensor) -> dict[str, tf.Tensor]:
        place = tf.constant(0, tf.int64), tf.minimum(row, last)
        record = _read(table, (source,), *place, keys, spec)
        clip = evaluation_clip(record, spec, windows, crops, valid=row <= last)
        labels = _labels(record, label_names)
        return clip | {name: tf.where(row <= last, value, 0.0) for name, value in labels.items()}

    # Rows past the end repeat the last record with valid = False.
    rows = tf.data.Dataset.range(-(-index.records // batch_size) * batch_size)
    dataset = rows.map(clip, num_parallel_calls=num_parallel_calls or tf.data.AUTOTUNE)
    return _finish(dataset.batch(batch_size, drop_remainder=True), tokenizer, prefetch)


def _check_tokens(spec: ClipSpec, tokenizer: Tokenizer | None) -> None:
    if tokenizer is not None and tokenizer.max_tokens != spec.tokens:
        raise UserError(
            f"the tokenizer makes {tokenizer.max_tokens} tokens a caption, but the clip has "
            f"{spec.tokens}: load it with max_tokens={spec.tokens}"
        )


def _read(
    table: RecordTable,
    sources: Sequence[DataSource],
    source: tf.Tensor,
    row: tf.Tensor,
    keys: RecordKeys,
    spec: ClipSpec,
) -> Record:
    """One record; what the clip does not read counts as missing."""
    serialized, record_id = table.read(source, row)
    record = _parse(table, sources, source, serialized, record_id, keys)
    if not spec.frames:
        record = dataclasses.replace(record, frames=tf.zeros([0], tf.string))
    if spec.audio == "none":
        return dataclasses.replace(record, waveform=tf.zeros([0]))
    finite = tf.reduce_all(tf.math.is_finite(record.waveform))
    require(finite, record.record_id, NOT_FINITE)
    return record


def _parse(
    table: RecordTable,
    sources: Sequence[DataSource],
    source: tf.Tensor,
    serialized: tf.Tensor,
    record_id: tf.Tensor,
    keys: RecordKeys,
) -> Record:
    """Parses a record as its source lays it out."""

    def parse(number: int) -> Record:
        if sources[number].has_own_layout:
            return sources[number].parse(serialized, record_id)
        rates = table.frame_rate[source], table.sample_rate[source]
        return parse_record(serialized, record_id, keys, *rates)

    if not any(each.has_own_layout for each in sources):
        return parse(0)  # the same graph for all
    branches = [lambda number=number: vars(parse(number)) for number in range(len(sources))]
    return Record(**tf.switch_case(tf.cast(source, tf.int32), branches))


def _labels(record: Record, names: Sequence[str] | None) -> dict[str, tf.Tensor]:
    return {} if names is None else {"labels": class_vector(record, names)}


def _finish(
    dataset: tf.data.Dataset, tokenizer: Tokenizer | None, prefetch: int | None
) -> tf.data.Dataset:
    """Adds the tokens of the captions to batches."""

    @tf.autograph.experimental.do_not_convert
    def add_tokens(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = dict(batch)
        captions = batch["caption"] if "valid" in batch else batch.pop("caption")
        if tokenizer is not None:
            batch["text"] = tokenizer(captions)
            # A caption without any token has nothing to attend to.
            batch["text_mask"] = tf.cast(tf.reduce_any(batch["text"] != 0, -1), tf.float32)
        return batch

    dataset = dataset.map(add_tokens).prefetch(1 if prefetch is None else prefetch)
    options = tf.data.Options()
    options.deterministic = True
    # Each worker already takes its own rows: tf.distribute must not split the files again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
