"""A record as a clip: frames, sound and captions.

    record -> place of the clip (sampling.py) -> crop, flip, colour (video_ops.py, augmentation.py),
    noise, log-mel (audio_ops.py)

The functions are graphs as they are written: AutoGraph would take seconds to convert them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from vatt_tf.data.input import audio_ops, order, sampling, video_ops
from vatt_tf.data.input.augmentation import (
    Augmentation,
    augmented_frames,
    augmented_sound,
    masked_sound,
)
from vatt_tf.data.media.resampling import MOST_STEP
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.records import Record, require

# Where a crop lies along the longer side, by the number of crops (facts A.5).
CROP_PLACES = {1: (0.5,), 3: (0.0, 0.5, 1.0)}


def training_clip(
    record: Record, spec: ClipSpec, augmentation: Augmentation, seed: int, position: tf.Tensor
) -> dict[str, tf.Tensor]:
    """A random clip of a record, augmented.

    Args:
        record: What is stored.
        spec: Shape of the clip.
        augmentation: Random changes.
        seed: Seed of the run.
        position: int64, position in the stream of all clips; seed and position decide everything.

    Returns:
        A row of ``pipeline.training_dataset``, with its captions as strings in place of tokens.
    """
    keys = tf.random.split(order.make_seed(seed, order.AUGMENTATION, position), 5, alg="philox")
    stride, step = _strides(record, spec)
    stored_frames, stored_samples = tf.size(record.frames), tf.size(record.waveform)
    offset = sampling.random_offset(stored_frames, (spec.frames - 1) * stride, keys[0])
    span = tf.cast((spec.samples - 1) * step, tf.float64)
    audio_offset = sampling.random_offset(stored_samples, span, keys[0])
    result: dict[str, tf.Tensor] = {}
    if spec.frames:
        frames = _video(
            record, spec, stride, offset, lambda f: augmented_frames(f, spec, augmentation, keys[1])
        )
        result |= {"video": frames, "video_mask": _mask(stored_frames)}
    begin = _begin(record, offset, audio_offset)
    if spec.audio != "none":
        alone = not spec.frames  # nothing to stay in step with
        audio, count = _audio(
            record,
            spec,
            stride,
            step,
            offset,
            audio_offset,
            lambda waveform: augmented_sound(waveform, augmentation, keys[2], roll=alone),
            lambda sound: masked_sound(sound, augmentation, keys[4]),
        )
        result |= {"audio": audio, "audio_mask": _mask(count)}
    window = tf.stack([begin, tf.minimum(begin + spec.seconds, record.end)])
    return result | {
        "caption": _captions(record, window, spec, keys[3]),
        "label": record.label,
        "record_id": record.record_id,
    }


def evaluation_clip(
    record: Record, spec: ClipSpec, windows: int, crops: int, valid: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Clips that are evenly spaced over a record.

    Args:
        record: What is stored.
        spec: Shape of a clip.
        windows: How many clips.
        crops: Crops of each one, of ``CROP_PLACES``.
        valid: bool; whether the row counts or only fills up a batch.

    Returns:
        A row of ``pipeline.evaluation_dataset``, without tokens.
    """
    stride, step = _strides(record, spec)
    stored_frames, stored_samples = tf.size(record.frames), tf.size(record.waveform)
    video, audio, counts = [], [], []
    for window in range(windows):
        offset = sampling.spaced_offset(stored_frames, spec.frames * stride, window, windows)
        extent = tf.cast(spec.samples * step, tf.float64)
        audio_offset = sampling.spaced_offset(stored_samples, extent, window, windows)
        if spec.frames:
            views = _video(record, spec, stride, offset, lambda f: _crops(f, spec, crops), [crops])
            video.append(tf.transpose(views, [1, 0, 2, 3, 4]))
        if spec.audio != "none":
            clip, count = _audio(record, spec, stride, step, offset, audio_offset)
            audio.append(clip)
            counts.append(count)
    shown = tf.cast(valid, tf.float32)
    result: dict[str, tf.Tensor] = {}
    if video:
        result |= {"video": tf.concat(video, 0), "video_mask": shown * _mask(stored_frames)}
    if audio:
        result |= {"audio": tf.stack(audio), "audio_mask": shown * _mask(tf.add_n(counts))}
    captions = _captions(record, tf.stack([record.start, record.end]), spec, None)
    return result | {
        "caption": tf.where(valid, captions, ""),
        "label": tf.where(valid, record.label, -1),
        "record_id": record.record_id,
        "valid": valid,
        **_labels(record),
        "filename": record.filename,
        "start": tf.cast(record.start, tf.float32),
        "end": tf.cast(record.end, tf.float32),
    }


