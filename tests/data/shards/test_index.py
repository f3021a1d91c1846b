"""Finding shards, reading their headers, naming what is wrong with them."""

import gzip
import json
import re

import numpy as np
import pytest

from tests.data import records
from vatt_tf.data.shards import index as sources
from vatt_tf.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return records.numbered(tmp_path_factory.mktemp("shards"), 7, shards=3, frames=1, samples=0)


def test_every_way_to_name_shards(folder, tmp_path):
    files = sources.list_shards(str(folder))
    assert [f.rsplit("/", 1)[1] for f in files] == [
        f"train-0000{i}-of-00003.tfrecord" for i in range(3)
    ]
    (folder / "train-00000-of-00003.tfrecord.tmp-12").write_bytes(b"half")
    assert sources.list_shards(str(folder)) == files
    assert sources.list_shards(str(folder.parent)) == files
    assert sources.list_shards(str(folder / "*.tfrecord")) == files
    assert sources.list_shards(str(folder / "train@3")) == files
    assert sources.list_shards(files[1]) == files[1:2]
    assert sources.list_shards((files[2], files[0])) == (files[2], files[0])
    # DMVR's own names have no extension.
    (tmp_path / "table-00000-of-00001").write_bytes((folder / files[0]).read_bytes())
    assert len(sources.list_shards(str(tmp_path))) == 1


def test_index_finds_every_record(folder):
    index = sources.index_source(sources.DataSource(str(folder)))
    assert index.records == 7 and index.first_row.tolist() == [0, 3, 5, 7]
    assert (index.lengths > 100).all() and index.offsets[0] == 0
    assert index.frame_rate == 0 and index.sample_rate == 0


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.tfrecord", "empty"])
def test_no_shards_says_how_to_make_them(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        sources.index_source(sources.DataSource(str(tmp_path / name)))
    for part in (name, "vatt_tf.prepare --sample", "vatt_tf.prepare --videos", "vatt_tf.train"):
        assert part in str(error.value)


def test_damaged_shards_are_named(folder, tmp_path):
    whole = (folder / "train-00000-of-00003.tfrecord").read_bytes()

    def check(content, message):
        path = tmp_path / "x.tfrecord"
        path.write_bytes(content)
        with pytest.raises(UserError, match=re.escape(str(path))) as error:
            sources.index_source(sources.DataSource(str(path)))
        assert message in str(error.value)

    check(whole[:-1], f"record 2 at byte {2 * len(whole) // 3}")
    check(whole[:5], "record 0 at byte 0 has half a header")
    check(b"these are words, no records at all", "not a TFRecord file")
    check(gzip.compress(whole), "compressed")
    check(b"", "no records")


def test_manifest_gives_rates_and_is_compared(folder, tmp_path):
    copy = tmp_path / "train"
    copy.mkdir()
    for file in folder.glob("*.tfrecord"):
        (copy / file.name).write_bytes(file.read_bytes())
    shards = [
        {"file": f"train/train-0000{i}-of-00003.tfrecord", "records": n}
        for i, n in enumerate((3, 2, 2))
    ]
    manifest = {
        "settings": {"frame_rate": 12.5, "sample_rate": 16000},
        "splits": {"train": {"shards": shards}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    index = sources.index_source(sources.DataSource(str(tmp_path)))
    assert (index.frame_rate, index.sample_rate) == (12.5, 16000)
    own = sources.DataSource(str(tmp_path), frame_rate=25, sample_rate=48000)
    index = sources.index_source(own)
    assert (index.frame_rate, index.sample_rate) == (25.0, 48000)
    shards[1]["records"] = 5
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="00001-of-00003.tfrecord has 2 records.* says 5"):
        sources.index_source(sources.DataSource(str(copy)))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json: not a readable manifest"):
        sources.index_source(sources.DataSource(str(copy)))


def test_record_ids_name_file_and_record(folder):
    record_id = sources.make_record_id(1, 2, 1)
    assert sources.split_record_id(np.int64(record_id)) == (1, 2, 1)
    text = sources.describe_record_id(record_id, ["unused", str(folder)])
    assert text.endswith("train-00002-of-00003.tfrecord record 1")


@pytest.mark.parametrize(
    "fields",
    [
        {"path": ""},
        {"path": 3},
        {"path": "x", "weight": 0},
        {"path": "x", "weight": "1"},
        {"path": "x", "frame_rate": -1},
    ],
)
def test_bad_fields_are_named(fields):
    name = list(fields)[-1]
    with pytest.raises(UserError, match=f"data_source.{name}"):
        sources.DataSource(**fields)


@pytest.fixture
def odd_folders(folder, tmp_path, monkeypatch):
    """``s/set[12]`` (3 shards) and ``s/set1`` (1 shard), each with a train split."""
    for name, count in (("set[12]", 3), ("set1", 1)):
        (tmp_path / "s" / name / "train").mkdir(parents=True)
        for file in sorted(folder.glob("*.tfrecord"))[:count]:
            (tmp_path / "s" / name / "train" / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "s/set[12]",
        "s/set[12]/train",
        "s/set[12]/train/*.tfrecord",
        "s/set[12]/train/train-?????-of-*",
        "s/set[12]/train@3",
        "s/set[12]/train/train@3",
    ],
)
def test_an_existing_folder_is_no_pattern(odd_folders, path):
    if path.endswith("set[12]/train@3"):
        path = path.replace("/train@", "/train/t*@")  # a pattern for the table's name
    files = sources.list_shards(path)
    assert len(files) == 3 and all(file.startswith("s/set[12]/train/") for file in files)


def test_patterns_and_odd_names_of_shards(odd_folders, tmp_path):
    assert len(sources.list_shards("s/set?/train/*")) == 1
    (tmp_path / "s" / "set[12]").rename(tmp_path / "s" / "set2.tmp-1")
    assert len(sources.list_shards("s/set2.tmp-1/train")) == 3  # half-written is a file's name
    assert len(sources.list_shards("s/set[12]/train/*")) == 1
    assert len(sources.list_shards("s/set*/train/*-of-*")) == 4
    file = tmp_path / "s" / "a[1]*-00000-of-00001"
    file.write_bytes(b"")
    assert sources.list_shards(str(file)) == (str(file),)
    assert sources.list_shards(str(tmp_path / "s" / "a[1]*@1")) == (str(file),)
    (tmp_path / "s" / "._hidden.tfrecord").write_bytes(b"")
    assert sources.list_shards("s") == ("s/a[1]*-00000-of-00001",)


def test_the_home_folder(odd_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = sources.DataSource(("~/s/set1", "./~/s"))
    assert source.path == (f"{tmp_path}/s/set1", "./~/s")
    assert sources.as_sources("~/s")[0].path == f"{tmp_path}/s"
