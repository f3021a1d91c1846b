"""A source of one's own: TFRecord files of ``tf.train.Example``.

In gin: ``import own_source`` and ``train.data = @example_source()``. Order, epochs, mixing,
resuming and data services are those of every source: only the layout of a record is another one.
"""

from __future__ import annotations

import dataclasses

import gin
import tensorflow as tf

from vatt_tf.data.shards.index import DataSource
from vatt_tf.data.shards.records import Record


@gin.configurable("example_source")
@dataclasses.dataclass(frozen=True)
class ExampleSource(DataSource):
    """Records with the features ``frames`` (JPEG), ``sound`` (float) and ``text``.

    Attributes:
        path: File, folder or glob of TFRecord files.
        weight: Share of the clips in a mixture.
        frame_rate: Frames per second; the records do not hold it.
        sample_rate: Samples per second; the records do not hold it.
    """

    frame_rate: float | None = 10.0
    sample_rate: int | None = 48_000

    def parse(self, serialized: tf.Tensor, record_id: tf.Tensor) -> Record:
        """One record, in a graph; what the clip does not read may be left out."""
        features = {
            "frames": tf.io.RaggedFeature(tf.string),
            "sound": tf.io.RaggedFeature(tf.float32),
            "text": tf.io.RaggedFeature(tf.string),
        }
        values = tf.io.parse_single_example(serialized, features)
        return Record.of(
            record_id,
            frames=values["frames"],
            waveform=values["sound"],
            captions=values["text"],
            frame_rate=self.frame_rate or 0.0,
            sample_rate=self.sample_rate or 0,
        )