def _labels(record: Record) -> dict[str, tf.Tensor]:
    """All classes of a record, as ``schema.join_labels`` writes them; indices if it names none."""
    names = tf.strings.regex_replace(record.label_names, r"([\\|])", r"\\\1")
    numbers = tf.strings.as_string(record.label_indices)
    unnamed = tf.where(tf.size(names) > 0, "", tf.strings.reduce_join(numbers, separator="|"))
    return {"label_text": tf.strings.reduce_join(names, separator="|"), "label_index": unnamed}


def _mask(count: tf.Tensor) -> tf.Tensor:
    return tf.cast(count > 0, tf.float32)


def _strides(record: Record, spec: ClipSpec) -> tuple[tf.Tensor, tf.Tensor]:
    """Stored frames per clip frame (float64) and stored samples per clip sample (int64)."""
    step = record.sample_rate // spec.sample_rate
    require(
        (tf.size(record.waveform) == 0) | (step * spec.sample_rate == record.sample_rate),
        record.record_id,
        f"has a sample rate that is no multiple of {spec.sample_rate} Hz, which the clip has: "
        "prepare the videos with that rate or set the sample_rate of the clip",
    )
    step = tf.maximum(step, 1)
    if spec.audio_resampling == "filtered":
        require(
            (tf.size(record.waveform) == 0) | (step <= MOST_STEP),
            record.record_id,
            f"has more than {MOST_STEP} times the sample rate of {spec.sample_rate} Hz, which the "
            "clip has: prepare the videos with a lower rate or set the sample_rate of the clip",
        )
        # The filter may be made while the check above is still on its way.
        step = tf.minimum(step, MOST_STEP)
    return record.frame_rate / spec.frame_rate, step


def _begin(record: Record, offset: tf.Tensor, audio_offset: tf.Tensor) -> tf.Tensor:
    """Begin of the sampled clip on the video's time line, in seconds."""
    of_video = tf.cast(offset, tf.float64) / tf.maximum(record.frame_rate, 1e-9)
    rate = tf.cast(tf.maximum(record.sample_rate, 1), tf.float64)
    of_audio = tf.cast(audio_offset, tf.float64) / rate
    return record.start + tf.where(_video_leads(record), of_video, of_audio)


def _video_leads(record: Record) -> tf.Tensor:
    """Whether the frames give the clip's time (a single picture has none)."""
    stored = tf.size(record.frames)
    return (stored > 1) | ((stored == 1) & (tf.size(record.waveform) == 0))


def _video(
    record: Record,
    spec: ClipSpec,
    stride: tf.Tensor,
    offset: tf.Tensor,
    transform: Callable[[tf.Tensor], tf.Tensor],
    crops: Sequence[int] = (),
) -> tf.Tensor:
    """Frames of the clip as uint8 ``[T, *crops, H, W, 3]``; zeros for a record without frames.

    ``transform`` turns JPEG strings ``[n]`` into uint8 frames ``[n, *crops, H, W, 3]``.
    """
    shape = [spec.frames, *crops, spec.height, spec.width, 3]

    def decoded() -> tf.Tensor:
        stored = tf.size(record.frames)
        numbers = sampling.stored_frames(stored, spec.frames, stride, offset)
        # A short record repeats frames: decode each of them once.
        numbers, places = tf.unique(numbers)
        return tf.gather(transform(tf.gather(record.frames, numbers)), places)

    frames = tf.cond(tf.size(record.frames) > 0, decoded, lambda: tf.zeros(shape, tf.uint8))
    return tf.ensure_shape(frames, shape)


