"""One file has one name: links, '..', absolute paths, backslashes; folders that are left out."""

import os
import unicodedata

import pytest

from vatt_tf import prepare as command
from vatt_tf.data.lists.manifest import read_rows
from vatt_tf.data.media.scan import scan
from vatt_tf.data.prepare.plan import PlanError, Settings
from vatt_tf.data.prepare.planning import make_plan

SRT = "1\n00:00:00,000 --> 00:00:00,900\nthe number one\n"


@pytest.fixture
def videos(tmp_path):
    """Two videos with captions in a folder and one in a sub-folder; they need not decode."""
    folder = tmp_path / "data" / "videos"
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        path.with_suffix(".srt").write_text(SRT)
    return folder


def plan_of(videos, lines, tmp_path, **arguments):
    (tmp_path / "m.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = arguments.pop("settings", Settings())
    return make_plan(videos, settings, read_rows(tmp_path / "m.csv"), **arguments)


def found_in(plan):
    """(file, split, name of the captions) of every video."""
    return sorted(
        (video.file, shard.split, video.captions and os.path.basename(video.captions))
        for shard in plan.shards
        for video in shard.videos
    )


BOTH = [("a.mp4", "train", "a.srt"), ("sub/c.mp4", "val", "c.srt")]


@pytest.mark.parametrize(
    "root", ["{data}/videos", "{data}/link", "{data}/x/../videos", "../videos"]
)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.mp4", "sub/c.mp4"),
        ("./a.mp4", "sub//c.mp4"),
        ("sub/../a.mp4", "sub/../sub/c.mp4"),
        ("{data}/videos/a.mp4", "{data}/videos/sub/c.mp4"),
        ("{data}/link/a.mp4", "{data}/x/../link/sub/c.mp4"),
        ("../videos/a.mp4", "../link/sub/c.mp4"),
        (".\\a.mp4", "sub\\c.mp4"),
        ("a.mp4", "back/back/sub/c.mp4"),
        ("a.mp4", "other/c.mp4"),
    ],
)
def test_every_way_to_a_file(videos, tmp_path, monkeypatch, root, first, second):
    data = videos.parent
    (data / "x").mkdir()
    (data / "link").symlink_to(videos)
    (videos / "back").symlink_to(videos)  # leads back up
    (videos / "other").symlink_to("sub")
    monkeypatch.chdir(data / "x")
    lines = ["path,split", f"{first},train", f"{second},val"]
    plan = plan_of(root.format(data=data), [line.format(data=data) for line in lines], tmp_path)
    assert plan.quarantine == [] and found_in(plan) == BOTH
    assert all(os.path.isfile(video.path) for shard in plan.shards for video in shard.videos)


@pytest.mark.parametrize(
    "other", ["{root}/a.mp4", "x.mp4", "y/a.mp4", "hard.mp4", "sub\\..\\a.mp4"]
)
def test_a_file_under_two_names(videos, tmp_path, other):
    (videos / "x.mp4").symlink_to("a.mp4")
    (videos / "y").symlink_to(videos)
    os.link(videos / "a.mp4", videos / "hard.mp4")
    other = other.format(root=videos)
    lines = ["path,label,split", "a.mp4,one,train", f"{other},two,val"]
    with pytest.raises(PlanError, match=r"1 clip in two splits: a.mp4 \(in the list also"):
        plan_of(videos, lines, tmp_path)
    plan = plan_of(videos, [lines[0], lines[1], lines[2].replace("val", "train")], tmp_path)
    (video,) = (video for shard in plan.shards for video in shard.videos)
    assert (video.file, video.rows) == ("a.mp4", [(None, None, ["one", "two"], [])])
    (warning,) = plan.warnings
    assert warning["file"] == "a.mp4" and "is the same file as" in warning["warning"]
    assert warning["warning"].startswith(("m.csv line 2: ", "m.csv line 3: "))


def test_a_folder_with_two_names_of_a_file(videos):
    (videos / "Z.mp4").symlink_to("a.mp4")
    os.link(videos / "b.mp4", videos / "sub" / "hard.mp4")
    plan = make_plan(videos, Settings(val_fraction=0.5))
    assert [name for name, *_ in found_in(plan)] == ["a.mp4", "b.mp4", "sub/c.mp4"]
    notes = {entry["file"]: entry["warning"] for entry in plan.warnings}
    assert notes["b.mp4"] == "the same file is also called sub/hard.mp4; it is used once"
    assert set(notes) == {"a.mp4", "b.mp4"} and plan.videos == 3


