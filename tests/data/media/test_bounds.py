"""Reading ends, and gives no more than a file holds, whatever its headers and stamps claim."""

import os
import struct
import wave

import numpy as np
import pytest
from PIL import Image

from tests.data.media import numbered
from tests.data.media.test_clock import read
from vatt_tf.data import media
from vatt_tf.data.media.clips import ClipReader
from vatt_tf.data.media.readers import read_image
from vatt_tf.data.media.spans import Grid, MediaClip
from vatt_tf.data.media.windows import Span, video_inputs
from vatt_tf.data.schema import ClipSpec

CLIP = ClipSpec(frames=4, height=16, width=16, frame_rate=5.0, samples=100, sample_rate=1000)


@pytest.fixture(name="lecture", scope="module")
def make_lecture(made_once):
    """100 s with one key frame, a frame a second."""
    return (
        made_once("lecture", lambda folder: (folder.mkdir(), write_lecture(folder / "a.mp4")))
        / "a.mp4"
    )


def write_lecture(path, **options):
    return numbered.write(path, 100.0, fps=1, gop=1000, audio=None, **options)


def test_seeks_that_come_no_nearer(lecture, monkeypatch):
    opened = []
    start = ClipReader._video_from
    monkeypatch.setattr(
        ClipReader, "_video_from", lambda self, at: opened.append(at) or start(self, at)
    )
    spans = [(1.0, 3.0), (46.0, 48.0), (95.0, 97.0), (500.0, 501.0), (9e9, 9e9 + 1)]
    clips = list(media.iter_clips(lecture, spans, frame_rate=1.0, sample_rate=0))
    assert [numbered.numbers(c.frames).tolist() for c in clips] == [[1, 2], [46, 47], [95, 96]]
    assert len(opened) <= 4
    with pytest.raises(media.MediaError, match="no usable frame from 500.00 s"):
        media.read_clip(lecture, 500.0, 501.0)
    (windows,) = video_inputs(lecture, CLIP, Span(windows=4), None).clips
    assert len(list(windows)) == 4


@pytest.mark.check
def test_seeks_find_their_frames_in_every_container(tmp_path):
    for name, video in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx")) + (
        ("a.avi", "mpeg4"),
        ("a.ts", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.flv", "libx264"),
    ):
        fps = 25 if video == "mpeg2video" else 5
        path = numbered.write(tmp_path / name, 80.0, fps, video, None, gop=fps * 4)
        spans = [(40.0, 41.0), (75.0, 76.0)]
        whole = numbered.numbers(media.read_clip(path, frame_rate=fps).frames)
        for clip in media.iter_clips(path, spans, frame_rate=fps, sample_rate=0):
            first = round(clip.start * fps)
            assert numbered.numbers(clip.frames).tolist() == whole[first:][:fps].tolist(), name
            assert abs(whole[first] - first) <= 4 * fps / 5, name  # a file may begin late


def test_a_slide_show_of_a_frame_a_minute(tmp_path):
    for name, audio in (("a.mkv", None), ("b.mp4", "aac")):
        path = numbered.write(
            tmp_path / name,
            4.0,
            1,
            audio=audio,
            rate=8000,
            sound_seconds=240.0,
            options={"bf": "0"},
            stamp=lambda kind, time: time * 60 if kind == "video" else time,
        )
        spans = [(30.0 * k, 30.0 * k + 30.0) for k in range(9)]
        clips = list(media.iter_clips(path, spans, frame_rate=1))
        shown = [numbered.numbers(clip.frames).tolist() for clip in clips]
        assert shown[:6] == [[n] * 30 for n in (0, 0, 1, 1, 2, 2)], name


def test_rates_in_a_header_are_not_believed(tmp_path):
    """A frame every three hours, and one sample a second."""
    path = numbered.write(tmp_path / "a.avi", 4.0, audio=None, video="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 20
    scale, rate = struct.unpack_from("<II", data, at)
    struct.pack_into("<II", data, at, 10_000 * rate, rate)
    path.write_bytes(data)
    reader, clips = read(path)
    assert len(clips) <= 3 and reader.duration < 8.0 and reader.warnings and scale
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(256)) * 200)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 24, 1)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(media.MediaError, match="a sample rate of 1 Hz"):
        media.read_audio(tmp_path / "a.wav")


def test_only_regular_files_that_hold_media(tmp_path):
    numbered.write(tmp_path / "real.mp4", 1.0)
    for text in ("ffconcat version 1.0\nfile real.mp4\nduration 9000\n" * 2,) + (
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nreal.mp4\n#EXT-X-ENDLIST\n",
    ):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(media.MediaError, match="list.mp4: not a readable media file") as found:
            media.probe(tmp_path / "list.mp4")
        assert "\n" not in str(found.value) and len(str(found.value)) < 300
    os.mkfifo(tmp_path / "pipe.mp4")
    for read_it in (media.probe, read_image):
        with pytest.raises(media.MediaError, match="a pipe, a socket or a device"):
            read_it(tmp_path / "pipe.mp4")


def test_huge_images_are_refused_before_they_are_decoded(tmp_path):
    Image.new("1", (10_100, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(media.MediaError, match="10100 x 10000 pixels, at most 100 million"):
        read_image(tmp_path / "huge.png", 256)
    large = Image.new("RGB", (6000, 3000), (10, 200, 30))
    large.paste((200, 10, 30), (0, 0, 3000, 3000))
    large.save(tmp_path / "large.jpg", quality=95)
    found = read_image(tmp_path / "large.jpg", 100)
    assert found.shape == (100, 200, 3)
    np.testing.assert_allclose(found[50, 20], (200, 10, 30), atol=4)
    np.testing.assert_allclose(found[50, 180], (10, 200, 30), atol=4)


def test_clips_between_jumps_are_no_more_than_there_is_room_for():
    """A jump every 1.5 s: of 30 s, 20 pieces; 30 s have room for three clips, and one more."""
    grid = Grid(10.0)
    pieces = [MediaClip([], None, 1.5 * k, 1.5 * k + 1.5, k, 8.5, cut=True) for k in range(20)]
    assert sum(grid.keeps(piece, 1.0) for piece in pieces) == 4
    assert grid.left_out == 24.0
    two = [(0, 10, False), (10, 12, True), (12, 22, False), (22, 24, False)]  # a jump at 12 s
    clips = [
        MediaClip([], None, start, end, k, 10.0 - (end - start), cut=cut)
        for k, (start, end, cut) in enumerate(two)
    ]
    grid = Grid(10.0)
    assert all(grid.keeps(clip, 1.0) for clip in clips) and grid.left_out == 0
    short = MediaClip([], None, 0.0, 0.5, 0, 9.5)
    assert Grid(10.0).keeps(short, 1.0)  # all there is
    short.cut = True
    assert not Grid(10.0).keeps(short, 1.0)
