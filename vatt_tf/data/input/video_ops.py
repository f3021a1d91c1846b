"""Frames of a clip: crop boxes, decoding, resizing, flip and colour jitter.

Source: docs/reference.md, Frames.

Every random choice is made once for the whole clip from an explicit seed. All crops are boxes in
the stored frame, found before decoding, so that only the box is decoded and resized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from vatt_tf import native_log

# Whatever reads or embeds clips imports this module, and XLA compiles a part of it.
native_log.limit_abseil()


def inception_box(
    size: tf.Tensor,
    key: tf.Tensor,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0),
    min_covered: float = 0.1,
) -> tf.Tensor:
    """Random box of random area and aspect ratio (VATT, A.2.1; the whole frame if none fits).

    Args:
        size: int32 ``[2]``, height and width of the stored frames.
        key: int64 ``[2]`` seed.
        area: Smallest and largest share of the frame.
        aspect: Smallest and largest width over height.
        min_covered: Share of the frame that the box has to cover in any case.

    Returns:
        int32 ``[4]``: top, left, height, width.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        image_size=tf.concat([size, [3]], 0),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=key,
        min_object_covered=min_covered,
        aspect_ratio_range=aspect,
        area_range=area,
        max_attempts=100,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def fitting_box(
    size: tf.Tensor,
    target: tuple[int, int],
    place: tf.Tensor | None = None,
    zoom: tf.Tensor | None = None,
) -> tf.Tensor:
    """Largest box of the clip's aspect ratio: shortest side to the crop size, then crop.

    Args:
        size: int32 ``[2]``, height and width of the stored frames.
        target: Height and width of the clip.
        place: float32 ``[2]`` in [0, 1], where the box lies in the room that there is (0.5: the
            centre, which is the default).
        zoom: float32 ``[2]``, factors by which height and width are stretched first.

    Returns:
        int32 ``[4]``: top, left, height, width.
    """
    size = tf.cast(size, tf.float32)
    goal = tf.constant(target, tf.float32)
    zoom = tf.ones([2]) if zoom is None else zoom
    # Scale at which the stretched frame just covers the target; back to stored pixels.
    scale = tf.reduce_max(goal / (size * zoom))
    box = tf.clip_by_value(tf.round(goal / (scale * zoom)), 1.0, size)
    place = tf.fill([2], 0.5) if place is None else place
    corner = tf.floor((size - box) * place + 0.5)
    return tf.cast(tf.concat([tf.minimum(corner, size - box), box], 0), tf.int32)


def vgg_box(
    size: tf.Tensor,
    target: tuple[int, int],
    key: tf.Tensor,
    *,
    jitter: float = 0.2,
    probability: float = 0.8,
) -> tf.Tensor:
    """Random crop after scale jitter: the released code's default (docs/reference.md, Frames).

    Height and width are stretched by independent factors in [1 - jitter, 1 + jitter] with the
    given probability, the shortest side is brought to the crop size, and a crop is taken.
    """
    draws = tf.random.stateless_uniform([5], key, alg="philox")
    factors = 1.0 + jitter * (2.0 * draws[:2] - 1.0)
    zoom = tf.where(draws[2] < probability, factors, tf.ones([2]))
    return fitting_box(size, target, place=draws[3:], zoom=zoom)


