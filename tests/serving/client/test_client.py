"""The client against a server that answers like exported models."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.serving import fake_server
from tests.serving.fake_server import audio_features, text_features, unit, video_features
from tests.test_api import frames_of, write_video
from vatt_tf.errors import UserError
from vatt_tf.serving.client import client as client_lib
from vatt_tf.serving.client import command as client_command
from vatt_tf.serving.client.calls import Classification, RequestError
from vatt_tf.serving.client.client import AsyncClient, Client
from vatt_tf.serving.client.protocol import Reply, Request

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
RNG = np.random.default_rng(0)


@pytest.fixture(name="server")
def make_server():
    yield from fake_server.serve()


@pytest.fixture(name="client")
def make_client(server):
    with Client(f"localhost:{server.port}", batch_size=3) as client:
        yield client


@pytest.fixture(name="videos", scope="module")
def make_videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "bright.mp4", range(150, 250, 10))
    write_video(folder / "dark.mp4", [40, 30, 20, 10], sound=False)
    return folder


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(client_lib, "FIRST_PAUSE", 0.0)


def close(a, b, tolerance=1e-6):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


# --- Bytes on the wire ---


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64, np.int32, np.bool_, np.float64])
def test_requests_and_replies_are_those_of_the_published_stubs(dtype):
    value = RNG.integers(0, 2, (2, 3)).astype(dtype)
    data = Request("m", "s", {"x": value, "t": np.array([[b"\xff", b""]], object)}).serialize()
    request = predict_pb2.PredictRequest.FromString(data)
    assert (request.model_spec.name, request.model_spec.signature_name) == ("m", "s")
    assert tf.make_ndarray(request.inputs["x"]).dtype == dtype
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["x"]), value)
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["t"]), [[b"\xff", b""]])

    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 12
    response.outputs["content"].CopyFrom(tf.make_tensor_proto(value))
    # The other form: typed fields.
    response.outputs["fields"].CopyFrom(tf.make_tensor_proto(value.tolist(), dtype=dtype))
    response.outputs["none"].CopyFrom(tf.make_tensor_proto(np.zeros((0, 3), dtype)))
    reply = Reply.parse(response.SerializeToString())
    assert reply.version == 12 and reply.outputs["none"].shape == (0, 3)
    for name in ("content", "fields"):
        assert reply.outputs[name].dtype == dtype
        np.testing.assert_array_equal(reply.outputs[name], value)


def test_a_run_of_equal_values_is_unfolded():
    response = predict_pb2.PredictResponse()
    proto = response.outputs["x"]
    proto.dtype = 1
    proto.tensor_shape.dim.add(size=2)
    proto.tensor_shape.dim.add(size=2)
    proto.float_val.extend([1.0, 2.0])
    reply = Reply.parse(response.SerializeToString())
    np.testing.assert_array_equal(reply.outputs["x"], [[1, 2], [2, 2]])


def test_neither_tensorflow_nor_models_are_loaded():
    code = (
        "import sys, vatt_tf.serving.client.client, vatt_tf.serving.client.command\n"
        "print([m for m in sys.modules if m.startswith(('tensorflow', 'keras', 'vatt_tf.models'))])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "[]\n", printed


# --- Embedding ---


def test_values_shapes_and_spaces(client, server):
    assert client.spaces == {"va": ("video", "audio"), "vt": ("video", "text")}
    assert client.dimensions["va"] == {"video": 3, "audio": 3}
    clip = frames_of([10, 20, 30, 40], size=(16, 16))
    expected = unit(video_features(clip[None]))[0]
    close(client.embed_video(clip), expected)
    close(client.embed_video(np.stack([clip] * 5), space="vt"), np.tile(expected, (5, 1)))
    both = client.embed_video(clip, space="all")
    assert {space: value.shape for space, value in both.items()} == {"va": (3,), "vt": (4,)}
    close(client.embed_video(clip, space="audio"), both["va"])
    sound = RNG.uniform(-1, 1, 320).astype(np.float32)
    close(client.embed_audio(sound, sample_rate=800), unit(audio_features(sound[None]))[0])
    words = ["a bright one", "näther"]
    texts = client.embed_text(words)
    close(texts, unit(text_features([word.encode() for word in words])))
    close(client.embed_text(words[0], space="video"), texts[0])
    server.content = True
    close(client.embed_text(words), texts)


@pytest.mark.parametrize("stored", ["filtered", "strided", None])
def test_audio_is_resampled_as_in_training(client, server, stored):
    """A tone of 600 Hz, which 800 samples a second hold as one of 200 Hz, or not at all."""
    server.clip["audio_resampling"] = stored
    if stored is None:  # of an earlier export
        del server.clip["audio_resampling"]
    tone = (0.5 * np.sin(2 * np.pi * 600 * np.arange(640) / 1600)).astype(np.float32)
    kept = np.float32(0) * tone[::2] if stored == "filtered" else tone[::2]
    found = client.embed_audio(np.tile(tone, 3), sample_rate=1600, windows=1)
    close(found, unit(audio_features(kept[None]))[0], 1e-2)


def test_long_inputs_are_averaged_over_windows(client):
    frames = frames_of(range(0, 200, 10), size=(16, 16))
    vectors = unit(video_features(np.stack([frames[i : i + 4] for i in (0, 8, 16)])))
    close(client.embed_video(frames, windows=3), unit(vectors.mean(axis=0)))


def test_files_in_one_batch(client, server, videos):
    paths = sorted(videos.iterdir())
    found = client.embed_video(paths, windows=2)
    assert found.shape == (2, 4) and found[0, 0] > found[1, 0]
    close(found[1], client.embed_video(str(paths[1]), windows=2))
    # Two windows of the long video and one of the short one: one request.
    assert server.seen[1] == ("video", "serving_default", 3)
    assert client.embed_audio(paths[0]).shape == (3,)
    with pytest.raises(UserError, match="dark.mp4: no audio"):
        client.embed_audio(paths[1])


def test_batches_are_split(server):
    clips = RNG.integers(0, 256, (7, 4, 16, 16, 3)).astype(np.uint8)
    expected = unit(video_features(clips))

    def rows(**settings):
        server.seen.clear()
        with Client(f"localhost:{server.port}", **settings) as client:
            close(client.embed_video(clips), expected)
            return [rows for _, signature, rows in server.seen if signature != "describe"]

    assert rows(batch_size=8) == [7]
    assert rows(batch_size=3) == [3, 3, 1]
    assert rows(batch_size=8, max_message_bytes=2 * clips[0].nbytes + 9) == [2, 2, 2, 1]
    assert rows(max_message_bytes=1) == [1] * 7
    server.max_rows = 4  # the server says how many it takes, and is not asked for more again
    assert rows(batch_size=5) == [5, 4, 1, 2]


def test_a_too_large_message_is_halved(client, server):
    clips = RNG.integers(0, 256, (3, 4, 16, 16, 3)).astype(np.uint8)
    client.describe("video")
    too_large = "SERVER: Received message larger than max (4816954 vs. 4194304)"
    server.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, too_large)]
    close(client.embed_video(clips), unit(video_features(clips)))
    assert [rows for _, _, rows in server.seen] == [1, 1, 1, 1]


def test_a_server_without_a_free_thread_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(client_lib, "FIRST_PAUSE", 0.001)
    busy = (grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
    with Client(f"localhost:{server.port}", retries=2) as client:
        client.describe("text")
        server.failures = [busy] * 8
        assert client.embed_text("a").shape == (4,) and not server.failures
        server.failures = [busy] * 9
        with pytest.raises(RequestError, match="Threadpool"):
            client.embed_text("a")


def test_large_replies_arrive(client, server):
    server.classes, server.content = 300_000, True  # 7 MB, beyond gRPC's default of 4 MiB
    found = client.classify(np.zeros((3, 4, 16, 16, 3), np.uint8))
    assert found.probabilities.shape == (3, 300_000)
    assert server.seen[-1] == ("classifier", "serving_default", 3)  # at once, not in halves


# --- What can go wrong on the way ---


def test_unavailable_is_tried_again(client, server):
    client.describe("text")
    server.failures = [(UNAVAILABLE, "queue full")] * 5
    assert client.embed_text("x").shape == (4,)
    server.failures = [(UNAVAILABLE, "queue full")] * 6
    with pytest.raises(RequestError, match="queue full.*is the server running") as error:
        client.embed_text("x")
    assert error.value.code == "UNAVAILABLE" and not server.failures


def test_other_errors_are_not_tried_again(client, server):
    client.describe("text")
    server.failures = [(grpc.StatusCode.INTERNAL, "no\nmore")] * 2
    with pytest.raises(RequestError, match="model text: INTERNAL: no$"):
        client.embed_text("x")
    assert len(server.failures) == 1


def test_deadline(server):
    release = threading.Event()
    server.on_predict = release.wait
    with Client(f"localhost:{server.port}", timeout=0.5) as client:
        with pytest.raises(RequestError, match="DEADLINE_EXCEEDED.*no answer in 0.5 s"):
            client.embed_text("x")
    release.set()


def test_pauses_grow_within_the_deadline(monkeypatch):
    monkeypatch.setattr(client_lib, "FIRST_PAUSE", 0.1)
    client = Client("localhost:1", retries=20)
    pauses = [client._pause(UNAVAILABLE, attempt, 60.0) for attempt in range(20)]
    assert 0.08 <= pauses[0] <= 0.12 and 0.32 <= pauses[2] <= 0.48 and 2.4 <= pauses[19] <= 3.6
    assert client._pause(UNAVAILABLE, 20, 60.0) is None
    assert client._pause(UNAVAILABLE, 10, 1.0) is None
    assert client._pause(grpc.StatusCode.INTERNAL, 0, 60.0) is None


def test_a_call_never_mixes_two_versions(client, server):
    clips = RNG.integers(0, 256, (7, 4, 16, 16, 3)).astype(np.uint8)
    client.describe("video")

    def replace():
        server.version, server.model_hash, server.on_predict = 2, "bb", None

    server.on_predict = replace  # after the first batch of three
    close(client.embed_video(clips), unit(video_features(clips)))
    sent = [rows for _, signature, rows in server.seen if signature == "serving_default"]
    assert sent == [3, 3, 3, 1] or sent == [3, 3, 3, 3, 1]
    assert sent[-3:] == [3, 3, 1]
    assert client.describe("video").version == 2 and client.describe("video").model_hash == "bb"


def test_a_refusal_by_a_new_version_is_tried_again(client, server):
    client.describe("text")
    server.version = 2
    server.failures = [(grpc.StatusCode.INVALID_ARGUMENT, "other clip length")]
    assert client.embed_text("x").shape == (4,)
    server.failures = [(grpc.StatusCode.INVALID_ARGUMENT, "really wrong")]
    with pytest.raises(RequestError, match="really wrong"):
        client.embed_text("x")


def test_models_that_are_not_there(client, server):
    server.models = ("video", "text")
    assert client.spaces == {"va": ("video", "audio"), "vt": ("video", "text")}
    with pytest.raises(RequestError, match="NOT_FOUND: Servable not found"):
        client.embed_audio(np.zeros(9, np.float32))
    server.models = ()
    with pytest.raises(UserError, match="has none of the models video, audio, text"):
        print(Client(f"localhost:{server.port}").spaces)
    server.failures = [(grpc.StatusCode.FAILED_PRECONDITION, 'key "describe" not found')]
    with pytest.raises(UserError, match="no signature 'describe'.*vatt_tf.export"):
        Client(f"localhost:{server.port}").describe("text")


def test_words_are_split_by_the_vocabulary(client, server):
    assert client.split_known("red Hund") is None  # of an earlier export
    server.vocabulary, server.max_rows = ("red", "circle"), 2
    assert client.split_known("Red, circle -- Hund red Hund!") == (
        ["Red", "circle", "red"],
        ["Hund"],
    )
    assert client.split_known("  ") == ([], [])
    server.failures = [(grpc.StatusCode.FAILED_PRECONDITION, "something else")]
    with pytest.raises(RequestError, match="something else"):
        client.split_known("red")


FRAMES = frames_of(range(4))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda c: c.embed_video("absent.mp4"), "absent.mp4: no such file"),
        (lambda c: c.embed_video(FRAMES[0]), r"shape \(32, 48, 3\), expected \[T, H, W, 3\]"),
        (lambda c: c.embed_video(FRAMES / 255.0), "float64, expected uint8"),
        (lambda c: c.embed_video([]), "give files as a path"),
        (lambda c: c.embed_video(FRAMES, windows=0), "windows must be at least 1"),
        (lambda c: c.embed_video(FRAMES, start=2, end=1), "start < end"),
        (lambda c: c.embed_video(FRAMES, start=9), "not before the end of the frames"),
        (lambda c: c.embed_video(FRAMES, space="sound"), "expected the modality to compare with"),
        (lambda c: c.embed_text("x", space="audio"), r"space='audio' for text.*\(video\)"),
        (lambda c: c.embed_text([]), "at least one string"),
        (lambda c: c.embed_text(["a", " "]), "string 1 is ' '"),
        (lambda c: c.embed_audio(np.full(9, np.nan)), "NaN or infinity"),
        (lambda c: c.embed_audio(np.full(9, 9000.0)), "divide int16 values by 32768"),
        (lambda c: Client(timeout=0), "timeout > 0"),
        (lambda c: Client(batch_size=0), "batch_size must be at least 1"),
    ],
)
def test_mistakes_are_named(client, call, message):
    with pytest.raises(UserError, match=message):
        call(client)


# --- Classes, asyncio, the command line ---


def test_classify(client, server):
    bright, dark = frames_of([200] * 4, (16, 16)), frames_of([0] * 4, (16, 16))
    found = client.classify(np.stack([bright, dark]))
    assert found.top(1) == [[("bright", 1.0)], [("dark", 0.5)]]
    assert client.classify(bright).logits.tolist() == [-200.0, 200.0]
    assert client.classify(bright).top()[0] == ("bright", 1.0)
    both = client.classify(np.concatenate([bright, dark]), windows=2)  # the mean of two windows
    assert both.logits.tolist() == [-100.0, 100.0] and both.probabilities.tolist() == [0.25, 0.75]
    server.classifier_modality, server.version = "audio", 2
    with Client(f"localhost:{server.port}") as fresh:
        sound = np.full(320, 0.5, np.float32)
        close(fresh.classify(sound, rate=800).logits, [-0.5, 0.5])


def test_async_client_gives_the_same(client, server, videos):
    server.failures = [(UNAVAILABLE, "starting")] * 2
    server.vocabulary = ("red",)
    clip = frames_of([10, 20, 30, 40], (16, 16))
    path = videos / "bright.mp4"

    async def ask():
        async with AsyncClient(f"localhost:{server.port}", batch_size=2) as other:
            found = await asyncio.gather(
                other.embed_text(["a", "b"]),
                other.embed_video([path, path], space="audio"),
                other.embed_audio(path),
                other.classify(clip),
                other.describe("video"),
                other.split_known("red"),
            )
            with pytest.raises(RequestError, match="NOT_FOUND"):
                await other.classify(clip, model="absent")
            with pytest.raises(UserError, match="no such file"):
                await other.embed_video("absent.mp4")
            return found

    texts, videos_found, sound, classes, description, known = asyncio.run(ask())
    close(texts, client.embed_text(["a", "b"]))
    close(videos_found, client.embed_video([path, path], space="audio"))
    close(sound, client.embed_audio(path))
    close(classes.logits, client.classify(clip).logits)
    assert description == client.describe("video")
    assert known == client.split_known("red") == (["red"], [])


def test_command_line(server, videos, tmp_path, capsys):
    flag = f"--server=localhost:{server.port}"
    assert client_command.main(["text", "a red circle", "bright", flag]) == 0
    out = capsys.readouterr().out
    assert "model text version 1 (weights aaaa" in out and "shared with video: 4 numbers" in out
    assert "a red circle   0.0" in out and "cosines:" in out
    odd = shutil.copy(videos / "bright.mp4", tmp_path / "caf\udce9.mp4")
    assert client_command.main(["video", str(odd), flag]) == 0
    assert "caf\\xe9.mp4   0." in capsys.readouterr().out
    path = str(videos / "bright.mp4")
    assert client_command.main(["video", path, flag, "--space=audio", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["inputs"] == [path] and np.shape(printed["embeddings"]["audio"]) == (1, 3)
    assert client_command.main(["classify", path, flag]) == 0
    assert "100.0 %  bright  ####" in capsys.readouterr().out
    assert client_command.main(["classify", path, flag, "--json", "--top=1"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"][0][0]["label"] == "bright"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["video", "absent.mp4"], "error: absent.mp4: no such file\n"),
        (["text", "x", "--space=sound"], "error: space='sound' for text"),
        (["classify", "x", "--model=other"], "model other: NOT_FOUND"),
        (["text", "caf\udce9"], "error: embed_text: 'caf\\xe9' is not valid UTF-8"),
        (["video", "caf\udce9.mp4"], "error: caf\\xe9.mp4: no such file\n"),
    ],
)
def test_command_line_mistakes(server, capsys, flags, message):
    assert client_command.main([*flags, f"--server=localhost:{server.port}"]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        client_command.main([*flags, "--timeout=0"])
    assert stop.value.code == 2 and "expected a number > 0" in capsys.readouterr().err


def test_classes_without_names_are_numbered():
    probabilities = np.array([0.1, 0.7, 0.2], np.float32)
    found = Classification(probabilities, probabilities, ())
    assert [name for name, _ in found.top(2)] == ["class 1", "class 2"]