def test_links_out_of_the_folder(videos, tmp_path):
    store = tmp_path / "store"
    (store / "set").mkdir(parents=True)
    for name in ("123", "set/d.mp4"):
        (store / name).write_bytes(b"x")
    (store / "set" / "d.srt").write_text(SRT)
    (videos / "e.mp4").symlink_to(store / "123")
    (videos / "f.mp4").symlink_to(store / "123")
    (videos / "train").symlink_to(store / "set")
    lines = ["path,split", "e.mp4,train", f"{store}/set/d.mp4,val"]
    assert found_in(plan_of(videos, lines, tmp_path)) == [
        ("e.mp4", "train", None),
        ("train/d.mp4", "val", "d.srt"),
    ]
    with pytest.raises(PlanError, match=r"two splits: e.mp4 \(in the list also f.mp4\)"):
        plan_of(videos, [*lines, "f.mp4,val"], tmp_path)
    with pytest.raises(PlanError, match="two splits: train/d.mp4"):
        plan_of(videos, [*lines, "train/d.mp4,train"], tmp_path)
    # A file that no link leads to keeps the name that the list gives it.
    (tmp_path / "far.mp4").write_bytes(b"x")
    for name, kept in (
        (f"{tmp_path}/far.mp4", f"{tmp_path}/far.mp4"),
        ("../../far.mp4", "../../far.mp4"),
        ("train/../../far.mp4", "../../far.mp4"),  # of the store, not of the videos
    ):
        plan = plan_of(videos, ["path", name], tmp_path)
        (video,) = (video for shard in plan.shards for video in shard.videos)
        assert video.file == kept and os.path.samefile(video.path, tmp_path / "far.mp4")


def test_literal_names_come_first(videos, tmp_path):
    (videos / "sub\\c.mp4").write_bytes(b"y")
    (videos / unicodedata.normalize("NFD", "é.mp4")).write_bytes(b"z")
    plan = plan_of(videos, ["path", "sub\\c.mp4", "é.mp4", "sub\\none.mp4"], tmp_path)
    names = [name for name, *_ in found_in(plan)]
    assert names == [unicodedata.normalize("NFD", "é.mp4"), "sub\\c.mp4"]
    (missing,) = plan.quarantine
    assert missing["file"] == "sub\\none.mp4" and missing["reason"].startswith("no such file")


def test_a_broken_link_and_a_folder(videos, tmp_path):
    (videos / "x.mp4").symlink_to("none.mp4")
    plan = plan_of(videos, ["path", "x.mp4", "a.mp4/c.mp4", "sub/..", "b.mp4"], tmp_path)
    reasons = {entry["file"]: entry["reason"] for entry in plan.quarantine}
    assert reasons["x.mp4"].startswith("no such file")
    assert reasons["a.mp4/c.mp4"].startswith("Not a directory")
    assert reasons["sub/.."].startswith("is a folder")
    assert [name for name, *_ in found_in(plan)] == ["b.mp4"]


def test_folders_are_resolved_once(videos, tmp_path, monkeypatch):
    lines = ["path,start,end"]
    for number in range(200):
        (videos / "sub" / f"{number}.mp4").write_bytes(b"x")
        lines.append(f"{videos}/sub/{number}.mp4,0,1")
    real, calls = os.path.realpath, []
    monkeypatch.setattr(os.path, "realpath", lambda path: calls.append(path) or real(path))
    assert plan_of(videos, lines, tmp_path).videos == 200
    assert len(calls) < 20


def test_system_folders_are_left_out(videos, tmp_path):
    folders = ("$RECYCLE.BIN", "System Volume Information", "@eaDir", "#recycle", "lost+found")
    for folder in (*folders, "__MACOSX", "@EADIR", ".hidden"):
        (videos / "sub" / folder / "deep").mkdir(parents=True, exist_ok=True)
        (videos / "sub" / folder / "deep" / "x.mp4").write_bytes(b"x")
    assert scan(videos, (".mp4",), [])[0] == ["a.mp4", "b.mp4", "sub/c.mp4"]
    # A list may name a file there.
    plan = plan_of(videos, ["path", "sub/@eaDir/deep/x.mp4"], tmp_path)
    assert found_in(plan) == [("sub/@eaDir/deep/x.mp4", "train", None)]


