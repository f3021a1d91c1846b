"""``vatt_tf.load`` on a tiny random model: files, arrays, strings, spaces, mistakes."""

from __future__ import annotations

import json
import pathlib
import runpy
import shutil
import sys

import av
import numpy as np
import pytest

import vatt_tf
from tests.data.records import SPEC
from tests.evaluation import tiny_run
from vatt_tf import api
from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect import embeddings as embeddings_lib


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_run.save_tiny_model(tmp_path_factory.mktemp("api") / "weights")


@pytest.fixture(scope="module")
def embedder(weights):
    return vatt_tf.load(str(weights), batch_size=3)


def write_video(path, frames, sound=True, rate=10):
    """An mp4 whose frames are 48x32 grey pictures of the given levels."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=rate, bit_rate=2_000_000)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        audio = container.add_stream("aac", rate=48_000) if sound else None
        for level in frames:
            picture = av.VideoFrame.from_ndarray(np.full((32, 48, 3), level, np.uint8), "rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        if audio is not None:
            time = np.arange(48_000 * len(frames) // rate) / 48_000
            tone = (0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            frame.sample_rate = 48_000
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "long.mp4", range(20, 220, 10))
    write_video(folder / "silent.mp4", [200, 150, 100, 50], sound=False)
    return folder


def frames_of(levels, size=(32, 48)):
    return np.stack([np.full((*size, 3), level, np.uint8) for level in levels])


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_shapes_norms_and_properties(embedder):
    assert embedder.spaces == {"va": ("video", "audio"), "vt": ("video", "text")}
    assert embedder.dimensions["vt"] == {"video": 8, "text": 8}
    assert embedder.config.head.kind == "fac" and embedder.clip == SPEC
    assert embedder.tokenizer.kind == "word"
    clip = frames_of(range(4))
    one, many = embedder.embed_video(clip), embedder.embed_video(np.stack([clip] * 5))
    assert one.shape == (8,) and many.shape == (5, 8) and one.dtype == np.float32
    close(np.linalg.norm(many, axis=-1), np.ones(5))
    close(many, np.tile(one, (5, 1)))
    sound = np.sin(np.arange(320) / 9).astype(np.float32)
    assert embedder.embed_audio(sound, sample_rate=800).shape == (12,)
    assert embedder.embed_audio(np.stack([sound, sound]), sample_rate=800).shape == (2, 12)
    assert embedder.embed_text("caption number 1").shape == (8,)
    assert embedder.embed_text(["caption", "number 1"]).shape == (2, 8)


def test_same_as_the_model_itself(embedder):
    clip = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    outputs = embedder.model({"video": clip[None]})
    for space, modality in (("vt", "text"), ("va", "audio")):
        raw = np.asarray(outputs[space]["video"])[0]
        expected = raw / np.linalg.norm(raw)
        close(embedder.embed_video(clip, space=modality), expected)
        close(embedder.embed_video(clip, space=space), expected)
        close(embedder.embed_video(clip, space="all")[space], expected)
    tokens = embedder.tokenizer(["number 2"])
    raw = np.asarray(embedder.model({"text": tokens})["vt"]["text"])[0]
    close(embedder.embed_text("number 2"), raw / np.linalg.norm(raw))


def test_windows_short_clips_and_frame_rate(embedder):
    rng = np.random.default_rng(1)
    clip = rng.integers(0, 256, (10, 16, 16, 3)).astype(np.uint8)
    # Ten frames, windows of four: they start at 0, 3 and 6 and are averaged before the norm.
    raw = np.asarray(
        embedder.model({"video": np.stack([clip[i : i + 4] for i in (0, 3, 6)])})["vt"]["video"]
    )
    mean = raw.mean(axis=0)
    close(embedder.embed_video(clip, windows=3), mean / np.linalg.norm(mean))
    close(embedder.embed_video(clip, windows=1), embedder.embed_video(clip[3:7]))
    # Shorter than a clip: repeated from the start.
    close(embedder.embed_video(clip[:3]), embedder.embed_video(clip[[0, 1, 2, 0]]))
    # Frames at 20 fps: every second one is seen.
    close(embedder.embed_video(clip[:8], frame_rate=20), embedder.embed_video(clip[0:8:2]))
    close(embedder.embed_video(clip, start=0.2, end=0.6), embedder.embed_video(clip[2:6]))


def test_audio_windows_rates_and_integers(embedder):
    time = np.arange(320) / 800
    sound = (0.5 * np.sin(2 * np.pi * 50 * time)).astype(np.float32)
    close(
        embedder.embed_audio(sound[:100], sample_rate=800),
        embedder.embed_audio(np.tile(sound[:100], 4)[:320], sample_rate=800),
    )
    integers = np.round(sound * 32768).astype(np.int16)
    close(
        embedder.embed_audio(integers, sample_rate=800),
        embedder.embed_audio(sound, sample_rate=800),
        1e-2,
    )
    # 48 kHz is the default; the same tone at either rate gives nearly the same embedding.
    fine = (0.5 * np.sin(2 * np.pi * 50 * np.arange(19_200) / 48_000)).astype(np.float32)
    similarity = embedder.similarity(
        embedder.embed_audio(fine), embedder.embed_audio(sound, sample_rate=800)
    )
    assert similarity > 0.95


@pytest.mark.parametrize("stored", ["filtered", "strided", None])
def test_audio_is_resampled_as_in_training(weights, tmp_path, stored):
    """A tone of 600 Hz, which 800 samples a second hold as one of 200 Hz, or not at all."""
    folder = shutil.copytree(weights, tmp_path / "weights")
    description = json.loads((folder / "model.json").read_text())
    assert description["clip"].pop("audio_resampling") == "filtered"
    if stored:
        description["clip"]["audio_resampling"] = stored
    (folder / "model.json").write_text(json.dumps(description))
    embedder = vatt_tf.load(str(folder))
    tone = (0.5 * np.sin(2 * np.pi * 600 * np.arange(640) / 1600)).astype(np.float32)
    kept = np.float32(0) * tone[::2] if stored == "filtered" else tone[::2]
    found = embedder.embed_audio(np.tile(tone, 3), sample_rate=1600, windows=1)
    expected, other = embedder.embed_audio(np.stack([kept, tone[::2] - kept]), sample_rate=800)
    close(found, expected, 1e-3)
    assert np.abs(found - other).max() > 0.1


def test_files(embedder, videos):
    paths = sorted(videos.iterdir())
    both = embedder.embed_video(paths)
    assert both.shape == (2, 8)
    close(both[1], embedder.embed_video(str(paths[1])))
    # The same frames from memory (mpeg4 is lossy, so only nearly).
    assert embedder.similarity(both[0], embedder.embed_video(frames_of(range(20, 220, 10)))) > 0.98
    part = embedder.embed_video(paths[0], start=1.0, end=1.4)
    assert embedder.similarity(part, embedder.embed_video(frames_of(range(120, 160, 10)))) > 0.98
    assert embedder.embed_audio(paths[0]).shape == (12,)
    with pytest.raises(UserError, match="silent.mp4: no audio"):
        embedder.embed_audio(paths[1])
    assert embedder.similarity(both, both).shape == (2, 2)


def test_a_file_is_embedded_as_its_record_is(embedder, videos, tmp_path):
    """Raw file and prepared record, evaluated with the same windows, agree."""
    from tests.data.records import example, jpeg, write_shards
    from vatt_tf.data.input.pipeline import evaluation_dataset

    record = example(images=[jpeg(level, (32, 48)) for level in range(20, 220, 10)])
    folder = write_shards(tmp_path, [record], split="val")
    data = evaluation_dataset(str(folder), SPEC, embedder.tokenizer, batch_size=1, windows=4)
    found = embeddings_lib.embed_dataset(embedder.model, data)
    alone = embedder.embed_video(videos / "long.mp4", windows=4)
    assert embedder.similarity(alone, found.spaces["vt"]["video"][0]) > 0.98


def test_similarity(embedder):
    a, b = embedder.embed_text(["caption", "number 1"]), embedder.embed_text("caption")
    assert embedder.similarity(b, b).shape == ()
    close(embedder.similarity(a, b)[0], 1.0)
    assert embedder.similarity(b, a).shape == (2,) and embedder.similarity(a, a).shape == (2, 2)
    close(embedder.similarity(3 * a, a), embedder.similarity(a, a))
    video = embedder.embed_video(frames_of(range(4)), space="audio")
    with pytest.raises(UserError, match="12 and 8 dimensions"):
        embedder.similarity(video, b)


def test_shared_space(tmp_path):
    folder = tiny_run.save_tiny_model(tmp_path / "shared", kind="shared")
    shared = api.load(str(folder))
    assert shared.spaces == {"vat": ("video", "audio", "text")}
    assert shared.embed_text("caption", space="audio").shape == (10,)


FRAMES = frames_of(range(4))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda e: e.embed_video("absent.mp4"), "absent.mp4: no such file"),
        (lambda e: e.embed_video(FRAMES[0]), r"shape \(32, 48, 3\), expected \[T, H, W, 3\]"),
        (lambda e: e.embed_video(FRAMES / 255.0), "float64, expected uint8"),
        (lambda e: e.embed_video(FRAMES[:0]), "shape"),
        (lambda e: e.embed_video([]), "give files as a path"),
        (lambda e: e.embed_video(FRAMES, windows=0), "windows must be at least 1"),
        (lambda e: e.embed_video(FRAMES, start=2, end=1), "start < end"),
        (lambda e: e.embed_video(FRAMES, start=9), "not before the end of the frames"),
        (lambda e: e.embed_video(FRAMES, frame_rate=0), "frame_rate must be positive"),
        (lambda e: e.embed_video(FRAMES, space="sound"), "expected the modality to compare with"),
        (lambda e: e.embed_text("x", space="audio"), r"space='audio' for text.*\(video\)"),
        (lambda e: e.embed_text([]), "at least one string"),
        (lambda e: e.embed_text(["a", " "]), "string 1 is ' '"),
        (lambda e: e.embed_text([3]), "string 0 is 3"),
        (lambda e: e.embed_text(None), "a string or a list of strings, found None"),
        (lambda e: e.embed_text(b"x"), "a string or a list of strings, found "),
        (lambda e: e.embed_text(7), "a string or a list of strings, found 7"),
        (lambda e: e.embed_video(FRAMES, frame_rate="25"), "frames a second, found '25'"),
        (lambda e: e.embed_video(FRAMES, start="0"), "start is '0', expected seconds"),
        (lambda e: e.embed_video(FRAMES, windows=2.5), "windows is 2.5, expected a whole number"),
        (lambda e: e.embed_video([FRAMES, FRAMES[:3]]), r"different shapes \(\(4, 32, 48, 3\), \("),
        (lambda e: e.embed_audio(np.zeros(900), sample_rate="8000"), "a second, found '8000'"),
        (lambda e: e.embed_audio(np.zeros(900), sample_rate=8000.5), "a second, found 8000.5"),
        (lambda e: e.embed_audio([np.zeros(900), np.zeros(901)]), r"shapes \(\(900,\), \(901,\)\)"),
        (lambda e: e.embed_audio(np.zeros((90, 2))), r"shape \(90, 2\): neither a recording"),
        (lambda e: e.embed_audio(np.zeros((2, 2, 2))), "expected mono"),
        (lambda e: e.embed_audio(np.full(9, np.nan)), "NaN or infinity"),
        (lambda e: e.embed_audio(np.full(9, 9000.0)), "divide int16 values by 32768"),
        (lambda e: e.embed_audio(np.zeros(9, np.int64)), "floats in"),
        (lambda e: e.embed_audio(np.zeros(900), start=5.0), "no sound between"),
    ],
)
def test_mistakes_are_named(embedder, call, message):
    with pytest.raises(UserError, match=message):
        call(embedder)


def test_load_mistakes(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        vatt_tf.load(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        api.LocalEmbedder(SPEC, {}, batch_size=0)


def test_example_script(weights, videos, monkeypatch, capsys):
    script = pathlib.Path(__file__).parent.parent / "examples" / "embed_and_search.py"
    flags = [f"--run_dir={weights}", f"--videos={videos}", "--query=caption number 1"]
    monkeypatch.setattr(sys, "argv", [str(script), *flags])
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    assert "query: caption number 1" in out and "sound of long.mp4" in out
