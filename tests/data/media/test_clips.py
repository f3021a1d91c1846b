"""Decoding: time axis, picture and sound together, rotation, damage, seeking, memory."""

import csv
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from vatt_tf.data import media
from vatt_tf.data.prepare.sample_videos import write_video
from vatt_tf.errors import UserError

RATE = 25


def grey(values, height=32, width=48):
    """Frames of one brightness each, uint8 [T, H, W, 3]."""
    frames = np.empty((len(values), height, width, 3), np.uint8)
    frames[:] = np.asarray(values)[:, None, None, None]
    return frames


def encode(path, frames, sound=None, codecs=("libx264", "aac"), rate=48_000, ticks=None, skip=()):
    """Encodes a file with chosen codecs, frame times (in 1/25 s) and audio gaps (seconds)."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codecs[0], RATE, options={"g": "10"})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio = None
        if sound is not None:
            audio = container.add_stream(codecs[1], rate, layout="mono")
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            resampler = av.AudioResampler(
                format=audio.codec_context.format, layout="mono", rate=rate, frame_size=1024
            )
            for at in range(0, len(sound), 1024):
                if any(low <= at / rate < high for low, high in skip):
                    continue
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[None, at : at + 1024]), format="flt", layout="mono"
                )
                block.sample_rate, block.pts = rate, at
                if skip:
                    container.mux(audio.encode(block))
                    continue
                for piece in resampler.resample(block):
                    container.mux(audio.encode(piece))
            if not skip:
                for piece in resampler.resample(None):
                    container.mux(audio.encode(piece))
            container.mux(audio.encode(None))


def flashes_and_beeps(seconds, times, rate=48_000):
    """Black frames with a white one, and silence with a 1 kHz beep of 40 ms, at the times."""
    values = np.zeros(seconds * RATE)
    sound = np.zeros(seconds * rate, np.float32)
    for time in times:
        values[round(time * RATE)] = 255
        first = round(time * rate)
        tone = np.sin(2 * np.pi * 1000 * np.arange(round(0.04 * rate)) / rate)
        sound[first : first + len(tone)] = 0.8 * tone
    return grey(values), sound


def onsets(clip, rate):
    """Times in a clip at which it flashes and at which it beeps."""
    bright = clip.frames.mean((1, 2, 3)) > 100
    flashes = np.flatnonzero(bright & ~np.r_[False, bright[:-1]]) / rate
    loud = np.abs(clip.waveform) > 0.3
    starts = np.flatnonzero(loud & ~np.r_[False, loud[:-1]]) / 48_000
    beeps = [
        time for index, time in enumerate(starts) if index == 0 or time - starts[index - 1] > 0.1
    ]
    return flashes, np.array(beeps)


@pytest.mark.parametrize(
    ("name", "codecs", "rate"),
    [
        ("a.mp4", ("libx264", "aac"), 48_000),
        ("a.mov", ("mpeg4", "aac"), 44_100),
        ("a.mkv", ("libx264", "ac3"), 44_100),
        ("a.webm", ("libvpx", "libopus"), 48_000),
        ("a.avi", ("mpeg4", "libmp3lame"), 44_100),
        ("a.mpg", ("mpeg1video", "mp2"), 44_100),
        ("a.ts", ("libx264", "aac"), 48_000),
    ],
)
def test_picture_and_sound_stay_together(tmp_path, name, codecs, rate):
    times = (0.4, 1.0, 2.2, 3.6)
    frames, sound = flashes_and_beeps(5, times, rate)
    encode(tmp_path / name, frames, sound, codecs, rate)
    clip = media.read_clip(tmp_path / name, frame_rate=RATE)
    flashes, beeps = onsets(clip, RATE)
    assert len(flashes) == len(beeps) == len(times)
    np.testing.assert_allclose(beeps, flashes, atol=0.5 / RATE)
    # Some containers begin with an encoder delay, which is part of the file.
    np.testing.assert_allclose(flashes, times, atol=1.01 / RATE)
    # The same, cut from the middle: the sound must not slip with the clip's start.
    part = media.read_clip(tmp_path / name, 0.8, 2.8, frame_rate=RATE)
    flashes, beeps = onsets(part, RATE)
    np.testing.assert_allclose(flashes, (0.2, 1.4), atol=1.01 / RATE)
    np.testing.assert_allclose(beeps, flashes, atol=0.75 / RATE)


def test_gap_in_the_sound_is_silence(tmp_path):
    frames, sound = flashes_and_beeps(5, (0.4, 3.6))
    sound += 0.01
    encode(tmp_path / "a.mkv", frames, sound, ("libx264", "pcm_f32le"), skip=[(1.0, 3.0)])
    clip = media.read_clip(tmp_path / "a.mkv", frame_rate=RATE)
    flashes, beeps = onsets(clip, RATE)
    np.testing.assert_allclose(beeps, flashes, atol=0.5 / RATE)
    np.testing.assert_allclose(clip.waveform[60_000:140_000], 0.0, atol=1e-4)
    np.testing.assert_allclose(clip.waveform[30_000:40_000], 0.01, atol=1e-3)


def test_frame_nearest_to_the_sample_time(tmp_path):
    levels = np.arange(50) * 5
    write_video(tmp_path / "a.mp4", grey(levels), None, frame_rate=RATE)
    clip = media.read_clip(tmp_path / "a.mp4", 0.5, 1.5, frame_rate=10.0)
    wanted = np.rint((0.5 + np.arange(10) / 10) * RATE - 1e-6).astype(int)
    found = np.rint(clip.frames.mean((1, 2, 3)) / 5).astype(int)
    assert np.abs(found - wanted).max() <= 1  # the codec may shift a level by a step
    assert clip.waveform is None
    assert (clip.start, clip.end) == (0.5, 1.5)


def test_slide_show_keeps_a_picture_until_the_next(tmp_path):
    encode(tmp_path / "a.mkv", grey([20, 200, 90]), ticks=[0, 50, 100])  # at 0, 2 and 4 s
    clip = media.read_clip(tmp_path / "a.mkv", 0.0, 4.0, frame_rate=10.0)
    bright = clip.frames.mean((1, 2, 3)) > 110
    assert not bright[:20].any()  # not before it is shown
    assert bright[20:40].all()


def test_rotation_is_applied(tmp_path):
    frames = grey(np.zeros(10), 32, 64)
    frames[:, :, :32] = 255  # bright on the left
    write_video(tmp_path / "a.mp4", frames, None, frame_rate=RATE)
    data = (tmp_path / "a.mp4").read_bytes()
    one, wide = (1 << 16).to_bytes(4, "big"), (1 << 30).to_bytes(4, "big")
    none, minus = bytes(4), (-(1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    identity = one + none * 3 + one + none * 3 + wide
    quarter = none + one + none + minus + none * 4 + wide  # 90 degrees clockwise
    at = data.index(identity, data.index(b"tkhd"))
    (tmp_path / "turned.mp4").write_bytes(data[:at] + quarter + data[at + 36 :])
    info = media.probe(tmp_path / "turned.mp4")
    assert (info.width, info.height, info.rotation) == (32, 64, 270)
    clip = media.read_clip(tmp_path / "turned.mp4")
    assert clip.frames.shape[1:] == (64, 32, 3)
    assert clip.frames[0, :24].min() > 200  # what was left is on top
    assert clip.frames[0, -24:].max() < 60


@pytest.mark.parametrize(("turns", "rotation"), [(1, -90), (2, 180), (3, 90)])
def test_pixels_are_those_of_the_picture_stored_upright(tmp_path, turns, rotation):
    """Colours as well, which swscale interpolates less finely in a row than in a column."""
    rng = np.random.default_rng(0)
    planes = [rng.integers(16, 235, size, np.uint8) for size in ((48, 80), (24, 40), (24, 40))]
    for name, count, degrees in (("upright.mp4", 0, 0), ("turned.mp4", turns, rotation)):
        turned = [np.rot90(plane, count) for plane in planes]
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
            stream.height, stream.width = turned[0].shape
            stream.pix_fmt = "yuv420p"
            if degrees:
                stream.set_display_rotation(degrees)
            flat = np.concatenate([plane.ravel() for plane in turned])
            image = flat.reshape(stream.height * 3 // 2, stream.width)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="yuv420p")):
                container.mux(packet)
            container.mux(stream.encode())
    upright, found = (
        media.read_clip(tmp_path / name, short_side=24).frames[0].astype(int)
        for name in ("upright.mp4", "turned.mp4")
    )
    assert media.probe(tmp_path / "turned.mp4").rotation == rotation % 360
    np.testing.assert_allclose(found, upright, atol=1)
    assert upright.std() > 20


def test_scaling_is_never_up_and_keeps_the_aspect(tmp_path):
    write_video(tmp_path / "a.mp4", grey(np.zeros(5), 96, 160), None, frame_rate=RATE)
    assert media.read_clip(tmp_path / "a.mp4", short_side=48).frames.shape == (2, 48, 80, 3)
    assert media.read_clip(tmp_path / "a.mp4", short_side=500).frames.shape == (2, 96, 160, 3)


def test_seeking_gives_the_same_clip(tmp_path):
    random = np.random.default_rng(0)
    levels = random.integers(0, 50, 70 * RATE) * 5
    sound = random.normal(0, 0.1, 70 * 8000).astype(np.float32)
    write_video(tmp_path / "a.mp4", grey(levels, 16, 16), sound, frame_rate=RATE, sample_rate=8000)
    spans = [(40.0, 42.0), (65.0, 66.0)]
    sought = list(media.iter_clips(tmp_path / "a.mp4", spans))
    plain = list(media.iter_clips(tmp_path / "a.mp4", [(0.0, 0.1), (20.0, 20.1), *spans]))[2:]
    for a, b in zip(sought, plain, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
        error = np.abs(a.waveform - b.waveform)
        assert error.max() < 0.05  # the codec's state differs a little after a seek
        assert np.corrcoef(a.waveform, b.waveform)[0, 1] > 0.999


def test_overlapping_spans_and_memory_of_one_clip(tmp_path):
    sound = np.zeros(40 * 8000, np.float32)
    frames = grey(np.arange(40 * RATE) % 250, 16, 16)
    write_video(tmp_path / "a.mp4", frames, sound, frame_rate=RATE, sample_rate=8000)
    reader = media.ClipReader(tmp_path / "a.mp4")
    held = []
    for clip in reader.clips((2.0 * k, 2.0 * k + 3.0) for k in range(10**9)):
        assert len(clip.frames) == (30 if clip.span < 19 else 20)
        held.append(sum(len(block) for _, block in reader._audio.blocks) / 48_000)
    reader.close()
    assert len(held) == 20
    assert max(held) < 6.0  # seconds of sound in memory, of 40
    assert reader.duration == pytest.approx(40.0, abs=0.05)
    assert reader.problem == ""


def test_sound_that_ends_early_is_masked(tmp_path):
    frames, sound = flashes_and_beeps(6, (0.4,))
    encode(tmp_path / "a.mp4", frames, sound[: 2 * 48_000])
    first, second = media.iter_clips(tmp_path / "a.mp4", [(0.0, 3.0), (3.0, 6.0)])
    assert first.waveform.shape == (144_000,)
    assert np.abs(first.waveform[110_000:]).max() == 0.0
    assert second.waveform is None


def test_read_audio(tmp_path):
    time = np.arange(2 * 16_000) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    encode(tmp_path / "a.mkv", grey(np.zeros(50)), tone, ("libx264", "pcm_f32le"), 16_000)
    found = media.read_audio(tmp_path / "a.mkv")
    assert found.dtype == np.float32
    assert len(found) == pytest.approx(96_000, abs=50)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000)
    error = found[5000:90_000] - wanted[5000:90_000]
    assert np.sqrt(np.mean(error**2)) < 0.005


def make_bad_files(folder):
    """Broken files and what their message must say."""
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    sound = np.zeros(48_000, np.float32)
    with av.open(str(folder / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", 48_000, layout="mono")
        for at in range(0, 47_000, 1024):
            block = av.AudioFrame.from_ndarray(
                sound[None, at : at + 1024].copy(), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = 48_000, at
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    write_video(folder / "whole.mp4", grey(np.arange(100)), None, frame_rate=RATE)
    data = (folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) // 2])  # its index was at the end
    at = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    (folder / "zeros.mp4").write_bytes(data[:at] + bytes(end - at) + data[end:])
    return {
        "empty.mp4": "empty (0 bytes)",
        "text.mp4": "not a readable media file",
        "audio.mp4": "no video stream, audio only",
        "cut.mp4": "moov atom not found",
        "zeros.mp4": "no frame that decodes",
        "missing.mp4": "No such file",
    }


def test_bad_files_say_why(tmp_path):
    for name, words in make_bad_files(tmp_path).items():
        with pytest.raises(media.MediaError) as caught:
            media.read_clip(tmp_path / name)
        assert words in str(caught.value)
        assert name in str(caught.value)
        assert isinstance(caught.value, UserError)


def test_span_outside_the_video(tmp_path):
    write_video(tmp_path / "a.mp4", grey(np.zeros(25)), None, frame_rate=RATE)
    with pytest.raises(media.MediaError, match="no usable frame from 9.00 s"):
        media.read_clip(tmp_path / "a.mp4", 9.0)
    with pytest.raises(media.MediaError, match="0 <= start < end"):
        media.read_clip(tmp_path / "a.mp4", 2.0, 1.0)
    with pytest.raises(media.MediaError, match="no audio stream"):
        media.read_audio(tmp_path / "a.mp4")


def test_file_that_breaks_midway_keeps_its_good_clips(tmp_path):
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (250, 32, 48, 3)).astype(np.uint8)
    encode(tmp_path / "a.mkv", frames)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    reader = media.ClipReader(tmp_path / "cut.mkv")
    clips = list(reader.clips((2.0 * k, 2.0 * k + 2.0) for k in range(99)))
    reader.close()
    assert [len(clip.frames) for clip in clips[:2]] == [20, 20]
    assert 4.0 < reader.duration < 8.0
    assert "10.0" in reader.problem
    assert f"{reader.duration:.2f} s" in reader.problem


def test_hole_in_the_middle_is_left_out(tmp_path):
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (250, 32, 48, 3)).astype(np.uint8)
    write_video(tmp_path / "a.mp4", frames, None, frame_rate=RATE)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [
            (p.pos, p.size, float(p.pts * p.time_base)) for p in container.demux(video=0) if p.size
        ]
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    for position, size, time in packets:
        if 4.2 <= time < 5.6:
            data[position : position + size] = bytes(size)
    (tmp_path / "hole.mp4").write_bytes(data)
    reader = media.ClipReader(tmp_path / "hole.mp4")
    clips = list(reader.clips((2.0 * k, 2.0 * k + 2.0) for k in range(5)))
    reader.close()
    assert [bool(clip.damage) for clip in clips] == [False, False, True, False, False]
    assert "damaged from 4." in clips[2].damage
    assert any("damaged video packet" in note for note in reader.warnings)


def test_facts_of_public_test_files(shared_dir):
    folder = shared_dir / "data" / "clips"
    with open(folder / "manifest.csv", newline="") as file:
        facts = {row["clip"]: row for row in csv.DictReader(file)}
    for name, fact in facts.items():
        info = media.probe(folder / "files" / name)
        videos = int(fact["n_video"])
        assert info.has_video == bool(videos), name
        assert info.has_audio == bool(int(fact["n_audio"])), name
        if videos == 1:  # with several streams FFmpeg's ``best`` one is taken
            assert info.frame_rate == pytest.approx(float(fact["fps"]), rel=1e-3), name
            assert info.height == int(fact["height"]), name
            assert (info.rotation - int(fact["rotation"] or 0)) % 360 == 0, name
        if info.has_audio and videos < 2:
            assert info.sample_rate == int(fact["audio_rate"]), name
            assert info.channels == int(fact["audio_channels"]), name
        if not info.has_video:
            continue
        reader = media.ClipReader(folder / "files" / name, sample_rate=0, short_side=16)
        count = sum(
            len(clip.frames) for clip in reader.clips((k * 1.0, k + 1.0) for k in range(99))
        )
        reader.close()
        if videos == 1:
            assert reader.duration == pytest.approx(float(fact["duration_s"]), abs=0.1), name
            assert count == pytest.approx(float(fact["duration_s"]) * 10, abs=1.5), name


def test_no_tensorflow_is_imported():
    code = (
        "import sys, vatt_tf.data.media.clips, vatt_tf.data.media.captions, vatt_tf.prepare; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