def frame_size(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width of a JPEG (string scalar), int32 ``[2]``; reads its header only."""
    return tf.io.extract_jpeg_shape(encoded)[:2]


def decode_clip(
    encoded: tf.Tensor,
    size: tf.Tensor,
    box: tf.Tensor,
    target: tuple[int, int],
    change: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tf.Tensor:
    """Decodes one box of each frame of a clip, resizes it and changes it.

    Frame by frame: what is worked on stays in the processor's cache.

    Args:
        encoded: JPEG strings ``[frames]``.
        size: int32 ``[2]``, the size that all of them must have.
        box: int32 ``[4]``: top, left, height, width.
        target: Height and width of the clip.
        change: Maps a resized frame, float32 ``[height, width, 3]`` in [0, 255], to another one.

    Returns:
        uint8 ``[frames, height, width, 3]``.
    """

    def frame(image: tf.Tensor) -> tf.Tensor:
        return to_uint8(change(resize(_decode_box(image, size, box), target)))

    return tf.map_fn(frame, encoded, fn_output_signature=tf.TensorSpec([*target, 3], tf.uint8))


def decode_crops(
    encoded: tf.Tensor, size: tf.Tensor, boxes: Sequence[tf.Tensor], target: tuple[int, int]
) -> tf.Tensor:
    """Several boxes of each frame of a clip, resized; each frame is decoded once.

    Args:
        encoded: JPEG strings ``[frames]``.
        size: int32 ``[2]``, the size that all of them must have.
        boxes: int32 ``[4]`` each: top, left, height, width.
        target: Height and width of the clip.

    Returns:
        uint8 ``[frames, boxes, height, width, 3]``.
    """
    corners = tf.stack([box[:2] for box in boxes])
    origin = tf.reduce_min(corners, 0)
    extent = tf.reduce_max(corners + tf.stack([box[2:] for box in boxes]), 0) - origin

    def frame(image: tf.Tensor) -> tf.Tensor:
        pixels = _decode_box(image, size, tf.concat([origin, extent], 0))
        crops = []
        for box in boxes:
            top, left = tf.unstack(box[:2] - origin)
            crop = pixels[top : top + box[2], left : left + box[3]]
            crops.append(to_uint8(resize(crop, target)))
        return tf.stack(crops)

    shape = [len(boxes), *target, 3]
    return tf.map_fn(frame, encoded, fn_output_signature=tf.TensorSpec(shape, tf.uint8))


def _decode_box(image: tf.Tensor, size: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Decodes a box of a frame, which must have the size of the clip's other frames."""
    # A box may fit into a frame of another size too, at the wrong place.
    same = tf.reduce_all(frame_size(image) == size)
    with tf.control_dependencies([tf.Assert(same, ["frames of different sizes"])]):
        return tf.io.decode_and_crop_jpeg(image, box, channels=3)


def resize(frames: tf.Tensor, target: tuple[int, int]) -> tf.Tensor:
    """Bilinear resize; uint8 ``[..., h, w, 3]`` -> float32 ``[..., height, width, 3]``.

    Plain bilinear as in the released code; only where a side shrinks to less than half, where
    plain bilinear would skip pixels, with antialiasing. The leading axis may be missing.
    """
    size = tf.shape(frames)[-3:-1]
    shrinks = tf.reduce_any(size > 2 * tf.constant(target))
    resized = tf.cond(
        shrinks,
        lambda: tf.image.resize(frames, target, antialias=True),
        lambda: tf.image.resize(frames, target),
    )
    return tf.ensure_shape(resized, [*frames.shape[:-3], *target, 3])


def colour_jitter(
    frames: tf.Tensor,
    key: tf.Tensor,
    *,
    brightness: float = 32 / 255,
    saturation: float = 0.4,
    contrast: float = 0.4,
    hue: float = 0.2,
) -> tf.Tensor:
    """Brightness, saturation, contrast, hue by one random amount each for the clip.

    Args:
        frames: float32 ``[..., height, width, 3]`` in [0, 255]: a clip or one frame of it.
        key: int64 ``[2]`` seed.
        brightness: Largest amount added, of a whole of 1; 0 leaves it out, as for the others.
        saturation: Factor in [1 - saturation, 1 + saturation].
        contrast: Factor in [1 - contrast, 1 + contrast] about the mean of each frame and channel.
        hue: Largest rotation, in turns.

    Returns:
        float32 frames clipped to [0, 255].
    """
    draws = 2.0 * tf.random.stateless_uniform([4], key, alg="philox") - 1.0
    limits = (brightness, saturation, contrast, hue)
    return _recoloured(frames, draws * limits, tuple(bool(limit) for limit in limits))


@tf.function(jit_compile=True, autograph=False)
def _recoloured(frames: tf.Tensor, amounts: tf.Tensor, wanted: tuple[bool, ...]) -> tf.Tensor:
    """Changes colours as ``tf.image.adjust_*`` do, which take six times as long.

    They go over the frames one change after the other, with a conversion to hue, saturation and
    value and back for two of them. Here XLA makes one loop of what these amount to.
    """
    brightness, saturation, contrast, hue = tf.unstack(amounts)
    channels = tf.unstack(frames / 255.0, axis=-1)
    if wanted[0]:
        channels = [channel + brightness for channel in channels]
    if wanted[1]:
        high, span = _extremes(channels)
        # Each channel keeps its share of the distance to the largest one, which is at most 1.
        share = tf.minimum(1.0 + saturation, tf.math.divide_no_nan(high, span))
        share = tf.where(high > 0.0, share, 0.0)
        channels = [high - (high - channel) * share for channel in channels]
    if wanted[2]:
        means = [tf.reduce_mean(channel, (-2, -1), keepdims=True) for channel in channels]
        pairs = zip(channels, means, strict=True)
        channels = [(channel - mean) * (1.0 + contrast) + mean for channel, mean in pairs]
    if wanted[3]:
        channels = _turned(channels, 6.0 * hue)
    return 255.0 * tf.clip_by_value(tf.stack(channels, axis=-1), 0.0, 1.0)


def _turned(channels: list[tf.Tensor], sixths: tf.Tensor) -> list[tf.Tensor]:
    """Turns the hue: along the edges of the colour hexagon, in sixths of a turn."""
    red, green, blue = channels
    high, span = _extremes(channels)
    inverse = tf.math.divide_no_nan(1.0, span)
    hue = sixths + tf.where(
        red == high,
        (green - blue) * inverse,
        tf.where(green == high, 2.0 + (blue - red) * inverse, 4.0 + (red - green) * inverse),
    )
    turned = []
    for corner in (5.0, 3.0, 1.0):  # where red, green and blue are lowest, and rise again
        place = corner + hue
        place -= 6.0 * tf.floor(place / 6.0)
        turned.append(high - span * tf.clip_by_value(tf.minimum(place, 4.0 - place), 0.0, 1.0))
    return turned


def _extremes(channels: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The largest channel of each pixel, and how far the smallest is from it."""
    red, green, blue = channels
    high = tf.maximum(tf.maximum(red, green), blue)
    return high, high - tf.minimum(tf.minimum(red, green), blue)


def to_uint8(frames: tf.Tensor) -> tf.Tensor:
    """Rounds float frames in [0, 255] to uint8."""
    return tf.cast(frames + 0.5, tf.uint8)
