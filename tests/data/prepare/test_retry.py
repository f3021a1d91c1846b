"""What the operating system did not give is tried again; files that no list knows are named."""

import json

import pytest

from tests.data.media import numbered
from vatt_tf import prepare as command
from vatt_tf.data.prepare.plan import Settings, Shard
from vatt_tf.data.prepare.runners import local, workers
from vatt_tf.errors import UserError
from vatt_tf.search_index import embedding
from vatt_tf.search_index.folder import create_or_resume

SETTINGS = Settings(short_side=32, num_shards=1)


def test_a_folder_that_is_away_for_a_moment(tmp_path, monkeypatch, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        numbered.write(videos / name, 1.0)
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "moving.gif").write_bytes(b"GIF89a")
    make_plan = command.planning.make_plan

    def plan_and_lose(*args, **options):
        plan = make_plan(*args, **options)
        (videos / "b.mp4").rename(tmp_path / "b.mp4")
        return plan

    arguments = [f"--videos={videos}", f"--out={tmp_path / 'out'}", "--tokenizers=", "--jobs=1"]
    arguments += ["--short_side=32", "--num_shards=1", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(command.planning, "make_plan", plan_and_lose)
        assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [(e["file"], e.get("retry", False)) for e in content["quarantine"]] == [
        ("b.mp4", True),
        ("broken.mp4", False),
    ]
    assert "1 file could not be read now: the same command tries it again" in printed
    assert content["warnings"][0]["file"] == "moving.gif"
    assert "prepare --media=image takes it" in content["warnings"][0]["warning"]
    (tmp_path / "b.mp4").rename(videos / "b.mp4")
    assert command.main(arguments) == 0
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert content["splits"]["train"]["records"] == 2
    assert [entry["file"] for entry in content["quarantine"]] == ["broken.mp4"]
    assert "tries" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("report", "killed", "retry"),
    [(("read", "a.mp4", 0.5), False, set()), (("open", "a.mp4", 0.0), True, {"a.mp4"})],
)
def test_a_file_on_which_a_worker_dies_twice(tmp_path, monkeypatch, report, killed, retry):
    shard = Shard("train/a.tfrecord", "train", [], [])
    left = tmp_path / "train" / "a.tfrecord.tmp-77"

    def dies(work, tasks, jobs, on_report, on_crash):
        for _ in range(2):
            left.parent.mkdir(exist_ok=True)
            left.write_bytes(b"half")
            assert on_crash(workers.Crash(0, "signal 9", report, killed))[0] is shard
            assert not left.exists()
        yield 0, {}

    monkeypatch.setattr(workers, "run_tasks", dies)
    list(local.build_shards([shard], SETTINGS, tmp_path, 2, None))
    assert list(shard.skip) == ["a.mp4"] and shard.retry == retry


@pytest.mark.parametrize("report", [None, ("done", "a.mp4", 1.0)])
def test_a_worker_that_dies_between_files(tmp_path, monkeypatch, report):
    shard = Shard("train/a.tfrecord", "train", [], [])

    def dies(work, tasks, jobs, on_report, on_crash):
        for _ in range(9):
            assert on_crash(workers.Crash(0, "signal 9", report, True))[0] is shard
        yield 0, {}

    monkeypatch.setattr(workers, "run_tasks", dies)
    with pytest.raises(UserError, match="train/a.tfrecord: its process died 2 times"):
        list(local.build_shards([shard], SETTINGS, tmp_path, 2, None))
    assert not shard.skip


def test_embed_books_nothing_of_a_file_that_is_away(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    numbered.write(videos / "a.mp4", 1.0)
    (videos / "b.wav").write_bytes(b"RIFF")
    (videos / "c.gif").write_bytes(b"GIF89a")
    found = embedding.find_videos(videos)
    assert [video.name for video in found] == ["a.mp4", "b.wav"]
    assert [entry["file"] for entry in embedding.other_files(videos)] == ["c.gif"]
    (videos / "a.mp4").rename(tmp_path / "a.mp4")
    model = {"kind": "none", "address": "none", "hash": "none"}
    with create_or_resume(tmp_path / "index", model=model, settings={}, spaces={}) as index:
        items = embedding.read_windows(found, None, 1.0, 1.0)
        embedding.embed_windows(index, None, items, batch_size=1, on_progress=lambda item: None)
        index.save_manifest()
        assert list(index.entries) == ["b.wav"]
        first, second = sorted(index.manifest["quarantine"], key=lambda entry: entry["file"])
        assert first["file"] == "a.mp4" and first["retry"] and "retry" not in second
        assert [v.name for v in embedding.waiting_videos(index, found)] == ["a.mp4"]
