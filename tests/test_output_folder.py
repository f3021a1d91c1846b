"""What a command wrote is listed in its folder; nothing else is replaced or removed."""

import json

import pytest

from vatt_tf.errors import UserError
from vatt_tf.output_folder import (
    JSON_MARK,
    LISTS,
    PAGE_MARK,
    OutputFolder,
    check_replaceable,
    marked,
    replace_folder,
    restore_folder,
)


def fill(folder, *names, text="yours"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_claimed_files_are_listed_before_they_are_written(tmp_path):
    OutputFolder(tmp_path / "out", "prepare").claim(["a/b/c.txt", "d.txt"])
    listed = json.loads((tmp_path / "out" / LISTS / "prepare.json").read_text())
    assert listed == {"format": 1, "files": ["a/", "a/b/", "a/b/c.txt", "d.txt"]}
    fill(tmp_path / "out", "a/b/c.txt", "d.txt")
    again = OutputFolder(tmp_path / "out", "prepare")
    again.claim(["a/b/c.txt", "d.txt", "e.txt"])
    assert "e.txt" in again and "f.txt" not in again
    # Another command sees what belongs to the first, and may replace it.
    assert "d.txt" in OutputFolder(tmp_path / "out", "evaluate")


@pytest.mark.parametrize(
    ("there", "needed", "named"),
    [
        ("d.txt", "d.txt", "d.txt"),
        ("clips/video.mp4", "clips/train.csv", "clips/"),
        ("clips", "clips/train.csv", "clips/"),  # a file where a folder is needed
        ("a/b/x", "a/b/c.txt", "a/"),
    ],
)
def test_what_is_not_listed_is_refused_before_the_first_change(tmp_path, there, needed, named):
    fill(tmp_path, there)
    with pytest.raises(UserError) as error:
        OutputFolder(tmp_path, "prepare").claim(["new.txt", needed])
    assert f"--out={tmp_path}: holds {named}, which vatt_tf.prepare" in str(error.value)
    assert content(tmp_path) == {there: "yours"}


def test_a_folder_in_the_place_of_a_listed_file_and_the_reverse(tmp_path):
    OutputFolder(tmp_path, "prepare").claim(["a/b.csv", "c.json"])
    fill(tmp_path, "c.json/mine.txt", "a")
    with pytest.raises(UserError, match=r"holds a/, c\.json, which"):
        OutputFolder(tmp_path, "prepare").claim(["a/b.csv", "c.json"])
    assert content(tmp_path)["c.json/mine.txt"] == "yours"


def test_an_empty_folder_is_nobodys_and_a_dead_link_is_somebodys(tmp_path):
    (tmp_path / "clips").mkdir()
    OutputFolder(tmp_path, "prepare").claim(["clips/train.csv"])
    (tmp_path / "manifest.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds manifest\.json"):
        OutputFolder(tmp_path, "prepare").claim(["manifest.json"])


def test_only_what_is_listed_is_removed(tmp_path):
    files = OutputFolder(tmp_path, "prepare")
    files.claim(["clips/train.csv", "train/a", "train/b"])
    fill(tmp_path, "clips/train.csv", "train/a", "train/b", text="ours")
    fill(tmp_path, "train/notes.txt", "train/a.tmp-7", "train/a.tmp-7.mp4", "other.tmp-7")
    fill(tmp_path, "train/a.tmp.mp4")  # of nobody here: it has no number of a process
    files.remove_temporary()
    files.remove(["clips/train.csv", "train/a", "train/notes.txt", "other.tmp-7"])
    assert content(tmp_path) == {
        f"{LISTS}/prepare.json": (tmp_path / LISTS / "prepare.json").read_text(),
        "train/b": "ours",
        "train/notes.txt": "yours",
        "train/a.tmp.mp4": "yours",
        "other.tmp-7": "yours",
    }
    assert not (tmp_path / "clips").exists()
    files.remove(["train/b"])
    assert (tmp_path / "train").is_dir()  # notes.txt is in it


def test_a_folder_stays_while_something_is_to_come(tmp_path):
    files = OutputFolder(tmp_path, "prepare")
    files.claim(["val/old", "val/new", "deep/er/old"])
    fill(tmp_path, "val/old", "deep/er/old", text="ours")
    files.remove(["val/old", "deep/er/old"])
    assert "val/" in files and "val/new" in files
    assert "deep/" not in files and not (tmp_path / "deep").exists()
    files.claim(["val/new"])


def test_a_damaged_list_is_named(tmp_path):
    fill(tmp_path, f"{LISTS}/prepare.json", text='{"files": [1]}')
    with pytest.raises(UserError, match=r"prepare\.json: is damaged.*Delete it"):
        OutputFolder(tmp_path, "prepare")


def test_a_file_for_a_folder(tmp_path):
    fill(tmp_path, "out")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        OutputFolder(tmp_path / "out", "prepare")


@pytest.mark.parametrize(
    ("name", "text", "good"),
    [
        ("a.html", f"<!doctype html><html><head>{PAGE_MARK}</head>", True),
        ("a.html", "<html>my page about vatt_tf</html>", False),
        ("a.json", json.dumps(marked({"task": "retrieval"}), indent=1), True),
        ("a.json", '{"task": "retrieval"}', False),
        ("a.json", "", False),
        ("a.json", "[" + " " * 5000 + JSON_MARK, False),
    ],
)
def test_a_single_file_is_replaced_only_by_its_own_kind(tmp_path, name, text, good):
    fill(tmp_path, name, text=text)
    if good:
        check_replaceable(tmp_path / name, "--out")
    else:
        with pytest.raises(UserError, match=f"--out=.*{name}: exists already and was not written"):
            check_replaceable(tmp_path / name, "--out")
    check_replaceable(tmp_path / "new.json", "--out")
    with pytest.raises(UserError, match="is a folder"):
        check_replaceable(tmp_path, "--out")


def test_a_replaced_folder_hands_on_what_is_not_its_own(tmp_path):
    fill(tmp_path, "best/model.json", "best/tokenizer/words.txt", text="old")
    fill(tmp_path, "best/notes.txt", "best/mine/deep/x")
    fill(tmp_path, "new/model.json", "new/tokenizer/words.txt", text="new")
    replace_folder(tmp_path / "new", tmp_path / "best")
    assert content(tmp_path) == {
        "best/model.json": "new",
        "best/tokenizer/words.txt": "new",
        "best/notes.txt": "yours",
        "best/mine/deep/x": "yours",
    }


def test_a_kill_between_the_renames(tmp_path):
    fill(tmp_path, ".best.old/model.json", text="old")
    fill(tmp_path, ".best.old/notes.txt")
    restore_folder(tmp_path / "best")
    assert content(tmp_path) == {"best/model.json": "old", "best/notes.txt": "yours"}
    # A kill after them: what was not moved yet is moved by the next one.
    (tmp_path / "best").rename(tmp_path / ".best.old")
    fill(tmp_path, "best/model.json", text="new")
    fill(tmp_path, "new/model.json", text="newer")
    replace_folder(tmp_path / "new", tmp_path / "best")
    assert content(tmp_path) == {"best/model.json": "newer", "best/notes.txt": "yours"}
