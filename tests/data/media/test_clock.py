"""One clock: numbered frames against numbered beeps, whatever the time stamps say."""

import itertools

import av
import numpy as np
import pytest

from tests.data.media import numbered
from vatt_tf.data import media
from vatt_tf.data.media.readers import AudioReader
from vatt_tf.data.media.spans import Grid
from vatt_tf.data.media.tracks.clock import end_of
from vatt_tf.data.media.tracks.video import VideoTrack

FPS = 25


def read(path, length=3.0, **options):
    """Reader (closed), and start, end, numbers and beeps of the clips of a file."""
    reader = media.ClipReader(path, frame_rate=FPS, **options)
    clips = [
        (c.start, c.end, numbered.numbers(np.stack(c.frames)), numbered.beeps(c.waveform))
        for c in itertools.islice(reader.clips(Grid(length)), 50)
    ]
    reader.close()
    return reader, clips


def offsets(clips):
    """Seconds by which each beep is later than the first frame of its second."""
    found = []
    for _, _, frames, beeps in clips:
        for at, number in beeps:
            # Parts of a file begin with frame 0 and beep 0, frame 1000 and beep 20.
            first = number * FPS if number < 20 else 1000 + (number - 20) * FPS
            place = np.flatnonzero(frames == first)
            if len(place):
                found.append(at - place[0] / FPS)
    return np.array(found)


def join(folder, name, streams, sound_seconds):
    """Two recordings in one file, each of which begins at its own zero."""
    parts = [folder / f"{number}{name}" for number in (1, 2)]
    numbered.write(parts[0], 4.0, sound_seconds=sound_seconds, **streams)
    numbered.write(parts[1], 4.0, first=(1000, 20), **streams)
    first, second = (part.read_bytes() for part in parts)
    path = folder / name
    path.write_bytes(first + (second[13:] if name == "a.flv" else second))  # without header
    return path


H264 = {"video": "libx264", "audio": "aac"}
MPEG2 = {"video": "mpeg2video", "audio": "mp2"}


@pytest.mark.parametrize(
    ("name", "streams", "sound_seconds"),
    [("a.ts", H264, 2.0), ("a.flv", H264, 5.0), ("whole.flv", H264, 4.0)]
    + [
        pytest.param(name, streams, seconds, marks=pytest.mark.check)
        for name, streams in (("a.ts", H264), ("a.mpg", MPEG2), ("a.flv", H264), ("b.ts", MPEG2))
        for seconds in (4.0, 2.0, 5.0)
    ],
)
def test_joined_parts_stand_one_behind_the_other(tmp_path, name, streams, sound_seconds):
    reader, clips = read(join(tmp_path, name, streams, sound_seconds))
    parts = [(frames < 1000, [number < 20 for _, number in beeps]) for *_, frames, beeps in clips]
    assert all(len({*frames, *heard}) == 1 for frames, heard in parts)  # no clip holds both
    shown = np.concatenate([frames for _, _, frames, _ in clips])
    assert set(shown) >= {*range(99), *range(1000, 1099)}
    assert sum(len(frames) for _, _, frames, _ in clips) <= 203
    heard = [number for *_, beeps in clips for _, number in beeps]
    assert heard == [*range(int(min(4.0, sound_seconds))), *range(20, 24)]
    assert len(offsets(clips)) >= 4 and np.abs(offsets(clips)).max() < 0.023
    assert reader.duration == pytest.approx(max(4.0, sound_seconds) + 4.0, abs=0.1)
    assert any("time stamps jump by -" in note for note in reader.warnings) and not reader.problem


def test_a_span_over_a_jump_keeps_its_longest_part(tmp_path):
    path = join(tmp_path, "a.ts", H264, 4.0)
    spans = [(1.0, 6.0), (1.0, 7.5), (3.9, 5.0), (5.0, 6.0), (7.0, 99.0)]
    found = []
    for clip in media.iter_clips(path, spans, frame_rate=FPS):
        parts = {*(numbered.numbers(clip.frames) < 1000)}
        parts |= {number < 20 for _, number in numbered.beeps(clip.waveform)}
        found.append((clip.span, round(clip.start, 1), round(clip.end, 1), clip.cut, *parts))
    assert sorted(found) == [
        (0, 1.0, 4.0, True, True),
        (1, 4.0, 7.5, True, False),
        (2, 4.0, 5.0, True, False),
        (3, 5.0, 6.0, False, False),
        (4, 7.0, 8.0, False, False),
    ]
    assert len(media.read_clip(path, frame_rate=FPS).frames) == pytest.approx(201, abs=1)
    reader = AudioReader(path, sample_rate=8000)
    sounds = [[clip.start, clip.end] for clip in reader.clips(Grid(3.0))]
    np.testing.assert_allclose(sounds, [[0, 3], [3, 4.02], [4.02, 7.02], [7.02, 8.04]], atol=0.03)
    longest = [[clip.start, clip.end] for clip in AudioReader(path, sample_rate=8000).clips(spans)]
    np.testing.assert_allclose(longest[1], [4.02, 7.5], atol=0.03)


