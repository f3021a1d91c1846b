"""Captions for videos without: made once, kept, attached like side-car files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys

import pytest

from tests.data.test_prepare import context, digests, make_video, records
from vatt_tf import prepare as command
from vatt_tf.data.media.captions import Caption, read_captions
from vatt_tf.data.media.tracks.container import MediaError
from vatt_tf.data.prepare.manifest import summary
from vatt_tf.data.prepare.plan import PlanError, Settings
from vatt_tf.data.transcripts.store import Transcript, transcript_name
from vatt_tf.errors import UserError

SMALL = Settings(short_side=32, clip_seconds=1.0, num_shards=2)
HEARD = Transcript(
    [
        Caption(0.1, 0.3, "a", "en", 0.5),
        Caption(0.3, 0.6, "red", "en", 0.7),
        Caption(0.6, 0.9, "ball.", "en", 0.9),
        Caption(1.2, 1.4, "Again", "en", 0.8),
    ],
    "en",
    0.98,
)


class Stored:
    """A recogniser with stored outputs by file name; it knows what it was asked."""

    def __init__(self, outputs, name="stored", log=None):
        self.outputs, self.name, self.log = outputs, name, log
        self.asked = []

    def __call__(self, path):
        name = os.path.basename(path)
        self.asked.append(name)
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{name}\n")
        output = self.outputs.get(name, Transcript(note="no speech"))
        if isinstance(output, BaseException):
            raise output
        if output == "crash":
            os.kill(os.getpid(), 9)
        return output


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos: one with captions, one that is talked in, two without a word."""
    folder = tmp_path_factory.mktemp("spoken")
    make_video(folder / "captioned.mp4")
    (folder / "captioned.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nits own caption\n")
    make_video(folder / "sub" / "talk.mp4", level=200)
    make_video(folder / "silent.mp4", sound=False, level=50)
    make_video(folder / "music.mp4", level=150)
    return folder


def texts(out):
    """{(file, start in s): captions}"""
    return {
        (context(r, "video/filename")[0].decode(), context(r, "clip/start/timestamp")[0] / 1e6): [
            text.decode() for text in context(r, "caption/string")
        ]
        for r in records(out)
    }


def test_videos_without_captions_get_transcripts_once(videos, tmp_path):
    recogniser = Stored({"talk.mp4": HEARD})
    content = command.prepare(videos, tmp_path, SMALL, transcribe=recogniser)
    assert recogniser.asked == ["music.mp4", "silent.mp4", "talk.mp4"]  # not captioned.mp4
    assert content["transcripts"] == {
        "model": "stored",
        "videos": 1,
        "languages": {"en": 1},
        "without_speech": ["music.mp4", "silent.mp4"],
    }
    assert not content["quarantine"] and not content["warnings"]
    told = list(summary(content, "my data"))
    assert "transcripts: 1 video by stored (en); 2 without speech" in told
    assert "  vatt_tf.embed makes them searchable with '--transcripts=my data/transcripts'" in told
    found = texts(tmp_path)
    assert found["sub/talk.mp4", 0.0] == ["a red ball.", "Again"]
    assert found["captioned.mp4", 0.0] == ["its own caption"]
    assert found["music.mp4", 0.0] == found["silent.mp4", 0.0] == []
    spoken = next(r for r in records(tmp_path) if context(r, "video/filename") == [b"sub/talk.mp4"])
    assert context(spoken, "caption/language") == [b"en", b"en"]
    assert context(spoken, "caption/confidence") == pytest.approx([0.7, 0.8])
    own = next(r for r in records(tmp_path) if context(r, "video/filename") == [b"captioned.mp4"])
    assert "caption/language" not in own.context.feature
    assert "red" in (tmp_path / "tokenizer" / "words.txt").read_text().split()
    # Again, with the flag and without: nothing is heard anew, and the shards stay as they are.
    before = digests(tmp_path)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.tfrecord")}
    again = Stored({})
    for transcribe in (again, None):
        assert command.prepare(videos, tmp_path, SMALL, transcribe=transcribe) == content
    assert not again.asked and digests(tmp_path) == before
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.tfrecord")}


def test_transcript_is_kept_with_words_and_model(videos, tmp_path):
    command.prepare(videos, tmp_path, SMALL, transcribe=Stored({"talk.mp4": HEARD}), tokenizers=())
    kept = json.loads((tmp_path / "transcripts/sub/talk.mp4.json").read_text())
    state = (videos / "sub" / "talk.mp4").stat()
    assert kept["model"] == "stored" and kept["language"] == "en"
    assert kept["language_confidence"] == 0.98
    assert kept["video"] == {"size": state.st_size, "changed": state.st_mtime_ns}
    assert [segment["text"] for segment in kept["segments"]] == ["a red ball.", "Again"]
    assert kept["segments"][0]["words"][1] == {
        "start": 0.3,
        "end": 0.6,
        "word": "red",
        "confidence": 0.7,
    }
    assert json.loads((tmp_path / "transcripts/music.mp4.json").read_text())["note"] == "no speech"
    listed = json.loads((tmp_path / ".vatt_tf/prepare.json").read_text())["files"]
    assert {"transcripts/", "transcripts/sub/talk.mp4.json"} <= set(listed)
    captions, _ = read_captions(tmp_path / "transcripts/sub/talk.mp4.json")
    assert captions[0] == Caption(0.1, 0.9, "a red ball.") and captions[0].language == "en"


