"""An input pipeline in the most direct way, to compare results and speed with.

Stage by stage over whole clips: parse a record, decode all of its frames, then sample some of them,
crop, resize, flip and recolour the clip, cut the sound and add noise. Random numbers come
from TensorFlow's global state.
"""

from __future__ import annotations

import tensorflow as tf

from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.schema import ClipSpec, RecordKeys

KEYS = RecordKeys()


def plain_dataset(
    path: str, clip: ClipSpec, augmentation: Augmentation, batch_size: int
) -> tf.data.Dataset:
    """Endless batches ``{"video", "audio"}`` from one shard whose records lack nothing."""
    records = tf.data.TFRecordDataset(path).repeat().shuffle(64)
    clips = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    clips = clips.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    clips = clips.map(lambda record: sample(record, clip), num_parallel_calls=tf.data.AUTOTUNE)
    clips = clips.map(
        lambda record: augment(record, clip, augmentation), num_parallel_calls=tf.data.AUTOTUNE
    )
    return clips.batch(batch_size, drop_remainder=True).prefetch(1)


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """One record."""
    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        {KEYS.frame_rate: tf.io.FixedLenFeature([], tf.float32)},
        {
            KEYS.image: tf.io.FixedLenSequenceFeature([], tf.string),
            KEYS.waveform: tf.io.VarLenFeature(tf.float32),
        },
    )
    return {
        "image": lists[KEYS.image],
        "audio": tf.sparse.to_dense(lists[KEYS.waveform])[0],
        "frame_rate": context[KEYS.frame_rate],
    }


def decode(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """All frames."""
    video = tf.map_fn(
        lambda image: tf.io.decode_jpeg(image, channels=3),
        record["image"],
        fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )
    return {"video": video, "audio": record["audio"], "frame_rate": record["frame_rate"]}


def sample(record: dict[str, tf.Tensor], clip: ClipSpec) -> dict[str, tf.Tensor]:
    """Frames and sound of a random window."""
    video, audio = record["video"], record["audio"]
    stride = record["frame_rate"] / clip.frame_rate
    span = tf.cast(stride * (clip.frames - 1), tf.int32)
    begin = tf.random.uniform([], 0, tf.shape(video)[0] - span, tf.int32)
    steps = tf.cast(tf.round(stride * tf.range(clip.frames, dtype=tf.float32)), tf.int32)
    seconds = tf.cast(begin, tf.float32) / record["frame_rate"]
    start = tf.cast(seconds * clip.sample_rate, tf.int32)
    start = tf.minimum(start, tf.size(audio) - clip.samples)
    return {
        "video": tf.gather(video, tf.minimum(begin + steps, tf.shape(video)[0] - 1)),
        "audio": audio[start : start + clip.samples],
    }


def augment(
    record: dict[str, tf.Tensor], clip: ClipSpec, augmentation: Augmentation
) -> dict[str, tf.Tensor]:
    """An Inception box, flip and colours of the whole clip; noise."""
    video, audio = record["video"], record["audio"]
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(video)[1:],
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=augmentation.min_covered,
        aspect_ratio_range=(augmentation.min_aspect, augmentation.max_aspect),
        area_range=(augmentation.min_area, augmentation.max_area),
        max_attempts=100,
    )
    top, left, height, width = begin[0], begin[1], extent[0], extent[1]
    video = video[:, top : top + height, left : left + width]
    video = tf.image.resize(video, (clip.height, clip.width)) / 255.0
    if tf.random.uniform([]) < augmentation.flip_probability:
        video = tf.reverse(video, [2])
    if tf.random.uniform([]) < augmentation.colour_probability:
        video = recolour(
            video,
            tf.random.uniform([], -augmentation.brightness, augmentation.brightness),
            1.0 + tf.random.uniform([], -augmentation.saturation, augmentation.saturation),
            1.0 + tf.random.uniform([], -augmentation.contrast, augmentation.contrast),
            tf.random.uniform([], -augmentation.hue, augmentation.hue),
        )
    noise = tf.random.normal(tf.shape(audio))
    audio = audio + augmentation.audio_noise * tf.reduce_max(tf.abs(audio)) * noise
    return {
        "video": tf.cast(
            tf.ensure_shape(255.0 * video + 0.5, (clip.frames, clip.height, clip.width, 3)),
            tf.uint8,
        ),
        "audio": tf.ensure_shape(audio, [clip.samples])[:, tf.newaxis],
    }


def recolour(video, brightness, saturation, contrast, hue) -> tf.Tensor:
    """Changes the colours of frames in [0, 1]."""
    video = tf.image.adjust_brightness(video, brightness)
    video = tf.image.adjust_saturation(video, saturation)
    video = tf.image.adjust_contrast(video, contrast)
    video = tf.image.adjust_hue(video, hue)
    return tf.clip_by_value(video, 0.0, 1.0)
