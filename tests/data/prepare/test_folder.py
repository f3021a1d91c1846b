"""``prepare`` into a folder that holds something: files of others, the same set, another one."""

import json
import shutil

import pytest

from tests.data.test_prepare import SMALL, make_video
from vatt_tf import prepare as command
from vatt_tf.data.prepare.plan import PlanError, Settings


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four videos with captions, and a manifest that gives each a class."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(4):
        make_video(folder / f"v{number}.mp4", 1.0, sound=False, level=40 * number)
        words = f"1\n00:00:00,100 --> 00:00:00,900\nvideo number {number}\n"
        (folder / f"v{number}.srt").write_text(words)
    write_manifest(folder, "aabb")
    return folder


def write_manifest(folder, labels):
    rows = [f"v{i}.mp4,{label},{'val' if i == 3 else 'train'}" for i, label in enumerate(labels)]
    (folder / "manifest.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")


@pytest.fixture
def videos(source, tmp_path):
    return shutil.copytree(source, tmp_path / "videos")


def prepare(videos, out, settings=SMALL, **options):
    notes = []
    options = {"tokenizers": (), "manifest": videos / "manifest.csv", **options}
    content = command.prepare(videos, out, settings, say=notes.append, **options)
    return content, notes


def bytes_of(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


FOREIGN = {
    "clips/holiday.mp4": b"a film",
    "tokenizer/my_words.txt": b"words",
    "train/one.mp4": b"a film",
    "val/two.mp4": b"a film",
    "manifest.json": b'{"mine": 1}',
    "train": b"a file where a folder is needed",
    "clips": b"a file where a folder is needed",
    "clips/train.csv": b"my,own,table\n",
    "train/train-00000-of-00002.tfrecord": b"shard of somebody",
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("where", ["equal", "beside"])
def test_files_of_others_are_refused_before_the_first_change(videos, tmp_path, name, where):
    out = videos if where == "equal" else tmp_path / "out"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(FOREIGN[name])
    before = bytes_of(tmp_path)
    for replace in (False, True):
        with pytest.raises(PlanError, match=f"holds .*{name.split('/')[0]}.*nothing was changed"):
            prepare(videos, out, tokenizers=("word",), replace=replace)
    assert bytes_of(tmp_path) == before


def test_files_of_others_under_other_names_stay(videos, tmp_path):
    for out in (videos, videos / "sub" / "shards", tmp_path / "out"):
        (out / "papers").mkdir(parents=True)
        (out / "papers" / "a.pdf").write_bytes(b"paper")
        (out / "notes.json").write_bytes(b"{}")
        content, _ = prepare(videos, out)
        again, notes = prepare(videos, out)
        assert again == content and notes == []
        assert (out / "papers" / "a.pdf").read_bytes() == b"paper"
        assert (out / "notes.json").read_bytes() == b"{}"


def test_shards_of_others_among_ours(videos, tmp_path):
    out = tmp_path / "out"
    prepare(videos, out)
    (out / "train" / "other.tfrecord").write_bytes(b"shard")
    (out / "train" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(PlanError, match=r"holds the shards train/other\.tfrecord"):
        prepare(videos, out)
    (out / "train" / "other.tfrecord").unlink()
    prepare(videos, out)
    assert (out / "train" / "notes.txt").read_bytes() == b"mine"


def test_the_output_inside_of_the_input_is_not_searched(videos):
    out = videos / "shards"
    first, _ = prepare(videos, out, manifest=None)
    make_video(out / "late.mp4", 1.0)
    again, _ = prepare(videos, out, manifest=None)
    assert first == again and first["videos"] == 4


def test_another_set_is_refused_and_replaced_on_request(videos, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    prepare(videos, out, tokenizers=("word",))
    (out / "notes.txt").write_bytes(b"mine")
    make_video(other / "x.mp4", 1.0)
    before = bytes_of(out)
    with pytest.raises(PlanError) as error:
        prepare(other, out, manifest=None)
    message = str(error.value)
    assert f"was made of {videos} (4 files" in message and f"now {other} (1 file," in message
    assert "--out=DIR" in message and "--replace" in message
    assert bytes_of(out) == before
    content, notes = prepare(other, out, manifest=None, replace=True)
    assert notes[0] == "the data set that was here before is replaced"
    assert content["videos"] == 1 and (out / "notes.txt").read_bytes() == b"mine"
    assert [path.name for path in out.glob("*/*.tfrecord")] == ["train-00000-of-00001.tfrecord"]
    assert not (out / "tokenizer").exists() and not (out / "val").exists()


@pytest.mark.parametrize("how", ["settings", "columns", "half"])
def test_what_makes_another_set(videos, tmp_path, how):
    out, options = tmp_path / "out", {}
    prepare(videos, out)
    if how == "settings":
        options["settings"] = Settings(short_side=16, clip_seconds=1.0, num_shards=2)
    elif how == "columns":
        options["manifest"] = None
    else:
        for number in range(3):
            (videos / f"v{number}.mp4").unlink()
    before = bytes_of(out)
    with pytest.raises(PlanError, match="--replace"):
        prepare(videos, out, **options)
    assert bytes_of(out) == before
    prepare(videos, out, replace=True, **options)


def test_files_that_come_and_go_and_a_moved_disk(videos, tmp_path):
    out = tmp_path / "out"
    prepare(videos, out, manifest=None)
    moved = videos.rename(tmp_path / "disk2")
    (moved / "v0.mp4").unlink()
    (moved / "v1.mp4").unlink()
    make_video(moved / "new.mp4", 1.0)
    content, notes = prepare(moved, out, manifest=None)
    assert prepare(moved, out, manifest=None) == (content, [])
    assert content["videos"] == 3 and content["identity"]["root"] == str(moved)
    assert notes == [
        "the same data set as before; new or changed files: 1, gone: 2",
        f"its files have moved from {videos} to {moved}",
    ]


def test_other_classes_are_said(videos, tmp_path):
    out = tmp_path / "out"
    prepare(videos, out)
    write_manifest(videos, "aacb")
    content, notes = prepare(videos, out)
    assert content["labels"] == ["a", "b", "c"]
    assert len(notes) == 1 and "the classes are others than before: c new, none gone" in notes[0]


def test_folders_of_an_earlier_version_are_known(videos, tmp_path):
    """Without lists and identity: accepted with a note, and only their own files go."""
    out = tmp_path / "out"
    content, _ = prepare(videos, out, tokenizers=("word",))
    shutil.rmtree(out / ".vatt_tf")
    (out / ".prepare" / "identity.json").unlink()
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["identity"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    shards = {path: path.stat().st_mtime_ns for path in out.glob("*/*.tfrecord")}
    again, notes = prepare(videos, out, tokenizers=("word",))
    assert again == content
    assert len(notes) == 1 and "made before data sets had an identity" in notes[0]
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert prepare(videos, out, tokenizers=("word",)) == (content, [])


def test_a_folder_whose_hidden_files_were_not_copied(videos, tmp_path):
    content, _ = prepare(videos, tmp_path / "out")
    copied = shutil.copytree(tmp_path / "out", tmp_path / "copy")
    shutil.rmtree(copied / ".vatt_tf")
    shutil.rmtree(copied / ".prepare")
    assert prepare(videos, copied)[0] == content


def test_stopped_before_the_first_shard(videos, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.shards, "build_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(videos, out)
    monkeypatch.undo()
    make_video(tmp_path / "other" / "x.mp4", 1.0)
    with pytest.raises(PlanError, match="another data set"):
        prepare(tmp_path / "other", out, manifest=None)
    prepare(videos, out)


def test_sample_videos_of_others(tmp_path, capsys):
    (tmp_path / "videos" / "train").mkdir(parents=True)
    (tmp_path / "videos" / "manifest.csv").write_bytes(b"path\nholiday.mp4\n")
    before = bytes_of(tmp_path)
    assert command.main(["--sample", f"--out={tmp_path}"]) == 2
    assert "holds videos/, which vatt_tf.prepare" in capsys.readouterr().err
    assert bytes_of(tmp_path) == before


def test_another_size_of_the_vocabulary_is_said(videos, tmp_path):
    out = tmp_path / "out"
    prepare(videos, out, tokenizers=("word",))
    _, notes = prepare(videos, out, tokenizers=("word",), max_words=6)
    assert notes == [
        "the vocabularies are made anew: at most 6 entries of word, as asked for now; runs keep "
        "theirs"
    ]
    assert len((out / "tokenizer" / "words.txt").read_text().split()) == 6