def test_changed_video_or_other_model_is_heard_again(tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out"
    make_video(folder / "talk.mp4")
    make_video(folder / "music.mp4", level=3)
    command.prepare(folder, out, SMALL, transcribe=Stored({"talk.mp4": HEARD}), tokenizers=())
    state = (folder / "talk.mp4").stat()
    os.utime(folder / "talk.mp4", ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    again = Stored({})
    content = command.prepare(folder, out, SMALL, transcribe=again, tokenizers=())
    assert again.asked == ["talk.mp4"]
    assert content["transcripts"]["without_speech"] == ["music.mp4", "talk.mp4"]
    assert texts(out)["talk.mp4", 0.0] == []
    notes = []
    other = Stored({"talk.mp4": HEARD}, name="other")
    command.prepare(folder, out, SMALL, transcribe=other, tokenizers=(), say=notes.append)
    assert other.asked == ["music.mp4", "talk.mp4"]
    assert notes == ["transcripts of stored are made anew by other"]
    assert texts(out)["talk.mp4", 0.0] == ["a red ball.", "Again"]
    # Captions of its own take the place of the transcript.
    (folder / "talk.vtt").write_text("WEBVTT\n\n00:00.100 --> 00:00.900\nwritten by hand\n")
    content = command.prepare(folder, out, SMALL, transcribe=other, tokenizers=())
    assert texts(out)["talk.mp4", 0.0] == ["written by hand"]
    assert content["transcripts"]["videos"] == 0


def test_file_that_cannot_be_heard_is_a_warning(videos, tmp_path):
    path = videos / "music.mp4"
    recogniser = Stored({"talk.mp4": HEARD, "music.mp4": MediaError(f"{path}: no sound decodes")})
    content = command.prepare(videos, tmp_path, SMALL, transcribe=recogniser, tokenizers=())
    assert content["warnings"] == [
        {"file": "music.mp4", "warning": "not transcribed: no sound decodes"}
    ]
    assert content["transcripts"]["without_speech"] == ["silent.mp4"]
    assert not (tmp_path / "transcripts/music.mp4.json").exists()


def test_interrupted_job_keeps_finished_transcripts(videos, tmp_path):
    first = Stored({"talk.mp4": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        command.prepare(videos, tmp_path, SMALL, transcribe=first, tokenizers=())
    assert sorted(p.name for p in (tmp_path / "transcripts").rglob("*.json")) == [
        "music.mp4.json",
        "silent.mp4.json",
    ]
    second = Stored({"talk.mp4": HEARD})
    command.prepare(videos, tmp_path, SMALL, transcribe=second, tokenizers=())
    assert second.asked == ["talk.mp4"] and texts(tmp_path)["sub/talk.mp4", 0.0]


def test_crashing_decoder_costs_its_file_only(videos, tmp_path):
    recogniser = Stored({"talk.mp4": HEARD, "music.mp4": "crash"}, log=str(tmp_path / "log"))
    content = command.prepare(
        videos, tmp_path / "out", SMALL, transcribe=recogniser, tokenizers=(), jobs=2
    )
    (warning,) = content["warnings"]
    assert warning["file"] == "music.mp4" and "SIGKILL" in warning["warning"]
    assert content["transcripts"]["videos"] == 1
    asked = (tmp_path / "log").read_text().split()
    assert asked == ["music.mp4", "silent.mp4", "talk.mp4"]  # in a worker


def test_failing_recogniser_ends_the_job(videos, tmp_path):
    broken = Stored({"music.mp4": UserError("the model fails")})
    with pytest.raises(UserError, match="the model fails"):
        command.prepare(videos, tmp_path, SMALL, transcribe=broken)


def test_files_of_others_are_not_replaced(videos, tmp_path):
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "music.mp4.json").write_text("mine")
    recogniser = Stored({})
    with pytest.raises(PlanError, match="holds transcripts/"):
        command.prepare(videos, tmp_path, SMALL, transcribe=recogniser)
    assert not recogniser.asked and not (tmp_path / "manifest.json").exists()
    command.prepare(videos, tmp_path, SMALL, tokenizers=())  # without it nothing of that is read
    assert (tmp_path / "transcripts" / "music.mp4.json").read_text() == "mine"


def test_replace_with_other_settings_keeps_what_was_heard(videos, tmp_path):
    command.prepare(videos, tmp_path, SMALL, transcribe=Stored({"talk.mp4": HEARD}), tokenizers=())
    other, again = Settings(short_side=16, clip_seconds=1.0, num_shards=2), Stored({})
    command.prepare(videos, tmp_path, other, transcribe=again, tokenizers=(), replace=True)
    assert not again.asked and texts(tmp_path)["sub/talk.mp4", 0.0]
    command.prepare(videos, tmp_path, SMALL, tokenizers=(), replace=True)
    assert not (tmp_path / "transcripts").exists()


def test_names_stay_inside_the_folder():
    assert transcript_name("sub/a.mp4") == "transcripts/sub/a.mp4.json"
    long = "a" * 240 + ".mp4"
    names = [transcript_name(n) for n in ("/data/a.mp4", "../a.mp4", "a/../b.mp4", "C:/a", long)]
    assert len(set(names)) == 5
    for name in names:
        folder, file = name.split("/")
        assert folder == "transcripts" and len(file) < 100


def test_images_have_no_sound(tmp_path):
    with pytest.raises(PlanError, match="images have no sound"):
        command.prepare(tmp_path, tmp_path / "o", Settings(media="image"), transcribe=Stored({}))


def test_without_the_extra_one_line_names_it(tmp_path, videos, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "faster_whisper" else find(n)
    )
    flags = [f"--videos={videos}", f"--out={tmp_path / 'out'}", "--transcribe=tiny"]
    assert command.main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pip install 'vatt_tf[transcribe]'" in error
    assert not (tmp_path / "out").exists()