def _crops(encoded: tf.Tensor, spec: ClipSpec, crops: int) -> tf.Tensor:
    """Largest boxes of the clip's aspect ratio, uint8 ``[n, crops, height, width, 3]``."""
    target = (spec.height, spec.width)
    size = video_ops.frame_size(encoded[0])
    places = [tf.fill([2], place) for place in CROP_PLACES[crops]]
    boxes = [video_ops.fitting_box(size, target, place) for place in places]
    return video_ops.decode_crops(encoded, size, boxes, target)


def _audio(
    record: Record,
    spec: ClipSpec,
    stride: tf.Tensor,
    step: tf.Tensor,
    offset: tf.Tensor,
    audio_offset: tf.Tensor,
    change: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    mask: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sound of the clip as the tower reads it, and how many stored samples are in it.

    The sound begins at the time of the clip's first frame. Where the video repeats, because it is
    shorter than the clip, the sound starts again with it; past its own end it is silent. A record
    without video repeats its sound in the same way.
    """
    rate = tf.cast(record.sample_rate, tf.float64)
    stored_frames = tf.cast(tf.size(record.frames), tf.float64)
    stored_samples = tf.size(record.waveform, tf.int64)
    per_frame = rate / tf.maximum(record.frame_rate, 1e-9)
    video_leads = _video_leads(record)
    start = tf.where(
        video_leads,
        tf.cast(tf.round(tf.cast(offset, tf.float64) * per_frame), tf.int64),
        audio_offset,
    )
    last_frame = tf.cast(offset, tf.float64) + (spec.frames - 1) * stride
    video_repeats = tf.floor(last_frame + 0.5) >= stored_frames
    audio_repeats = stored_samples < spec.samples * step
    period = tf.where(
        video_leads,
        tf.where(video_repeats, tf.cast(tf.round(stored_frames * per_frame), tf.int64), 0),
        tf.where(audio_repeats, stored_samples, 0),
    )

    def cut() -> tuple[tf.Tensor, tf.Tensor]:
        clip, count = sampling.audio_window(
            record.waveform, start, spec.samples, step, period, spec.audio_resampling
        )
        clip = change(clip)
        return mask(audio_ops.audio_frontend(clip, spec)), count

    shape = spec.audio_shape[:-1]
    clip, count = tf.cond(
        stored_samples > 0, cut, lambda: (tf.zeros(shape), tf.constant(0, tf.int32))
    )
    return tf.ensure_shape(clip[..., tf.newaxis], spec.audio_shape), count


def _captions(
    record: Record, window: tf.Tensor, spec: ClipSpec, key: tf.Tensor | None
) -> tf.Tensor:
    """Captions of a clip as valid UTF-8, string ``[texts]``, "" where there are fewer.

    With times: the ones nearest to the window. Without: the first ones or, with a ``key``, a
    random choice (DMVR's rule, facts A.3).
    """
    total, count = tf.size(record.captions), spec.texts

    def near() -> tf.Tensor:
        times = record.caption_times
        return sampling.captions_near(
            times[:, 0],
            times[:, 1],
            window,
            tf.stack([record.start, record.end]),
            count,
            distance=spec.caption_distance,
            tolerance=1e-3 + tf.math.divide_no_nan(tf.constant(0.5, tf.float64), record.frame_rate),
        )

    def any_order() -> tf.Tensor:
        if key is None:
            return tf.range(tf.minimum(total, count))
        draws = tf.random.stateless_uniform([total], key, dtype=tf.float64, alg="philox")
        return tf.argsort(draws, stable=True)[:count]

    numbers = tf.cond(tf.shape(record.caption_times)[0] > 0, near, any_order)
    chosen = tf.gather(record.captions, numbers)
    # Invalid bytes become spaces: they must not stop the graph, and the words survive.
    chosen = tf.strings.unicode_transcode(chosen, "UTF-8", "UTF-8", replacement_char=32)
    chosen = tf.pad(chosen, [[0, count - tf.size(chosen)]], constant_values="")
    return tf.ensure_shape(chosen, [count])