VP8 = {"video": "libvpx", "audio": "libopus"}
SILENT = {"video": "libx264", "audio": None}


@pytest.mark.parametrize(
    ("name", "streams", "jump"),
    [("a.mkv", H264, 3600.0), ("a.ts", H264, 15.0)]
    + [
        pytest.param(name, streams, jump, marks=pytest.mark.check)
        for name, streams in (
            ("a.ts", H264),
            ("a.flv", H264),
            ("a.mkv", H264),
            ("a.mpg", MPEG2),
            ("a.webm", VP8),
            ("b.mkv", SILENT),
        )
        for jump in (15.0, 3600.0, 90_000.0)
    ],
)
def test_a_jump_of_the_clock_is_not_filled(tmp_path, name, streams, jump):
    path = numbered.write(
        tmp_path / name,
        6.0,
        stamp=lambda kind, time: time + (jump if time >= 3.0 else 0.0),
        options={"bf": "0"} if streams["video"] == "libx264" else None,
        **streams,
    )
    reader, clips = read(path)
    # The muxer of MPEG-PS stamps every few frames: those between go on by the old clock.
    assert reader.duration == pytest.approx(6.0, abs=0.8)
    shown = np.concatenate([frames for _, _, frames, _ in clips])
    assert len({*shown}) >= 147 and {*shown} <= {*range(150)} and (np.diff(shown) == 0).sum() <= 20
    assert all(len({*(frames < 75)}) == 1 for _, _, frames, _ in clips)
    if streams["audio"]:
        assert len(offsets(clips)) == 6 and np.abs(offsets(clips)).max() < 0.023
    assert any("time stamps jump by +" in note for note in reader.warnings)
    assert end_of(path, "video") == pytest.approx(6.0, abs=0.8)
    if streams["audio"]:
        assert len(media.read_audio(path)) < 8 * numbered.RATE


def test_clips_begin_with_the_picture(tmp_path):
    """The sound begins 2.5 s earlier; no clip holds it with a picture that stands still."""
    late = {"video": 2.5, "audio": 0.0}
    path = numbered.write(
        tmp_path / "a.mkv", 3.0, sound_seconds=5.5, stamp=lambda kind, time: time + late[kind]
    )
    reader, clips = read(path, 2.0)
    assert clips[0][0] == pytest.approx(2.5, abs=0.1)
    assert all((np.diff(frames) == 0).sum() <= 2 for *_, frames, _ in clips)
    assert any("the picture begins at" in note for note in reader.warnings)
    spans = [(0.0, 1.0), (1.0, 4.0), (3.0, 5.0)]
    found = [(c.span, c.start) for c in media.iter_clips(path, spans, frame_rate=FPS)]
    assert [span for span, _ in found] == [1, 2] and found[0][1] == pytest.approx(2.5, abs=0.1)


def test_a_single_wrong_stamp(tmp_path):
    """Presentation time of one packet, 600 s too late; all frames keep their places."""
    source = numbered.write(tmp_path / "a.mp4", 4.0, audio=None, options={"bf": "0"})
    path = tmp_path / "b.mp4"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                packet.pts += round(600 / packet.time_base) if number == 37 else 0
                packet.stream = stream
                new.mux(packet)
    reader, clips = read(path)
    assert [frames.tolist() for _, _, frames, _ in clips] == [[*range(75)], [*range(75, 100)]]
    assert reader.duration == pytest.approx(4.0, abs=0.05)
    assert any("1 frame with a wrong time" in note for note in reader.warnings)


def test_a_first_stamp_long_before_the_others(tmp_path, monkeypatch):
    """Every seek comes out at the same frame, so that each target is tried once."""
    frames, begun = VideoTrack.frames, []

    def early(self):
        begun.append(self)
        assert len(begun) < 5, "seeks for ever"
        for number, frame in enumerate(frames(self)):
            frame.time -= 0.0 if number else 1e4
            yield frame

    monkeypatch.setattr(VideoTrack, "frames", early)
    _, clips = read(numbered.write(tmp_path / "a.ts", 1.0, audio=None), 2.0)
    assert [len(frames) for _, _, frames, _ in clips] == [FPS]


def test_frames_in_decoding_order(tmp_path):
    """AVI has no presentation times: H.264 with B-frames."""
    path = numbered.write(tmp_path / "a.avi", 4.0, audio="pcm_s16le", options={"bf": "3"})
    reader, clips = read(path)
    assert np.concatenate([c[2] for c in clips]).tolist() == [*range(100)]
    assert np.abs(offsets(clips)).max() < 0.023 and not reader.warnings


