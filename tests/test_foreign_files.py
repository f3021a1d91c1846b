"""No command deletes or overwrites a file that it did not write itself."""

import json
import shutil

import pytest

from tests.data.test_prepare import make_video
from tests.digests import digests, unchanged
from vatt_tf import config, convert, deflate, embed, evaluate, prepare, search, train
from vatt_tf.export import __main__ as export
from vatt_tf.search_index.folder import open_index

# Names that the commands use, as files of a user: media, tables, JSON, and folders of them.
NAMES = (
    "clips/holiday.mp4",
    "clips/notes.txt",
    "clips/train.csv",
    "train/a.mp4",
    "train/train-00000-of-00001.tfrecord",
    "val/b.mp4",
    "tokenizer/words.txt",
    "videos/train/0000_red_circle_left.mp4",
    "video/1/keep.bin",
    "audio/song.wav",
    "text/novel.txt",
    "best/model.json",
    "best/mine.h5",
    "checkpoints/checkpoint",
    "tensorboard/events",
    "manifest.json",
    "manifest.csv",
    "results.json",
    "report.html",
    "config.gin",
    "operative_config.gin",
    "model.json",
    "model.weights.h5",
    "data.json",
    "metrics.jsonl",
    "damaged_records.json",
    "deflation.json",
    "provenance.json",
    "videos.jsonl",
    "vectors_va.f32",
    "nearest_vt.json",
    "lock",
)


@pytest.fixture
def theirs(tmp_path):
    folder = tmp_path / "theirs"
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"mine": number}) if name.endswith("json") else f"{number}")
    make_video(folder / "clips" / "film.mp4", 1.0)
    return folder


def commands(out, theirs, weights, gin_file):
    """Every command that writes into a folder, by name."""
    return {
        "prepare": lambda: prepare.main([f"--videos={theirs}/clips", f"--out={out}", "--jobs=1"]),
        "prepare --replace": lambda: prepare.main(
            [f"--videos={theirs}/clips", f"--out={out}", "--jobs=1", "--replace"]
        ),
        "prepare --sample": lambda: prepare.main(["--sample", f"--out={out}", "--jobs=1"]),
        "train": lambda: train.main([f"--gin_file={gin_file}", f"--run_dir={out}"]),
        "evaluate": lambda: evaluate.main([f"--run_dir={out}", f"--data={theirs}/val", "--report"]),
        "convert": lambda: convert.main([f"--checkpoint={theirs}", f"--out={out}"]),
        "export": lambda: export.main([f"--weights={weights}", f"--out={out}"]),
        "embed": lambda: embed.main(
            [f"--videos={theirs}/clips", f"--out={out}", f"--run_dir={weights}"]
        ),
        "embed --replace": lambda: embed.main(
            [f"--videos={theirs}/clips", f"--out={out}", f"--run_dir={weights}", "--replace"]
        ),
        "deflate": lambda: deflate.main(
            [f"--run_dir={weights}", f"--images={theirs}", f"--out={out}"]
        ),
    }


ALL = list(commands("", "", "", ""))


@pytest.fixture
def gin_file(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text("include 'tiny.gin'\n")
    config.clear()
    yield path
    config.clear()


@pytest.mark.parametrize("name", ALL)
def test_into_a_folder_of_others(theirs, weights_folder, gin_file, capsys, name):
    before = digests(theirs)
    assert commands(theirs, theirs, weights_folder, gin_file)[name]() == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(theirs) in error
    assert digests(theirs) == before  # not even a file was added


@pytest.mark.parametrize("where", ["in", "beside"])
@pytest.mark.parametrize("name", ["prepare", "export", "embed"])
def test_in_and_beside_a_folder_of_others(
    theirs, weights_folder, gin_file, tmp_path, capsys, name, where
):
    out = (theirs / "clips" if where == "in" else tmp_path) / "new"
    before = digests(theirs)
    assert commands(out, theirs, weights_folder, gin_file)[name]() == 0
    assert unchanged(before) and any(out.iterdir())
    if name != "export":  # and once more: the first output is not taken for a part of the input
        assert commands(out, theirs, weights_folder, gin_file)[name]() == 0
        assert unchanged(before)


@pytest.mark.parametrize("name", ["results.json", "report.html"])
def test_evaluate_leaves_results_of_others(theirs, weights_folder, tmp_path, capsys, name):
    run = shutil.copytree(weights_folder, tmp_path / "run")
    shutil.copy(theirs / name, run / name)
    before = digests(run)
    flags = [f"--run_dir={run}", f"--data={theirs}/val", "--report"]
    assert evaluate.main(flags) == 2
    assert f"holds {name}, which vatt_tf.evaluate" in capsys.readouterr().err
    assert digests(run) == before


def test_single_files_of_others(theirs, weights_folder, tmp_path, capsys):
    """A page of a search and a comparison are written to names that a user gives."""
    index = tmp_path / "index"
    flags = [f"--videos={theirs}/clips", f"--run_dir={weights_folder}"]
    assert embed.main([*flags, f"--out={index}"]) == 0
    before = digests(theirs)
    query = [f"--index={index}", "red circle", f"--run_dir={weights_folder}"]
    assert search.main([*query, f"--html={theirs}/report.html"]) == 2
    assert "report.html: exists already and was not written by" in capsys.readouterr().err
    for _ in range(2):  # its own page is replaced
        assert search.main([*query, f"--html={tmp_path}/found.html"]) == 0
    runs = [f"--run_dir={weights_folder}", f"--run_dir={index}"]
    comparison = [*runs, f"--data={theirs}/val", f"--comparison={theirs}/results.json"]
    assert evaluate.main(comparison) == 2
    assert "results.json: exists already and was not written by" in capsys.readouterr().err
    assert unchanged(before)


def test_the_index_of_others_and_a_moved_folder(theirs, weights_folder, tmp_path, capsys):
    """The second run of embed: the same folder moved, another folder, a changed setting."""
    index, clips = tmp_path / "index", theirs / "clips"
    flags = [f"--out={index}", f"--run_dir={weights_folder}"]
    assert embed.main([f"--videos={clips}", *flags]) == 0
    (index / "notes.txt").write_text("mine")
    moved = shutil.move(clips, tmp_path / "disk")
    capsys.readouterr()
    assert embed.main([f"--videos={moved}", *flags]) == 0
    assert f"the videos have moved from {clips} to {moved}" in capsys.readouterr().out
    assert open_index(index).manifest["settings"]["videos"] == str(moved)
    other = tmp_path / "other"
    make_video(other / "x.mp4", 1.0)
    before = digests(index)
    for refused in ([f"--videos={other}"], [f"--videos={moved}", "--clip_seconds=0.4"]):
        assert embed.main([*refused, *flags]) == 2
        error = capsys.readouterr().err
        assert "give another --out, or --replace" in error and digests(index) == before
    assert embed.main([f"--videos={other}", *flags, "--replace"]) == 0
    assert "the index that was here before is replaced" in capsys.readouterr().out
    assert [entry for entry in open_index(index).entries] == ["x.mp4"]
    assert (index / "notes.txt").read_text() == "mine"
