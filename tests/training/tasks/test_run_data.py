"""A run keeps the data, the vocabulary and the classes that it was trained on."""

import dataclasses
import json
import shutil

import pytest

from tests.digests import digests
from tests.training.conftest import GIN, SIZES
from tests.training.test_run import command
from vatt_tf import config
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.identity import DataIdentity
from vatt_tf.data.shards.provenance import (
    FILE,
    DataSet,
    data_sets,
    differences,
    read_data,
    write_data,
)
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.errors import UserError
from vatt_tf.training.saving import run_folder
from vatt_tf.training.saving.best import BestWeights
from vatt_tf.training.tasks import run_data
from vatt_tf.training.tasks.run_data import StartedRun

FILES = [(f"v{number}.mp4", 100 + number) for number in range(10)]
SETTINGS = {"frame_rate": 10.0}


def identity(files=FILES, root="/videos/a", settings=SETTINGS):
    return DataIdentity.from_files(root, files, settings)


def with_identity(shards, folder, one):
    """A copy of the shards, as prepared from other original files."""
    shutil.copytree(shards, folder, dirs_exist_ok=True)
    manifest = {"format": 1, "settings": {}, "splits": {"train": {}, "val": {}}}
    if one is not None:
        manifest["identity"] = one.to_dict()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def data(shards, tmp_path):
    return with_identity(shards, tmp_path / "data", identity())


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """A run of two steps on data with an identity, and its data; read only."""
    folder = tmp_path_factory.mktemp("trained")
    data = with_identity(shards, folder / "data", identity())
    gin_file = folder / "run.gin"
    gin_file.write_text(GIN.format(shards=data, sizes=SIZES))
    assert command(gin_file, folder / "run", "STEPS=2") == 0
    config.clear()
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it: its configuration, its run directory, its data, which may be changed."""
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.copytree(trained / "data", tmp_path / "data")
    text = (trained / "run.gin").read_text().replace(str(trained), str(tmp_path))
    (tmp_path / "run.gin").write_text(text)
    for name in ("config.gin",):
        path = tmp_path / "run" / name
        path.write_text(path.read_text().replace(str(trained), str(tmp_path)))
    yield tmp_path
    config.clear()


@pytest.mark.check
def test_more_files_and_more_steps_go_on_with_the_own_vocabulary(run, shards, capsys):
    words = (run / "run/tokenizer/words.txt").read_bytes()
    more = identity([*FILES, ("new.mp4", 3)], root="/moved/a")
    with_identity(shards, run / "data", more)
    with open(run / "data/tokenizer/words.txt", "ab") as file:
        file.write(b"zebra\nyak\n")
    assert command(run / "run.gin", run / "run", "STEPS=4") == 0
    error = capsys.readouterr().err
    assert "does not know 2 (zebra, yak)" in error
    assert "STEPS was 2, is 4: the run goes on; from here on its learning rates" in error
    assert "continues after step 2 of 4" in error
    assert (run / "run/tokenizer/words.txt").read_bytes() == words
    assert read_data(run / "run")[0].identity == more
    # The known files are those of the last start.
    steps = [json.loads(line)["step"] for line in open(run / "run/metrics.jsonl")]
    assert steps[-1] == 4


def test_other_data_are_refused_before_anything_is_written(run, shards, capsys):
    with_identity(shards, run / "data", identity(root="/videos/b", files=[("x.mp4", 1)]))
    before = digests(run)
    assert command(run / "run.gin", run / "run", "STEPS=2") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "trained on" in error and "/videos/a (10 files" in error
    assert "/videos/b (1 file," in error and "--continue_on_new_data" in error
    assert digests(run) == before


def test_other_data_on_request(run, shards, capsys, monkeypatch):
    monkeypatch.setattr(BestWeights, "restore", lambda *_: "a new record begins")
    other = with_identity(shards, run / "other", identity([("x.mp4", 1)], root="/videos/b"))
    words = (run / "run/tokenizer/words.txt").read_bytes()
    bindings = ["STEPS=2", f"TRAIN_DATA='{other}/train'"]
    flags = ["--continue_on_new_data"]
    assert command(run / "run.gin", run / "run", *bindings, flags=flags) == 0
    error = capsys.readouterr().err
    assert "goes on with other data" in error
    assert "note: a new record begins" in error.splitlines()  # in front of the progress bar
    content = json.loads((run / "run" / FILE).read_text())
    assert content["train"][0]["identity"]["root"] == "/videos/b"
    assert content["earlier"][0][0]["identity"]["root"] == "/videos/a"
    assert (run / "run/tokenizer/words.txt").read_bytes() == words


def test_fewer_steps_are_refused(run, capsys):
    before = digests(run / "run")
    assert command(run / "run.gin", run / "run", "STEPS=1") == 2
    assert "STEPS: was 2, is 1" in capsys.readouterr().err
    assert digests(run / "run") == before


@pytest.mark.parametrize("kind", ["shards", "videos", "index", "weights", "config of others"])
def test_a_folder_that_is_something_else(run, gin_file, tmp_path, capsys, kind):
    folder = tmp_path / "something"
    if kind == "shards":
        shutil.copytree(run / "data", folder)
    else:
        folder.mkdir()
        name = {
            "videos": "a.mp4",
            "index": "videos.jsonl",
            "weights": "model.weights.h5",
            "config of others": "config.gin",
        }[kind]
        (folder / name).write_text("somebody's")
    before = digests(folder)
    assert command(gin_file, folder) == 2
    error = capsys.readouterr().err
    assert f"--run_dir={folder}: is not the folder of a run" in error
    assert digests(folder) == before


def test_files_of_others_in_a_new_run(tmp_path):
    (tmp_path / "console.log").write_text("from a shell")
    run_folder.check(str(tmp_path))
    (tmp_path / "train.log").write_text("somebody's log")
    with pytest.raises(UserError, match=r"holds train\.log, which vatt_tf\.train would have to"):
        run_folder.check(str(tmp_path))
    (tmp_path / "train.log").unlink()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        run_folder.check(str(tmp_path / "file"))


def test_a_folder_best_of_somebody(run, capsys):
    (run / "run/best").mkdir()
    (run / "run/best/mine.h5").write_text("weights of mine")
    before = digests(run)
    assert command(run / "run.gin", run / "run", "STEPS=2", "train.evaluate_every=1") == 2
    assert "holds best/, which vatt_tf.train" in capsys.readouterr().err
    assert digests(run) == before


def test_a_run_of_an_earlier_version_goes_on(run, capsys):
    shutil.rmtree(run / "run/.vatt_tf")
    (run / "run" / FILE).unlink()
    words = (run / "run/tokenizer/words.txt").read_bytes()
    (run / "data/tokenizer/words.txt").write_bytes(words + b"zebra\n")
    assert command(run / "run.gin", run / "run", "STEPS=2") == 0
    error = capsys.readouterr().err
    assert "was started before runs kept the identity of their data" in error
    assert "does not know 1 (zebra)" in error
    assert (run / "run/tokenizer/words.txt").read_bytes() == words
    assert read_data(run / "run")[0].identity == identity()


def started(tmp_path, **description):
    return StartedRun(str(tmp_path), {"tokenizer": None, **description})


def test_classes_compare(tmp_path):
    run = started(tmp_path, labels=["a", "b"])
    run_data.check_classes(run, ("a", "b"), "data")
    run_data.check_classes(started(tmp_path), ("a", "b"), "data")
    run_data.check_classes(run, None, "data")
    with pytest.raises(UserError, match="trained on 2 classes; labels.txt has 2, in another order"):
        run_data.check_classes(run, ("b", "a"), "labels.txt")


def test_clips_compare(tmp_path):
    clip = ClipSpec(frames=4, height=16, width=16, frame_rate=10.0, samples=320, sample_rate=800)
    stored = {"frames": 4, "frame_rate": 10.0, "audio_resampling": "filtered"}
    run_data.check_clip(started(tmp_path, clip=stored), clip)
    with pytest.raises(UserError, match=r"frame_rate was 5\.0, is 10\.0"):
        run_data.check_clip(started(tmp_path, clip={**stored, "frame_rate": 5.0}), clip)
    # A run that does not say how it reads its sound is older than the choice.
    del stored["audio_resampling"]
    with pytest.raises(UserError, match="audio_resampling was 'strided', is 'filtered'"):
        run_data.check_clip(started(tmp_path, clip=stored), clip)
    old = dataclasses.replace(clip, audio_resampling="strided")
    run_data.check_clip(started(tmp_path, clip=stored), old)


def test_vocabularies_compare(tmp_path):
    own = WordTokenizer(("<pad>", "<bos>", "<eos>", "<unk>", "a", "dog"), 4)
    words = tmp_path / "words.txt"
    words.write_text("<pad>\n<bos>\n<eos>\n<unk>\na\ndog\n")
    run = started(tmp_path)
    assert run_data.vocabulary_notes(run, own, str(words)) == []
    assert run_data.vocabulary_notes(run, own, None) == []
    assert run_data.vocabulary_notes(run, own, str(tmp_path / "none.txt")) == []
    words.write_text("<pad>\n<bos>\n<eos>\n<unk>\ncat\na\n")
    (note,) = run_data.vocabulary_notes(run, own, str(words))
    assert "vocabulary of 6 words; of the 6 in" in note and "does not know 1 (cat)" in note


def test_data_without_an_identity(tmp_path):
    """They are the same while their folder is; with an identity the folder may differ."""
    run = started(tmp_path)
    plain, other = DataSet("/data/a", None), DataSet("/data/b", None)
    assert run_data.check_data(run, [plain], False)[0].endswith("trained on /data/a")
    write_data(str(tmp_path), [plain])
    (note,) = run_data.check_data(run, [plain], False)
    assert "has no identity" in note
    with pytest.raises(UserError, match="their folders differ"):
        run_data.check_data(run, [other], False)
    with pytest.raises(UserError, match=r"1 data set\(s\) before, 2 now"):
        run_data.check_data(run, [plain, other], False)
    known, moved = DataSet("/data/a", identity()), DataSet("/disk/a", identity())
    assert differences([known], [moved]) == []


def test_the_data_sets_of_a_path(data, shards):
    (one,) = data_sets(str(data / "train"), ("train",))
    assert one.path == str(data) and one.identity == identity()
    (one,) = data_sets(str(data), ("train",))
    assert one.path == str(data)
    (plain,) = data_sets(str(shards / "train"), ())
    assert plain == DataSet(str(shards / "train"), None)
    assert len(data_sets([str(data / "train"), str(shards / "train")], ())) == 2
