"""Damaged records while training: rows without content, told with file and byte, limited."""

import json

import numpy as np
import pytest

from tests.data.records import example, jpeg, spec, write_shards
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.pipeline import training_dataset
from vatt_tf.data.shards.damage import FILE_NAME, DamageLog
from vatt_tf.data.shards.index import DataSource, index_source, make_record_id, split_record_id
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.errors import UserError

# Little to set up; clips are the subject of test_pipeline.py.
SMALL = spec(texts=1)
PLAIN = Augmentation(crop="random", colour_probability=0)
NAN = np.array([0.1] * 700 + [np.nan] * 100)
BAD = {
    2: (lambda: example(2, images=[jpeg(9), b"no jpeg"] * 5), "has a damaged JPEG"),
    3: (lambda: example(3, images=[jpeg(9), jpeg(9, (8, 8))] * 5), "has frames of different sizes"),
    5: (lambda: example(5, frames=0, samples=0), "has neither frames"),
    6: (lambda: example(6, waveform=NAN), "has NaN or infinite numbers"),
    7: (lambda: b"no record", "is no tf.train.SequenceExample"),
    8: (lambda: example(8, captions=["a", "b"], times=[(0, 1)]), "another number of caption times"),
    9: (lambda: example(9, label=9), "is damaged"),  # its checksum, below
}


def good(i):
    return example(i, label=i % 2, captions=[f"caption {i}"])


def shards_of(folder, bad):
    """12 records in 2 shards, those of ``bad`` damaged."""
    records = [BAD[i][0]() if i in bad else good(i) for i in range(12)]
    folder = write_shards(folder, records, shards=2)
    if 9 in bad:
        source = DataSource(str(folder))
        index = index_source(source)
        file = folder / index.files[1].rsplit("/", 1)[1]
        content = bytearray(file.read_bytes())
        content[int(index.offsets[9]) + 500] ^= 255
        file.write_bytes(content)
    return str(folder)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return shards_of(tmp_path_factory.mktemp("damaged"), BAD)


def read(path, count, **settings):
    settings = {"batch_size": 4, "label_names": ("class 0", "class 1")} | settings
    dataset = training_dataset(path, SMALL, None, PLAIN, **settings)
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def test_damaged_rows_have_no_content_and_the_others_do_not_change(damaged, tmp_path):
    whole = read(shards_of(tmp_path, ()), 6)
    found = read(damaged, 6, tolerate_damage=True, num_parallel_calls=4)
    for batch, sound in zip(found, whole, strict=True):
        bad = batch.pop("damaged")
        numbers = [shard * 6 + row for _, shard, row in map(split_record_id, batch["record_id"])]
        assert bad.tolist() == [number in BAD for number in numbers]
        np.testing.assert_array_equal(batch["record_id"], sound["record_id"])
        assert batch.keys() == sound.keys()
        for name, values in batch.items():
            assert values.shape == sound[name].shape and values.dtype == sound[name].dtype
            np.testing.assert_array_equal(values[~bad], sound[name][~bad], name)
            if name != "record_id":
                assert (values[bad] == (-1 if name == "label" else 0)).all(), name


def test_without_tolerance_not_a_number_in_the_sound_is_an_error(tmp_path):
    shards = str(write_shards(tmp_path, [good(0), BAD[6][0]()]))
    with pytest.raises(UserError, match="record 1 .*NaN or infinite"), read_errors(shards):
        read(shards, 1)


def test_each_damaged_record_is_told_once_with_its_fault(damaged, tmp_path, capsys):
    log = DamageLog(damaged, tmp_path, limit=0.6)
    log.start()
    assert log.count == 0 and not (tmp_path / FILE_NAME).exists()
    for batch in read(damaged, 4, tolerate_damage=True):
        log.add(batch["record_id"][batch["damaged"]])
    assert log.count == len(BAD) and log.share == len(BAD) / 12
    entries = json.loads((tmp_path / FILE_NAME).read_text())
    index = index_source(DataSource(damaged))
    told = capsys.readouterr().err
    for entry in entries:
        number = entry["record"] + 6 * entry["file"].endswith("00001-of-00002.tfrecord")
        assert BAD[number][1] in entry["fault"]
        assert entry["byte"] == index.offsets[number]
        assert f"{entry['file']} record {entry['record']} (byte {entry['byte']})" in told
    assert len(entries) == told.count("warning: ") == len(BAD)
    # A restart knows them already.
    again = DamageLog(damaged, tmp_path, limit=0.6)
    again.start()
    again.add([make_record_id(0, 0, 2), make_record_id(0, 1, 0)])
    assert again.count == len(BAD) and not capsys.readouterr().err


def test_too_many_damaged_records_stop_the_run(damaged, tmp_path):
    for limit, allowed in ((0, 0), (0.1, 1)):
        log = DamageLog(damaged, tmp_path / str(limit), limit)
        records = [make_record_id(0, 0, row) for row in (2, 3)]
        for record in records[:allowed]:
            log.add([record])
        with pytest.raises(UserError) as error:
            log.add(records[allowed : allowed + 1])
        for part in (
            f"{allowed + 1} of 12 ",
            f"{100 * limit:.2f} %",
            "00000-of-00002.tfrecord record 2",
        ):
            assert part in str(error.value)
        assert str(tmp_path / str(limit) / FILE_NAME) in str(error.value)
        # So does the restart, until something is done.
        with pytest.raises(UserError, match="delete that file"):
            DamageLog(damaged, tmp_path / str(limit), limit).start()
    with pytest.raises(UserError, match="expected 0 to 1"):
        DamageLog(damaged, tmp_path, 2)


@pytest.mark.parametrize("manifest", [True, False])
def test_what_is_left_of_a_cut_shard_is_used(tmp_path, manifest):
    folder = shards_of(tmp_path, ())
    file = tmp_path / "train" / "train-00000-of-00002.tfrecord"
    index = index_source(DataSource(folder))
    file.write_bytes(file.read_bytes()[: index.offsets[4] + 50])
    if manifest:
        shards = [{"file": f"train/train-0000{i}-of-00002.tfrecord", "records": 6} for i in (0, 1)]
        content = {"settings": {}, "splits": {"train": {"shards": shards}}}
        (tmp_path / "manifest.json").write_text(json.dumps(content))
    if manifest:
        with pytest.raises(UserError, match="cut short: record 4"):
            read(folder, 1)
        for batch in read(folder, 3, batch_size=10, tolerate_damage=True):  # an epoch each
            places = sorted(split_record_id(i)[1:] for i in batch["record_id"])
            assert places == [(0, row) for row in range(4)] + [(1, row) for row in range(6)]
            assert not batch["damaged"].any()
    for _ in range(2):  # the second time as after a restart
        log = DamageLog(folder, tmp_path / "run", limit=0.5)
        log.start()
        entries = json.loads((tmp_path / "run" / FILE_NAME).read_text())
        assert log.count == len(entries) == (2 if manifest else 1)
        assert log.share == (2 / 12 if manifest else 1 / 11)
    assert [entry["record"] for entry in entries] == ([4, 5] if manifest else [4])
    assert entries[0]["byte"] == index.offsets[4] and "cut short" in entries[0]["fault"]
    with pytest.raises(UserError, match="are damaged"):
        DamageLog(folder, tmp_path / "strict", limit=0).start()


def test_a_broken_list_of_damaged_records_is_named(damaged, tmp_path):
    (tmp_path / FILE_NAME).write_text('[{"file": 1}]')
    with pytest.raises(UserError, match="damaged_records.json is no list of damaged records"):
        DamageLog(damaged, tmp_path, limit=0.5)
