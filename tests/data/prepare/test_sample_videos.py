"""The sample set: composition, captions, sound, the same bytes every time."""

import collections
import hashlib
import itertools

import numpy as np
import pytest

from vatt_tf import prepare as command
from vatt_tf.data import media
from vatt_tf.data.media.captions import read_captions
from vatt_tf.data.prepare import sample_videos
from vatt_tf.data.prepare.sample_videos import COLOURS, MOTIONS, SHAPES, sample_plan


def test_held_out_combinations_are_new_but_their_pairs_are_not():
    clips = sample_plan()
    train = {(c.colour, c.shape, c.motion) for c in clips if c.split == "train"}
    val = [(c.colour, c.shape, c.motion) for c in clips if c.split == "val"]
    assert sum(c.split == "train" for c in clips) >= 450
    assert len(val) == len(set(val)) >= 224
    assert not train & set(val)
    for a, b in itertools.combinations(range(3), 2):
        assert {(v[a], v[b]) for v in val} <= {(t[a], t[b]) for t in train}
    for position in range(3):  # no attribute is rarer than another
        assert len(set(collections.Counter(t[position] for t in train).values())) == 1
    assert len({clip.name for clip in clips}) == len(clips)


def test_environment_makes_the_set_smaller(monkeypatch):
    everything = sample_plan()
    monkeypatch.setenv(sample_videos.CLIPS_VARIABLE, "96")
    few = sample_plan()
    assert few == everything[:96] and sample_videos.sample_table().count(".mp4") == 96
    assert {c.colour for c in few} == {"red"}  # all of it: every shape and motion, 64 and 32 clips
    assert collections.Counter(c.split for c in few) == {"train": 64, "val": 32}
    monkeypatch.setenv(sample_videos.CLIPS_VARIABLE, "")
    assert sample_plan() == everything


@pytest.mark.parametrize("count", ["15", "769", "-20", "many", "20.0"])
def test_wrong_size_of_the_set(count, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(sample_videos.CLIPS_VARIABLE, count)
    assert command.main(["--sample", f"--out={tmp_path / 'out'}"]) == 2
    expected = f"VATT_TF_SAMPLE_CLIPS is {count!r}, expected a whole number from 16 to 768"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_clip_is_what_its_name_says(tmp_path):
    clips = [c for c in sample_plan() if (c.colour, c.shape, c.motion) == ("red", "square", "left")]
    (tmp_path / clips[0].split).mkdir()
    path = sample_videos.write_clip(clips[0], tmp_path)
    clip = media.read_clip(path)
    assert clip.frames.shape == (32, 96, 96, 3)
    assert clip.waveform.shape == (153_600,)
    assert 0.3 < np.abs(clip.waveform).max() < 0.99
    red = clip.frames[..., 0].astype(int) - clip.frames[..., 1:].max(-1) > 80
    centres = [np.flatnonzero(frame.any(0)).mean() for frame in red]
    assert centres[0] > 60 and centres[-1] < 36
    assert np.all(np.diff(centres) <= 0.5)


@pytest.mark.parametrize("suffix", [".srt", ".json"])
def test_captions_name_all_three_and_have_times(tmp_path, suffix):
    clip = sample_plan()[0 if suffix == ".srt" else 1]
    (tmp_path / clip.split).mkdir()
    path = sample_videos.write_clip(clip, tmp_path)
    captions, warnings = read_captions(path.with_suffix(suffix))
    assert len(captions) == 2 and not warnings
    for caption in captions:
        assert clip.colour in caption.text and clip.shape in caption.text
        assert MOTIONS[clip.motion] in caption.text
        assert len(caption.text.split()) <= 16
    assert captions[0].end < captions[1].start < captions[1].end < 3.2


def test_sound_tells_the_attributes():
    """The strongest tone of each register names colour and shape without a mistake."""
    for clip in sample_plan()[::37]:
        sound = sample_videos.make_sound(clip, np.random.default_rng(clip.number))
        power = np.abs(np.fft.rfft(sound))
        hertz = np.fft.rfftfreq(len(sound), 1 / sample_videos.SAMPLE_RATE)

        def peak(low, high, power=power, hertz=hertz):
            inside = (hertz > low) & (hertz < high)
            return hertz[inside][power[inside].argmax()]

        colour = round(np.log2(peak(250, 1350) / 300) * 7 / 2)
        shape = round(np.log2(peak(1400, 3400) / 1500) * 7 / 1.1)
        assert list(COLOURS)[colour] == clip.colour
        assert SHAPES[shape] == clip.shape


def test_every_shape_and_motion_can_be_seen():
    drawn = {}
    for shape, motion in itertools.product(SHAPES, MOTIONS):
        clip = sample_videos.SampleClip(0, "train", "white", shape, motion)
        frames = sample_videos.draw_frames(clip, np.random.default_rng(0))
        bright = frames.min(-1) > 150
        assert bright.mean((1, 2)).max() > 0.03, (shape, motion)
        drawn[shape, motion] = bright
    for a, b in itertools.combinations(SHAPES, 2):
        assert (drawn[a, "left"] != drawn[b, "left"]).mean() > 0.01, (a, b)
    for a, b in itertools.combinations(MOTIONS, 2):
        assert (drawn["circle", a] != drawn["circle", b]).mean() > 0.02, (a, b)


def test_same_bytes_twice_and_existing_clips_are_kept(tmp_path, monkeypatch):
    few = sample_plan()[:6]
    monkeypatch.setattr(sample_videos, "sample_plan", lambda: few)
    for name in ("one", "two"):
        sample_videos.make_sample_videos(tmp_path / name)

    def digests(name):
        return {
            path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }

    assert digests("one") == digests("two")
    assert len(digests("one")) == 6 * 2 + 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.mp4")}
    missing = next(iter(before))
    missing.unlink()
    sample_videos.make_sample_videos(tmp_path / "one")
    assert digests("one") == digests("two")
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 1


def test_sample_flag_makes_videos_and_shards(tmp_path, monkeypatch):
    few = sample_plan()[:8]
    monkeypatch.setattr(sample_videos, "sample_plan", lambda: few)
    assert command.main(["--sample", f"--out={tmp_path}", "--jobs=1", "--quiet"]) == 0
    found = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert found == ["clips", "manifest.json", "tokenizer", "train", "val", "videos"]
