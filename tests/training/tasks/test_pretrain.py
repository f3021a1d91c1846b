"""What a pre-training run refuses and says of its data before its first step."""

import math

import pytest
import tensorflow as tf

from tests.data.records import write_shards
from tests.training.conftest import record
from vatt_tf import config
from vatt_tf.data.shards import summary
from vatt_tf.errors import UserError
from vatt_tf.training.tasks.registry import configured_run, make_task


def task_of(gin_file, *bindings):
    config.import_configurables()
    config.parse([gin_file], ["train.evaluate_every=3", *bindings])
    return make_task(configured_run())


def test_held_out_clips_are_no_training_clips(gin_file, tmp_path):
    """Refused: the same shards, and one clip under another name in other shards."""
    with pytest.raises(UserError, match="10 of the 10 records .*train.allow_shared_clips=True"):
        task_of(gin_file, "EVAL_DATA=%TRAIN_DATA")
    config.clear()
    copied = tf.train.SequenceExample.FromString(record(102))
    copied.context.feature["video/filename"].bytes_list.value[0] = b"copy.mp4"
    shards = write_shards(tmp_path, [record(5000), copied.SerializeToString()], split="val")
    with pytest.raises(UserError, match=r"1 of the 2 records .*copy.mp4 .*\(train: video_102.mp4"):
        task_of(gin_file, f"EVAL_DATA='{shards}'")
    config.clear()
    allowed = "train.allow_shared_clips=True"
    assert task_of(gin_file, f"EVAL_DATA='{shards}'", allowed).notes == []


def test_clips_apart_are_accepted_and_large_shards_without_a_table_are_named(gin_file, monkeypatch):
    assert task_of(gin_file).notes == []
    config.clear()
    monkeypatch.setattr(summary, "MOST_READ", 0)
    (note,) = task_of(gin_file).notes
    assert "2 shards without a table of clips" in note and note.endswith("is not known")


def test_a_batch_of_more_clips_than_there_are_is_said(gin_file):
    """Each of 10 clips is 4 times among the 40 of a batch: no loss is below ln 4."""
    (note,) = task_of(gin_file, "BATCH_SIZE=40").notes
    assert "has 10 clips, a batch takes 40" in note and f"ln 4 = {math.log(4):.2f}" in note
    assert note.endswith("with BATCH_SIZE up to 10 it can reach 0")
