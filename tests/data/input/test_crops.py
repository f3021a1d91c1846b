"""Several crops of an evaluation window: places, order, one decoding."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.records import SPEC, example, write_shards
from vatt_tf.data.input import video_ops
from vatt_tf.data.input.pipeline import evaluation_dataset
from vatt_tf.errors import UserError


def striped(level, size=(16, 48)):
    """Three stripes along the longer side with brightness ``level``, + 80, + 160."""
    height, width = size
    pixels = np.zeros((*size, 3), np.uint8)
    for k in range(3):
        part = slice(k * max(size) // 3, (k + 1) * max(size) // 3)
        where = (slice(None), part) if width > height else (part, slice(None))
        pixels[where] = level + 80 * k
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=98, subsampling=0)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(16, 48), (48, 16)])
def test_start_middle_and_end_of_every_window(tmp_path, size):
    images = [striped(10 * i, size) for i in range(8)]
    shards = str(write_shards(tmp_path, [example(images=images)]))
    dataset = evaluation_dataset(shards, SPEC, None, batch_size=1, windows=2, crops=3)
    assert dataset.element_spec["video"].shape == [1, 6, 4, 16, 16, 3]
    assert dataset.element_spec["audio"].shape[:2] == [1, 2]
    batch = next(iter(dataset))
    centres = batch["video"][0, :, :, 8, 8, 0].numpy().astype(int)
    expected = [
        [80 * crop + 10 * (4 * window + i) for i in range(4)]
        for window in range(2)
        for crop in range(3)
    ]
    np.testing.assert_allclose(centres, expected, atol=3)
    assert float(batch["start"][0]) == 0.0
    assert float(batch["end"][0]) == pytest.approx(1.0)  # of sound; the frames last 0.8 s
    (one,) = evaluation_dataset(shards, SPEC, None, batch_size=1, windows=2)
    np.testing.assert_allclose(
        one["video"][0].numpy().astype(int), batch["video"][0, 1::3].numpy(), atol=2
    )


def test_record_without_frames_and_padded_rows(tmp_path):
    shards = str(write_shards(tmp_path, [example(frames=0)]))
    batch = next(iter(evaluation_dataset(shards, SPEC, None, batch_size=2, crops=3)))
    assert batch["video"].shape == [2, 3, 4, 16, 16, 3] and not batch["video"].numpy().any()
    assert batch["video_mask"].numpy().tolist() == [0, 0]


def test_each_frame_is_decoded_once():
    encoded = tf.constant([striped(0), striped(20)])
    boxes = [tf.constant([0, left, 16, 16]) for left in (0, 16, 32)]

    @tf.function
    def crops(frames):
        return video_ops.decode_crops(frames, video_ops.frame_size(frames[0]), boxes, (16, 16))

    concrete = crops.get_concrete_function(tf.TensorSpec([None], tf.string))
    graph = concrete.graph.as_graph_def()
    nodes = [node for function in graph.library.function for node in function.node_def]
    assert sum(node.op == "DecodeAndCropJpeg" for node in nodes) == 1
    assert crops(encoded).shape == [2, 3, 16, 16, 3]


def test_other_numbers_of_crops_are_refused(tmp_path):
    shards = str(write_shards(tmp_path, [example(frames=1)]))
    with pytest.raises(UserError, match="crops 2: expected 1"):
        evaluation_dataset(shards, SPEC, None, batch_size=1, crops=2)
