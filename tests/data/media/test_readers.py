"""Images and sound alone: odd kinds, short and damaged files, from the file to the record."""

import io
import wave

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.data.test_prepare import context, make_video, records
from vatt_tf import prepare as command
from vatt_tf.data.media.readers import AudioReader, read_image
from vatt_tf.data.media.tracks.container import MediaError
from vatt_tf.data.prepare.plan import PlanError, Settings
from vatt_tf.errors import UserError

IMAGES = Settings(media="image", short_side=16, num_shards=1)
SOUNDS = Settings(media="audio", sample_rate=8000, num_shards=1, clip_seconds=1.0)


def write_wav(path, seconds, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) * 16_000
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(tone.astype("<i2").tobytes())
    return path


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_odd_images(tmp_path):
    red, size = (200, 30, 30), (12, 8)
    image = Image.new("RGB", size, red)
    image.paste((30, 30, 200), (0, 0, 6, 8))  # blue on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it a quarter clockwise
    turned = read_image(saved(tmp_path / "turned.jpg", image, exif=exif, quality=100))
    assert turned.shape == (12, 8, 3)
    assert turned[0, 4, 2] > 150 and turned[-1, 4, 0] > 150  # blue is on top
    clear = Image.new("RGBA", size, (*red, 0))
    assert (read_image(saved(tmp_path / "clear.png", clear)) == 255).all()
    palette = saved(tmp_path / "palette.png", image.quantize(4))
    np.testing.assert_allclose(read_image(palette)[4, 10], red, atol=3)
    hidden = image.quantize(4)
    hidden.info["transparency"] = hidden.getpixel((10, 4))
    hidden_path = saved(tmp_path / "hidden.gif", hidden, transparency=hidden.getpixel((10, 4)))
    assert (read_image(hidden_path)[4, 10] == 255).all()
    cmyk = saved(tmp_path / "cmyk.jpg", image.convert("CMYK"), quality=100)
    np.testing.assert_allclose(read_image(cmyk)[4, 10], red, atol=12)
    deep = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert (read_image(saved(tmp_path / "deep.png", deep)) == 128).all()
    dot = Image.new("L", (1, 1), 77)
    assert read_image(saved(tmp_path / "dot.png", dot), 16).tolist() == [[[77] * 3]]
    assert read_image(saved(tmp_path / "big.webp", image.resize((60, 40))), 16).shape == (16, 24, 3)


def test_images_that_are_none(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for ending in ("jpg", "png", "gif"):
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, {"jpg": "jpeg"}.get(ending, ending))
        (tmp_path / f"cut.{ending}").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.bmp").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        words = "is empty" if path.name == "empty.bmp" else "not a readable image"
        with pytest.raises(MediaError, match=words):
            read_image(path)
    with pytest.raises(MediaError, match="cannot be opened"):
        read_image(tmp_path / "none.png")


