"""Crop boxes, decoding, resizing and colour of frames."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.records import jpeg
from vatt_tf.data.input import video_ops


def test_fitting_box_is_the_largest_centre_crop():
    def box(size, target, **settings):
        return video_ops.fitting_box(tf.constant(size), target, **settings).numpy().tolist()

    assert box([24, 32], (16, 16)) == [0, 4, 24, 24]
    assert box([32, 24], (16, 16)) == [4, 0, 24, 24]
    assert box([24, 32], (24, 32)) == [0, 0, 24, 32]
    assert box([24, 32], (10, 40)) == [8, 0, 8, 32]
    assert box([24, 32], (16, 16), place=tf.constant([1.0, 1.0])) == [0, 8, 24, 24]
    assert box([1, 1], (16, 16)) == [0, 0, 1, 1]


def test_random_boxes_stay_inside_and_cover_their_ranges():
    areas, aspects, corners = [], [], set()
    for i in range(200):
        top, left, height, width = video_ops.inception_box(
            tf.constant([240, 320]), [i, 0], area=(0.2, 0.6), aspect=(0.5, 2.0)
        ).numpy()
        assert min(top, left) >= 0 and top + height <= 240 and left + width <= 320
        areas.append(height * width / (240 * 320))
        aspects.append(width / height)
        corners.add((top, left))
    assert 0.19 < min(areas) < 0.3 and 0.5 < max(areas) < 0.61
    assert 0.48 < min(aspects) < 0.7 and 1.5 < max(aspects) < 2.1
    assert len(corners) > 150
    shapes = set()
    for i in range(50):
        box = video_ops.vgg_box(tf.constant([24, 32]), (16, 16), [i, 0]).numpy()
        assert box.min() >= 0 and box[0] + box[2] <= 24 and box[1] + box[3] <= 32
        shapes.add(tuple(box[2:]))
    assert len(shapes) > 5


def test_decoding_a_box_equals_decoding_and_cutting():
    random = np.random.default_rng(0)
    frames = [
        tf.io.encode_jpeg(random.integers(0, 255, (24, 32, 3)).astype(np.uint8)) for _ in range(3)
    ]
    whole = np.stack([tf.io.decode_jpeg(f) for f in frames])
    size = video_ops.frame_size(frames[0])
    assert size.numpy().tolist() == [24, 32]
    box = tf.constant([3, 5, 12, 20])
    part = video_ops.decode_clip(tf.stack(frames), size, box, (12, 20)).numpy()
    np.testing.assert_array_equal(part, whole[:, 3:15, 5:25])
    resized = video_ops.decode_clip(tf.stack(frames), size, box, (16, 16), lambda f: 255.0 - f)
    clip = video_ops.resize(tf.constant(whole[:, 3:15, 5:25]), (16, 16))
    np.testing.assert_array_equal(resized, video_ops.to_uint8(255.0 - clip))
    mixed = tf.constant([jpeg(77), jpeg(77, (40, 40))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="different sizes"):
        video_ops.decode_clip(mixed, size, box, (16, 16))


def test_resize_is_bilinear_and_does_not_skip_pixels():
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (2, 24, 32, 3)).astype(np.uint8)
    up = video_ops.resize(tf.constant(frames), (30, 40)).numpy()
    for i in range(2):
        pil = Image.fromarray(frames[i]).resize((40, 30), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(up[i], np.asarray(pil), atol=1.01)
    # Every second pixel is white: the mean is grey, however strongly it shrinks.
    stripes = np.zeros((1, 24, 32, 3), np.uint8)
    stripes[:, :, ::2] = 255
    small = video_ops.resize(tf.constant(stripes), (6, 8)).numpy()
    assert np.abs(small - 127.5).max() < 40


OFF = {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0, "hue": 0.0}


def jittered(frames, key, **settings):
    """Of frames in [0, 1]."""
    return video_ops.colour_jitter(tf.constant(255.0 * frames), key, **settings).numpy() / 255.0


def test_colour_jitter_is_one_change_for_the_clip():
    frames = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 3)).astype(np.float32)

    def change(key, **settings):
        return jittered(frames, key, **(OFF | settings))

    np.testing.assert_allclose(change([1, 2]), frames, rtol=1e-6)
    amounts = []
    for i in range(20):
        moved = jittered(np.full_like(frames, 0.5), [i, 0], **(OFF | {"brightness": 0.1}))
        assert np.ptp(moved) < 1e-6
        amounts.append(float(moved[0, 0, 0, 0]) - 0.5)
    assert -0.1 <= min(amounts) < -0.05 and 0.05 < max(amounts) <= 0.1
    contrast = change([3, 0], contrast=0.4)
    mean = frames.mean((1, 2), keepdims=True)
    inside = (contrast > 0) & (contrast < 1)
    factor = (contrast - mean)[inside] / (frames - mean)[inside]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-3)
    assert 0.6 <= factor[0] <= 1.4
    hue = change([4, 0], hue=0.2)
    turns = [
        (colorsys.rgb_to_hsv(*a)[0] - colorsys.rgb_to_hsv(*b)[0]) % 1.0
        for a, b in zip(hue.reshape(-1, 3), frames.reshape(-1, 3), strict=True)
    ]
    np.testing.assert_allclose(turns, turns[0], atol=1e-3)
    everything = jittered(frames, [5, 0])
    assert everything.min() >= 0 and everything.max() <= 1
    np.testing.assert_array_equal(everything, jittered(frames, [5, 0]))


@pytest.mark.parametrize("key", [[i, 7] for i in range(8)])
def test_colour_jitter_is_that_of_tf_image(key):
    frames = np.random.default_rng(0).uniform(0, 1, (2, 40, 30, 3)).astype(np.float32)
    frames[0, :4] = [[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]], [[0.5, 0.5, 0.5]], [[0.7, 0.7, 0.0]]]
    brightness, saturation, contrast, hue = (
        (2.0 * tf.random.stateless_uniform([4], key, alg="philox") - 1.0) * [0.125, 0.9, 0.4, 0.5]
    ).numpy()
    expected = tf.image.adjust_brightness(frames, brightness)
    expected = tf.image.adjust_saturation(expected, 1.0 + saturation)
    expected = tf.image.adjust_contrast(expected, 1.0 + contrast)
    expected = tf.clip_by_value(tf.image.adjust_hue(expected, hue), 0.0, 1.0)
    found = jittered(frames, key, brightness=0.125, saturation=0.9, contrast=0.4, hue=0.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rounding_to_uint8():
    values = tf.constant([0.0, 0.4, 0.6, 254.4, 254.6, 255.0])
    assert video_ops.to_uint8(values).numpy().tolist() == [0, 0, 1, 254, 255, 255]