@pytest.mark.parametrize(
    "name", ["a.mkv", "a.flv", pytest.param("a.webm", marks=pytest.mark.check)]
)
def test_sound_that_outlasts_the_picture(tmp_path, name):
    streams = VP8 if name == "a.webm" else H264
    path = numbered.write(tmp_path / name, 3.0, sound_seconds=5.0, **streams)
    reader, clips = read(path, 2.0)
    heard = [number for *_, beeps in clips for _, number in beeps]
    assert heard == [0, 1, 2] and not reader.problem and not reader.warnings
    assert end_of(path, "video") == pytest.approx(3.0, abs=0.06)
    assert end_of(path, "audio") == pytest.approx(5.0, abs=0.06)


def test_a_file_that_begins_late_is_not_cut_off(tmp_path):
    reader, clips = read(numbered.write(tmp_path / "a.mkv", 3.0, late=7.0))
    assert reader.length > 9.9 and not reader.problem and not reader.warnings
    assert clips[0][1] == pytest.approx(3.0) and np.abs(offsets(clips)).max() < 0.023


def test_a_late_subtitle_is_no_damage(tmp_path):
    path = numbered.write(tmp_path / "a.mkv", 3.0, subtitle=600.0)
    reader, clips = read(path)
    assert reader.length > 600 and not reader.problem and not reader.warnings
    assert len(clips) == 1 or clips[1][1] < 3.1
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert "cut off or damaged" in read(cut)[0].problem


@pytest.mark.parametrize("off", [0.012, 0.04])
def test_jittering_stamps_do_not_move_the_sound(tmp_path, off):
    """The samples are those of the same packets with even stamps, without a hole."""
    random = np.random.default_rng(0)
    found = []
    for name, jitter in (("even.mkv", 0.0), ("jitter.mkv", off)):
        path = numbered.write(
            tmp_path / name,
            6.0,
            video=None,
            rate=8000,
            stamp=lambda kind, time, most=jitter: time + 0.2 + random.uniform(-most, most),
        )
        sound = media.read_audio(path)
        found.append(sound[np.flatnonzero(sound)[0] :])
    even, jitters = found
    assert len(even) == len(jitters)
    np.testing.assert_array_equal(even, jitters)


def test_a_hole_in_the_sound_stays_one(tmp_path):
    """What comes after 1.5 s without packets is heard in its place; a small gap is made up for."""
    for gap, least in ((1.5, 0.0), (0.07, 2.0)):
        path = numbered.write(
            tmp_path / "a.mkv",
            8.0,
            stamp=lambda kind, time, more=gap: time + more * (kind == "audio" and time > 1.5),
        )
        _, ((_, _, _, beeps),) = read(path, 20.0)
        late = [at - number for at, number in beeps if number > 1 + least]
        np.testing.assert_allclose(late, gap, atol=0.046)


def merged_programmes(folder):
    """A transport stream of two programmes, of two muxers and a table that names both."""
    one = numbered.write(folder / "1.ts", 3.0)
    pids = {"mpegts_start_pid": "512", "mpegts_pmt_start_pid": "4112", "mpegts_service_id": "2"}
    two = numbered.write(folder / "2.ts", 3.0, first=(1000, 20), layout="stereo", container=pids)
    table = bytes.fromhex("00b011 0001c10000 0001f000 0002f010")
    check = 0xFFFFFFFF
    for byte in table:
        check ^= byte << 24
        for _ in range(8):
            check = (check << 1 ^ (0x04C11DB7 if check >> 31 else 0)) & 0xFFFFFFFF
    table = b"\0" + table + check.to_bytes(4, "big")
    packets = [
        [data[at : at + 188] for at in range(0, len(data), 188)]
        for data in (one.read_bytes(), two.read_bytes())
    ]
    pid = [[int.from_bytes(p[1:3], "big") & 0x1FFF for p in part] for part in packets]
    first = [
        p[:4] + table.ljust(184, b"\xff") if n == 0 else p
        for p, n in zip(packets[0], pid[0], strict=True)
        if n != 17
    ]
    second = [p for p, n in zip(packets[1], pid[1], strict=True) if n not in (0, 17)]
    path = folder / "both.ts"
    order = sorted(
        [(i / len(part), p) for part in (first, second) for i, p in enumerate(part)],
        key=lambda item: item[0],
    )
    path.write_bytes(b"".join(p for _, p in order))
    return path


def test_sound_of_the_same_programme(tmp_path):
    path = merged_programmes(tmp_path)
    with av.open(str(path)) as file:
        assert len(file.streams.video) == len(file.streams.audio) == 2
    _, clips = read(path)
    frames = np.concatenate([c[2] for c in clips])
    heard = [number for *_, beeps in clips for _, number in beeps]
    assert (heard == [20, 21, 22]) == (frames.min() >= 1000) and len(heard) == 3
    assert np.abs(offsets(clips)).max() < 0.023