def test_folders_to_leave_out(videos, tmp_path):
    out = videos / "out"
    (out / "clips").mkdir(parents=True)
    (out / "clips" / "x.mp4").write_bytes(b"x")
    (out / "clips" / "x.srt").write_text(SRT)
    (videos / "way").symlink_to(out / "clips")
    (tmp_path / "link").symlink_to(out)
    every = ["a.mp4", "b.mp4", "out/clips/x.mp4", "sub/c.mp4"]
    assert scan(videos, (".mp4",), [])[0] == every
    for given in (out, f"{videos}/sub/../out", tmp_path / "link"):
        names, captions = scan(videos, (".mp4",), [], [given])
        assert names == ["a.mp4", "b.mp4", "sub/c.mp4"] and not any("x" in c for c in captions)
        plan = make_plan(videos, Settings(), leave_out=[given])
        assert [name for name, *_ in found_in(plan)] == names
    # A name that only begins alike is another folder.
    assert scan(videos, (".mp4",), [], [videos / "ou"])[0] == every
    # The videos may lie in a folder to leave out; links from there into the rest are not followed.
    (out / "clips" / "up").symlink_to(out)
    (out / "other").mkdir()
    (out / "other" / "y.mp4").write_bytes(b"y")
    assert scan(out / "clips", (".mp4",), [], [out])[0] == ["x.mp4"]
    assert scan(out / "clips", (".mp4",), [])[0] == ["up/other/y.mp4", "x.mp4"]
    plan = plan_of(videos, ["path", "out/clips/x.mp4"], tmp_path, leave_out=[out])
    assert [name for name, *_ in found_in(plan)] == ["out/clips/x.mp4"]


def test_columns_reach_the_plan(videos, tmp_path):
    plan = plan_of(videos, ["Split,path,LABEL", "train,a.mp4,x"], tmp_path)
    assert plan.columns == ("path", "label", "split")
    assert make_plan(videos, Settings()).columns == ()


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [
        (
            ["path,split", "a.mp4,"],
            {"settings": Settings(val_fraction=0.5)},
            ["--val_fraction has no"],
        ),
        (["path,start,end", "a.mp4,0,1"], {"settings": Settings(cut="whole")}, ["--cut has no"]),
        (
            ["path,start,end", "a.mp4,0,1"],
            {"settings": Settings(min_clip_seconds=2)},
            ["--min_clip_seconds has no effect"],
        ),
        (["path,start,end", "a.mp4,0,1", "b.mp4,,"], {"settings": Settings(cut="whole")}, []),
        (
            ["path,caption", "a.mp4,x"],
            {"settings": Settings(language="de"), "captions_dir": "."},
            ["--language has no effect: it is de", "--captions_dir has no effect"],
        ),
        (["path,caption", "a.mp4,x", "b.mp4,"], {"settings": Settings(language="de")}, []),
        (["path,start,end,caption", "a.mp4,0,1,x"], {}, []),
    ],
)
def test_settings_without_effect(videos, tmp_path, lines, arguments, said):
    warnings = plan_of(videos, lines, tmp_path, **arguments).warnings
    assert [entry["file"] for entry in warnings] == ["m.csv"] * len(said)
    for entry, part in zip(warnings, said, strict=True):
        assert part in entry["warning"]


def test_a_share_of_a_list_without_splits_is_refused(videos, tmp_path):
    with pytest.raises(PlanError, match=r"--val_fraction=0\.5: .*m\.csv has no column split"):
        plan_of(videos, ["path,label", "a.mp4,x"], tmp_path, settings=Settings(val_fraction=0.5))


def test_flag_without_effect_is_printed(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(2):
        Image.new("L", (4, 4), number).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "m.csv").write_text("path,label,split\n0.png,Dog,\n1.png,dog,\n")
    flags = (
        f"--videos={tmp_path}/images --out={tmp_path}/out --media=image --jobs=1 --quiet".split()
    )
    assert command.main([*flags, "--val_fraction=0.5", f"--manifest={tmp_path}/m.csv"]) == 0
    printed = capsys.readouterr().out
    assert (
        "warnings: 2 (in " in printed and "\n  --val_fraction has no effect: it is 0.5" in printed
    )
