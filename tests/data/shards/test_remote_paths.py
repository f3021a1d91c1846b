"""Shards on a remote file system: all that reading needs goes through tf.io.gfile."""

import os
import uuid

import pytest
import tensorflow as tf

from tests.data.records import spec
from tests.data.test_prepare import SMALL, make_video
from vatt_tf.data.input.pipeline import evaluation_dataset
from vatt_tf.data.shards.damage import FILE_NAME, DamageLog
from vatt_tf.data.shards.index import DataSource, index_source, make_record_id, read_manifest
from vatt_tf.data.shards.labels import labels_of, read_labels
from vatt_tf.data.shards.summary import read_inventory
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.errors import UserError
from vatt_tf.prepare import prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Output of prepare, copied to TensorFlow's file system in memory."""
    folder = tmp_path_factory.mktemp("prepared")
    videos = folder / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        make_video(videos / f"{name}.mp4", 1.0)
        (videos / f"{name}.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    table = folder / "clips.csv"
    table.write_text("path,label\na.mp4,dog\nb.mp4,cat\n")
    out = folder / "out"
    prepare(videos, out, SMALL, manifest=table)
    remote = f"ram://{uuid.uuid4().hex}"
    for place, _, files in os.walk(out):
        for name in files:
            local = os.path.join(place, name)
            there = os.path.join(remote, os.path.relpath(local, out))
            tf.io.gfile.makedirs(os.path.dirname(there))
            tf.io.gfile.copy(local, there)
    return str(out), remote


def test_prepared_data_are_read_remotely(prepared):
    local, remote = prepared
    index = index_source(DataSource(remote))
    assert index.records == index_source(DataSource(local)).records == 2
    assert all(file.startswith(remote) for file in index.files)
    assert read_manifest(index.files[0])["path"] == f"{remote}/manifest.json"
    assert labels_of(remote, ("train",)) == ("cat", "dog")
    here, there = read_inventory(local, ("train",)), read_inventory(remote, ("train",))
    assert (there.files, there.labels, there.content) == (here.files, here.labels, here.content)
    assert set(there.folders) == {remote}
    tokenizer = load_tokenizer(f"{remote}/tokenizer", max_tokens=6)
    clip = spec(sample_rate=SMALL.sample_rate)
    batch = next(iter(evaluation_dataset(remote, clip, tokenizer, batch_size=2)))
    assert batch["video_mask"].numpy().all() and batch["text_mask"].numpy()[:, 0].all()


def test_files_beside_the_shards(prepared):
    _, remote = prepared
    with tf.io.gfile.GFile(f"{remote}/labels.txt", "w") as file:
        file.write("cat\ndog\n")
    assert read_labels(f"{remote}/labels.txt") == ("cat", "dog")
    with pytest.raises(UserError, match="nowhere.txt cannot be read"):
        read_labels(f"{remote}/nowhere.txt")
    log = DamageLog(remote, f"{remote}/run", limit=1.0)
    log.add([make_record_id(0, 0, 0)])
    assert DamageLog(remote, f"{remote}/run", limit=1.0).count == 1
    assert tf.io.gfile.listdir(f"{remote}/run") == [FILE_NAME]
