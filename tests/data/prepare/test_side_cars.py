"""Caption files beside videos through the whole of ``prepare``: the video is kept, and told why."""

import os

import pytest

from tests.data.test_prepare import SMALL, context, make_video, records
from vatt_tf import prepare as command
from vatt_tf.data.prepare.plan import Settings


def srt(*spans):
    return "".join(
        f"{n}\n00:00:{s:06.3f} --> 00:00:{e:06.3f}\nw{n}\n\n" for n, (s, e) in enumerate(spans)
    )


def test_side_cars_that_cannot_be_used(tmp_path):
    folder = tmp_path / "videos"
    video = make_video(folder / "kept.mp4", 1.0)
    bad = {
        "list.json": "[1, 2, 3]",
        "half.json": '[{"start": 0, "end": 1, "text": "\\ud83d"}]',
        "late.srt": "1\n9999999999:00:01,000 --> 9999999999:00:02,000\nx\n",
        "huge.align": "1e300 2e300 word\n",
    }
    for name, content in bad.items():
        (folder / name).write_text(content)
    os.mkfifo(folder / "pipe.srt")
    (folder / "gone.vtt").symlink_to(tmp_path / "nowhere")
    (folder / "told.txt").write_text("what is said")
    stems = [name.split(".")[0] for name in (*bad, "pipe.", "gone.", "told.")]
    for stem in stems:
        (folder / f"{stem}.mp4").write_bytes(video.read_bytes() + stem.encode())
    content = command.prepare(folder, tmp_path / "out", SMALL, tokenizers=())
    train = content["splits"]["train"]
    assert (train["records"], train["with_captions"]) == (len(stems) + 1, 0)
    reasons = {entry["file"]: entry["reason"] for entry in content["quarantine"]}
    assert set(reasons) == {f"{stem}.mp4" for stem in stems if stem != "told"}
    assert all(reason.startswith("captions not used: ") for reason in reasons.values())
    assert "is a pipe or a device" in reasons["pipe.mp4"] and "No such file" in reasons["gone.mp4"]
    assert [(w["file"], w["warning"]) for w in content["warnings"]] == [
        ("told.mp4", "not read as captions: told.txt; expected .srt, .vtt, .json or .align")
    ]


@pytest.mark.parametrize("cut", ["fixed", "captions"])
def test_thousands_of_captions_at_a_time(tmp_path, cut):
    folder = tmp_path / "videos"
    make_video(folder / "a.mp4", 2.0)
    (folder / "a.srt").write_text(srt(*[(n / 1000, 2.0) for n in range(300)] * 10))
    settings = Settings(short_side=32, clip_seconds=1.0, num_shards=1, cut=cut)
    content = command.prepare(folder, tmp_path / "out", settings, tokenizers=())
    warnings = " ".join(entry["warning"] for entry in content["warnings"])
    found = records(tmp_path / "out")
    assert len(found) == (2 if cut == "fixed" else 32)
    assert all(500 <= len(context(example, "caption/string")) <= 1000 for example in found)
    assert f"{len(found)} clips with too many or too long captions to store" in warnings
    assert ("268 captions without a clip of their own" in warnings) == (cut == "captions")


def test_a_clip_around_a_caption_without_an_end(tmp_path):
    folder = tmp_path / "videos"
    make_video(folder / "a.mp4", 3.0)
    (folder / "a.json").write_text('[{"timestamp": [1.0, null], "text": "to the end"}]')
    settings = Settings(short_side=32, clip_seconds=1.0, num_shards=1, cut="captions")
    command.prepare(folder, tmp_path / "out", settings, tokenizers=())
    (example,) = records(tmp_path / "out")
    times = [context(example, f"clip/{name}/timestamp")[0] for name in ("start", "end")]
    assert times == pytest.approx([1e6, 3e6], abs=1e5)


def test_many_captions_that_are_too_long_are_counted(tmp_path):
    folder = tmp_path / "videos"
    make_video(folder / "a.mp4", 2.0)
    (folder / "a.srt").write_text(srt(*[(n / 100, 50.0 + n / 100) for n in range(60)], (0.5, 1.5)))
    settings = Settings(
        short_side=32, clip_seconds=1.0, max_clip_seconds=10.0, num_shards=1, cut="captions"
    )
    content = command.prepare(folder, tmp_path / "out", settings, tokenizers=())
    assert content["splits"]["train"]["records"] == 1
    reasons = [entry["reason"] for entry in content["quarantine"]]
    assert len(reasons) == 4 and reasons.count("57 more captions are as long") == 1
