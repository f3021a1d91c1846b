"""``embed`` and ``search`` from videos to hits, through a server, SavedModels and a run."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from tests.serving import fake_server
from tests.serving.fake_server import unit, video_features
from tests.test_api import frames_of, write_video
from vatt_tf import embed as embed_command
from vatt_tf import search as search_command
from vatt_tf.embed import embed
from vatt_tf.errors import UserError
from vatt_tf.search import clock, search
from vatt_tf.search_index import embedding
from vatt_tf.search_index.folder import open_index
from vatt_tf.serving.client import client as client_lib


@pytest.fixture(name="server")
def make_server():
    yield from fake_server.serve()


@pytest.fixture(name="address")
def make_address(server):
    return f"localhost:{server.port}"


@pytest.fixture(name="source_videos", scope="module")
def make_source_videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    # Bright from 0.4 to 0.8 s; 0.8 s and half a clip long.
    write_video(folder / "flash.mp4", [10] * 4 + [250] * 4 + [10] * 2)
    write_video(folder / "dark.mp4", [5] * 5, sound=False)
    (folder / "sub").mkdir()
    write_video(folder / "sub" / "grey.mp4", [120] * 12)
    (folder / "broken.mp4").write_bytes(b"no video at all " * 30)
    (folder / ".hidden.mp4").write_bytes(b"x")
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(name="videos")
def make_videos(source_videos, tmp_path):
    return shutil.copytree(source_videos, tmp_path / "videos")


@pytest.fixture(name="index")
def make_index(videos, address, tmp_path):
    embed(videos, tmp_path / "index", server=address, quiet=True)
    return tmp_path / "index"


def test_every_window_of_every_video(index):
    opened = open_index(index)
    clips = opened.clips()
    found = [(clips.files[v], *t) for v, t in zip(clips.video, clips.times.tolist(), strict=True)]
    expected = [("dark.mp4", 0.0, 0.4), ("flash.mp4", 0.0, 0.4), ("flash.mp4", 0.4, 0.8)]
    expected += [("flash.mp4", 0.8, 1.0)]  # half a clip at the end counts, a tenth does not
    expected += [("sub/grey.mp4", 0.0, 0.4), ("sub/grey.mp4", 0.4, 0.8), ("sub/grey.mp4", 0.8, 1.2)]
    assert [(f, round(s, 3), round(e, 3)) for f, s, e in found] == expected
    vectors = opened.vectors("vt", clips)
    want = unit(video_features(np.stack([frames_of([v] * 4, (16, 16)) for v in (5, 10, 250)])))
    np.testing.assert_allclose(vectors[:3], want, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert opened.spaces["va"] == {"dim": 3, "partners": ["audio"]}
    (bad,) = opened.manifest["quarantine"]
    assert bad["file"] == "broken.mp4" and "not a readable media file" in bad["reason"]
    assert opened.manifest["settings"]["clip_seconds"] == pytest.approx(0.4)
    assert opened.manifest["model"]["hash"] == "aa" * 32


def test_words_sounds_and_examples_find_clips(index, videos):
    found = search(index, "bright", top=2)
    assert [hit.file for hit in found.hits] == ["flash.mp4", "sub/grey.mp4"]
    best = found.hits[0]
    assert (best.start, best.end) == (0.4, 0.8) and best.score > 0.99
    assert found.space == "vt" and found.clips == 7 and found.method == "exact search"
    copy = shutil.copy(videos / "dark.mp4", videos.parent / "copy.mp4")
    assert search(index, video=copy).hits[0].file == "dark.mp4"
    by_sound = search(index, audio=shutil.copy(videos / "flash.mp4", videos.parent / "sound.mp4"))
    assert by_sound.space == "va"
    assert {hit.file for hit in by_sound.hits} == {"dark.mp4", "flash.mp4", "sub/grey.mp4"}


def test_a_query_file_is_no_hit_of_its_own(index, videos):
    os.symlink(videos / "dark.mp4", videos.parent / "link.mp4")
    for query in (videos / "dark.mp4", videos.parent / "link.mp4"):
        files = {hit.file for hit in search(index, video=query).hits}
        assert files == {"flash.mp4", "sub/grey.mp4"}


def test_a_longer_clip_is_the_mean_of_its_windows(videos, address, tmp_path):
    for name in ("dark.mp4", "broken.mp4", "sub/grey.mp4"):
        (videos / name).unlink()
    out = tmp_path / "long"
    embed(videos, out, server=address, clip_seconds=0.8, stride_seconds=0.2, quiet=True)
    opened = open_index(out)
    clips = opened.clips()
    starts = [0.0, 0.2, 0.4, 0.6]  # 0.8: only 0.2 s are left
    np.testing.assert_allclose(clips.times[:, 0], starts, atol=1e-6)
    parts = unit(video_features(np.stack([frames_of([v] * 4, (16, 16)) for v in (10, 250)])))
    np.testing.assert_allclose(opened.vectors("vt", clips)[0], unit(parts.mean(axis=0)), atol=0.02)
    # Clips that overlap a better one are left out.
    hits = search(out, "bright").hits
    assert len(hits) == 1 and len(search(out, "bright", top=1).hits) == 1


def test_going_on_embeds_only_what_is_new(index, videos, server, address, monkeypatch):
    def again():
        server.seen.clear()
        manifest = embed(videos, index, server=address, quiet=True)
        rows = [r for _, signature, r in server.seen if signature != "describe"]
        return manifest["counts"]["clips"], sum(rows)

    assert again() == (7, 0)
    shutil.copy(videos / "dark.mp4", videos / "more.mp4")
    assert again() == (8, 1)
    write_video(videos / "more.mp4", [90] * 8)  # changed
    assert again() == (9, 2)
    os.rename(videos / "flash.mp4", videos.parent / "flash.mp4")  # gone
    assert again() == (6, 0)
    assert search(index, "bright").hits[0].file == "sub/grey.mp4"
    os.rename(videos.parent / "flash.mp4", videos / "flash.mp4")  # back
    assert again() == (9, 0)
    assert search(index, "bright").hits[0].file == "flash.mp4"


def test_a_stopped_run_goes_on(videos, server, address, tmp_path, monkeypatch):
    out = tmp_path / "stopped"
    original = embedding.read_windows

    def interrupted(*args):
        for item in original(*args):
            if isinstance(item, embedding.Window) and item.video.name == "sub/grey.mp4":
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(embedding, "read_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(videos, out, server=address, batch_size=1, quiet=True)
    done = json.loads((out / "manifest.json").read_text())["counts"]
    assert done["videos"] == 2 and done["clips"] == 4
    monkeypatch.setattr(embedding, "read_windows", original)
    server.seen.clear()
    embed(videos, out, server=address, quiet=True)
    assert sum(rows for _, signature, rows in server.seen if signature != "describe") == 3
    whole = open_index(out)
    embed(videos, tmp_path / "whole", server=address, quiet=True)
    other = open_index(tmp_path / "whole")
    assert whole.clips().files == other.clips().files
    np.testing.assert_array_equal(
        whole.vectors("vt", whole.clips()), other.vectors("vt", other.clips())
    )


def test_a_name_that_is_not_utf8(videos, server, address, tmp_path, capsys):
    folder = tmp_path / "v\udce9"  # the folder has such a name too
    folder.mkdir()
    shutil.copy(videos / "dark.mp4", folder / "caf\udce9.mp4")
    shutil.copy(videos / "broken.mp4", folder / "br\udcff.mp4")
    out, page = tmp_path / "a", tmp_path / "found.html"
    flags = [f"--videos={folder}", f"--out={out}", f"--server={address}"]
    assert embed_command.main(flags) == 0
    assert "not used: br\\xff.mp4: not a readable" in capsys.readouterr().out
    opened = open_index(out)
    assert opened.clips().files == ["caf\udce9.mp4"]
    assert opened.manifest["quarantine"][0]["file"] == "br\udcff.mp4"
    assert b"caf\\udce9.mp4" in (out / "videos.jsonl").read_bytes()
    hit = search(out, "dark").hits[0]
    assert os.path.isfile(os.path.join(opened.manifest["settings"]["videos"], hit.file))
    assert search_command.main([f"--index={out}", "dark", f"--html={page}"]) == 0
    assert "caf\\xe9.mp4  0:00.0" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "caf\\xe9.mp4" in text and text.count("data:image/jpeg;base64,") == 1
    server.seen.clear()
    embed(folder, out, server=address, quiet=True)  # nothing is embedded twice
    assert not [rows for _, signature, rows in server.seen if signature != "describe"]


def test_an_index_with_made_up_names_goes_on(index, videos, address):
    """Earlier indexes hold the escape itself, which is no name of a file."""
    log = index / "videos.jsonl"
    log.write_bytes(log.read_bytes().replace(b"dark.mp4", b"caf\\\\udce9.mp4"))
    assert "caf\\udce9.mp4" in open_index(index).clips().files
    os.rename(videos / "dark.mp4", videos / "caf\udce9.mp4")
    embed(videos, index, server=address, quiet=True)
    files = open_index(index).clips().files
    assert "caf\udce9.mp4" in files and "caf\\udce9.mp4" not in files


def test_words_that_are_not_utf8(index, capsys):
    assert search_command.main([f"--index={index}", "caf\udce9"]) == 2
    error = capsys.readouterr().err
    assert error == "error: the words 'caf\\xe9' are not valid UTF-8; write them in UTF-8\n"


def test_links_are_followed_and_the_index_is_left_out(videos, address, tmp_path):
    os.rename(videos / "sub", tmp_path / "disk2")
    os.symlink(tmp_path / "disk2", videos / "sub")
    os.symlink(videos, tmp_path / "disk2" / "up")  # a loop
    os.symlink(tmp_path / "absent.mp4", videos / "lost.mp4")
    out = videos / "index"
    embed(videos, out, server=address, quiet=True)
    shutil.copy(videos / "dark.mp4", out / "inside.mp4")
    embed(videos, out, server=address, quiet=True)
    opened = open_index(out)
    assert set(opened.clips().files) == {"dark.mp4", "flash.mp4", "sub/grey.mp4"}
    reasons = {entry["file"]: entry["reason"] for entry in opened.manifest["quarantine"]}
    assert set(reasons) == {"broken.mp4", "lost.mp4"} and "No such file" in reasons["lost.mp4"]


def test_odd_names_and_the_home_folder(videos, address, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    odd = tmp_path / "v [1]*"
    os.rename(videos, odd)
    flags = ["--videos=~/v [1]*", "--out=~/i [1]?", f"--server={address}"]
    assert embed_command.main(flags) == 0
    shutil.copy(odd / "dark.mp4", tmp_path / "d [2].mp4")
    found = search("~/i [1]?", video="~/d [2].mp4")
    assert found.hits[0].file == "dark.mp4" and found.videos == str(odd)
    flags = ["--index=~/i [1]?", "--audio=~/v [1]*/flash.mp4", "--html=~/p [1].html"]
    assert search_command.main(flags) == 0
    assert (tmp_path / "p [1].html").is_file()


def test_batches_go_across_videos(videos, server, address, tmp_path):
    embed(videos, tmp_path / "a", server=address, batch_size=4, quiet=True)
    assert [r for _, signature, r in server.seen if signature != "describe"] == [4, 3]


def test_another_model_or_setting_is_refused(index, videos, server, address, tmp_path):
    with pytest.raises(UserError, match="clip_seconds is 0.4 there and 2.0 now"):
        embed(videos, index, server=address, clip_seconds=2.0, quiet=True)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(videos / "dark.mp4", other / "night.mp4")
    with pytest.raises(UserError, match="videos is .*videos there and .*other now, where 0 of its"):
        embed(other, index, server=address, quiet=True)
    server.model_hash, server.version = "bb" * 32, 2
    with pytest.raises(UserError, match="model is aaaaaaaaaaaa .* and bbbbbbbbbbbb"):
        embed(videos, index, server=address, quiet=True)
    with pytest.raises(UserError, match="has the weights bbbbbbbbbbbb.*made with aaaaaaaaaaaa"):
        search(index, "bright")


def test_a_server_with_towers_of_two_models_is_refused(index, server):
    server.hashes = {"text": "cc" * 32}
    with pytest.raises(UserError, match="has the weights cccccccccccc.*made with aaaaaaaaaaaa"):
        search(index, "bright")


def test_clips_whose_last_frame_reaches_into_the_next_do_not_overlap(videos, address, tmp_path):
    embed(videos, tmp_path / "odd", server=address, clip_seconds=0.55, quiet=True)
    clips = open_index(tmp_path / "odd").clips()
    grey = clips.times[clips.video == clips.files.index("sub/grey.mp4")]
    assert grey[0][1] > grey[1][0] + 0.01  # six frames of 0.1 s
    (hit,) = [hit for hit in search(tmp_path / "odd", "bright").hits if "grey" in hit.file]
    assert (hit.start, hit.end) == pytest.approx((0.0, 1.1), abs=0.02)  # of all its clips


def test_a_server_that_changes_its_model_stops_the_job(videos, server, address, tmp_path):
    def replace():
        server.version, server.model_hash, server.on_predict = 2, "bb" * 32, None

    server.on_predict = replace
    with pytest.raises(UserError, match="now has another model .bbbbbbbbbbbb."):
        embed(videos, tmp_path / "a", server=address, batch_size=1, quiet=True)
    assert len(open_index(tmp_path / "a").clips()) <= 1


def test_the_same_through_a_run_savedmodels_and_a_server(
    weights_folder, exported_models, source_videos, tmp_path
):
    from vatt_tf.serving.server.embedded import start_server

    with start_server(exported_models) as server:
        sources = {
            "run_dir": str(weights_folder),
            "models": str(exported_models),
            "server": f"localhost:{server.port}",
        }
        vectors, hits, scored = [], [], []
        for kind, where in sources.items():
            out = tmp_path / kind
            embed(source_videos, out, quiet=True, clip_seconds=1.0, **{kind: where})
            opened = open_index(out)
            vectors.append([opened.vectors(s, opened.clips()) for s in sorted(opened.spaces)])
            # It is the same model, so that any index can be asked through the server.
            scored.append(search(out, "a red circle"))
            hits.append(search(out, "a red circle", server=sources["server"]).hits)
            # Each of them knows the vocabulary.
            found = search(out, "red Zebra, circle -- Quagga!")
            assert found.unknown == ("Zebra", "Quagga") and not found.notes
            with pytest.raises(UserError, match="^not in this model's vocabulary: Zebra; nor does"):
                search(out, "Zebra")
        embed(source_videos, tmp_path / "run_dir", quiet=True, clip_seconds=1.0, server=where)
        by_sound = search(tmp_path / "run_dir", audio=source_videos / "flash.mp4")
    for other in vectors[1:]:
        for a, b in zip(vectors[0], other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert hits[0][0].file == hits[1][0].file == hits[2][0].file
    assert {hit.file for hit in by_sound.hits} == {"dark.mp4", "sub/grey.mp4"}
    # What an evaluation has measured travels from the run to its export and to the server.
    for found in scored:
        assert found.calibration == "20 true and 380 random pairs (tiny/val, step 1)"
        best = found.hits[0]
        # The made-up cosines are evenly spaced from -0.5 to 1, and from -1 to 0.5.
        want = np.clip([(1 - best.score) / 1.5, (0.5 - best.score) / 1.5], 0, 1)
        np.testing.assert_allclose([best.true_higher, best.random_higher], want, atol=1e-3)
    assert by_sound.hits[0].true_higher is None
    assert by_sound.calibration.startswith("not calibrated: queries by audio were not measured")


def test_command_lines(videos, address, tmp_path, capsys):
    out, page = tmp_path / "index", tmp_path / "found.html"
    flags = [f"--videos={videos}", f"--out={out}", f"--server={address}"]
    assert embed_command.main(flags) == 0
    printed = capsys.readouterr().out
    assert "4 videos, 0 of them finished" in printed and "7 clips of 3 videos" in printed
    assert "not used: broken.mp4: not a readable media file" in printed
    (videos / "sub" / "grey.mp4").unlink()
    assert search_command.main([f"--index={out}", "bright <b>", f"--html={page}"]) == 0
    printed = capsys.readouterr().out
    assert "best 5 moments of 7 clips, space vt, exact search" in printed
    assert "  note: videos are not where they were" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("   1 ")]
    assert "  flash.mp4     0:00.4 - 0:00.8  embedding" in line
    assert search_command.main([f"--index={out}", "bright <b>", f"--html={page}", "--quiet"]) == 0
    hits = printed[printed.index("   1 ") : printed.index("\n\nwritten")]
    quiet = capsys.readouterr().out
    assert "note: videos are not where" in quiet and quiet.endswith(f"\n\n{hits}\n")
    assert "best 5 moments" not in quiet and "written" not in quiet
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 4 and "bright &lt;b&gt;" in text
    # The video that is gone is one moment, with the reason beside its frames and its name.
    assert printed.count("cannot be opened") == 1 and "cannot be opened" in text


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--videos=absent", "--out=o", "--run_dir=r"], "--videos=absent: no such folder"),
        (["--videos=.", "--out=o", "--run_dir=r"], "--videos=.: no video file found"),
        (["--videos=.", "--out=o"], "give --run_dir, --models or --server"),
        (["--videos=.", "--out=o", "--run_dir=r", "--models=m"], "--run_dir and --models are"),
        (["--videos=v", "--out=o", "--run_dir=r"], "r: no such folder"),
        (["--videos=v", "--out=o", "--server=localhost:1"], "UNAVAILABLE"),
    ],
)
def test_embed_mistakes(videos, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(client_lib, "FIRST_PAUSE", 0.0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    os.symlink(videos, "v")
    if "--videos=." in flags:
        os.unlink("v")
    assert embed_command.main(flags) == 2
    assert message in capsys.readouterr().err
    assert not os.path.exists("o")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "expected one query.*found nothing"),
        ({"text": "a", "audio": "b"}, "found text and audio"),
        ({"audio": "absent.wav"}, "absent.wav: no such file"),
        ({"text": "a", "run_dir": "r", "server": "s"}, "--run_dir and --server are given"),
    ],
)
def test_search_mistakes(index, arguments, message):
    with pytest.raises(UserError, match=message):
        search(index, **arguments)


def test_an_index_without_that_space(index):
    path = index / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["spaces"]["va"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="cannot be searched by audio"):
        search(index, audio="x.wav")
    manifest["spaces"]["vt"]["partners"] = ["audio"]  # of a model without a text tower
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"by words: .*no text tower.*--video=FILE.*--audio=FILE"):
        search(index, "a ball")


def test_clock():
    assert [clock(s) for s in (0, 9.96, 75.25, 3725)] == ["0:00.0", "0:10.0", "1:15.2", "1:02:05.0"]


def test_a_dry_run_tells_how_much_it_is(videos, address, tmp_path, capsys):
    flags = [f"--videos={videos}", f"--out={tmp_path / 'index'}", f"--server={address}"]
    assert embed_command.main([*flags, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert not (tmp_path / "index").exists()
    assert "files       4 files, " in text and "unusable    1 of the 4 probed: " in text
    assert "broken.mp4" in text and "clips of 0.4 s" in text and "nothing was written" in text