def test_images_to_records(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    saved(folder / "a.png", Image.new("RGB", (32, 20), (90, 90, 90)))
    saved(folder / "b.JPEG", Image.new("RGB", (1, 1)), format="jpeg")
    (folder / "c.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "talk.mp4").write_bytes(b"no image file")
    (tmp_path / "m.csv").write_text(
        "path,label,caption,start\na.png,grey,a grey wall,\nb.JPEG,black,,\nb.JPEG,dot,,\n"
        "c.jpg,,,\na.png,,,1.5\n"
    )
    content = command.prepare(folder, tmp_path / "out", IMAGES, manifest=tmp_path / "m.csv")
    assert content["splits"]["train"]["records"] == 2
    reasons = {(entry["file"], entry["reason"][:20]) for entry in content["quarantine"]}
    assert reasons == {("c.jpg", "not a readable image"), ("a.png", "an image has no time")}
    found = {context(e, "video/filename")[0]: e for e in records(tmp_path / "out")}
    wall, dot = found[b"a.png"], found[b"b.JPEG"]
    (frame,) = wall.feature_lists.feature_list["image/encoded"].feature
    pixels = tf.io.decode_jpeg(frame.bytes_list.value[0]).numpy()
    assert pixels.shape == (16, 26, 3) and abs(int(pixels.mean()) - 90) <= 2
    assert context(wall, "caption/string") == [b"a grey wall"]
    assert context(dot, "clip/label/text") == [b"black", b"dot"]
    assert "WAVEFORM/feature/floats" not in wall.feature_lists.feature_list


def test_sounds_to_records(tmp_path):
    folder = tmp_path / "sounds"
    write_wav(folder / "short.wav", 0.3)
    write_wav(folder / "long.wav", 2.5, rate=44_100)
    make_video(folder / "video.mp4", 1.0)
    make_video(folder / "silent.mp4", 1.0, sound=False)
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.ogg").write_text("no sound")
    (folder / "none.wav").write_bytes((folder / "short.wav").read_bytes()[:44])
    content = command.prepare(folder, tmp_path / "out", SOUNDS)
    reasons = {entry["file"]: entry["reason"] for entry in content["quarantine"]}
    assert reasons["silent.mp4"].startswith("no audio stream")
    assert reasons["empty.mp3"] == "the file is empty (0 bytes)"
    assert reasons["text.ogg"].startswith("not a readable media file")
    assert reasons["none.wav"].startswith(("no sound that decodes", "not a readable"))
    assert len(reasons) == 4
    clips = {}
    for record in records(tmp_path / "out"):
        (sound,) = record.feature_lists.feature_list["WAVEFORM/feature/floats"].feature
        assert not record.feature_lists.feature_list["image/encoded"].feature
        name, start = context(record, "video/filename")[0], context(record, "clip/start/timestamp")
        clips[name.decode(), start[0] / 1e6] = np.array(sound.float_list.value)
    sizes = {key: len(values) for key, values in clips.items()}
    assert sizes.pop(("video.mp4", 0.0)) in range(7900, 8001)
    # The rest of 0.5 s is shorter than min_clip_seconds; 0.3 s are all there is.
    assert sizes == {("short.wav", 0.0): 2400, ("long.wav", 0.0): 8000, ("long.wav", 1.0): 8000}
    assert 0.4 < np.abs(clips["long.wav", 1.0]).max() < 0.52
    assert command.prepare(folder, tmp_path / "out", SOUNDS) == content


def test_spans_of_a_sound(tmp_path):
    path = write_wav(tmp_path / "a.wav", 3.0)
    reader = AudioReader(path, sample_rate=8000)
    clips = list(reader.clips([(0.5, 1.0), (0.75, 1.25), (2.5, None), (9.0, 10.0)]))
    reader.close()
    assert [(c.start, c.end, c.span, c.missing) for c in clips] == [
        (0.5, 1.0, 0, 0.0),
        (0.75, 1.25, 1, 0.0),
        (2.5, 3.0, 2, 0.0),
    ]
    np.testing.assert_array_equal(clips[0].waveform[2000:], clips[1].waveform[:2000])
    assert reader.at_end and reader.duration == 3.0 and not reader.problem
    # Memory holds one clip, whatever the length of the file.
    reader = AudioReader(write_wav(tmp_path / "long.wav", 60.0), sample_rate=8000)
    for _ in reader.clips((k * 1.0, k + 1.0) for k in range(60)):
        assert sum(len(block) for _, block in reader._track.blocks) < 3 * 8000
    reader.close()


def test_sound_where_frames_are_wanted(tmp_path):
    write_wav(tmp_path / "videos" / "a.wav", 0.3)
    with pytest.raises(UserError, match="a.wav: no video stream, audio only.*--media=audio takes"):
        command.prepare(tmp_path / "videos", tmp_path / "out", Settings())
    with pytest.raises(PlanError, match="no image file found.*--media=video and --media=audio"):
        command.prepare(tmp_path / "videos", tmp_path / "out", IMAGES)
    with pytest.raises(PlanError, match="--media is 'text', expected video or audio or image"):
        Settings(media="text")
    with pytest.raises(PlanError, match="--sample_rate is 0"):
        Settings(media="audio", sample_rate=0)
