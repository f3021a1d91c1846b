"""Malformed requests to the exported models: right codes, and nobody else is disturbed."""

from __future__ import annotations

import grpc
import pytest

from vatt_tf.serving import fuzz
from vatt_tf.serving.conformance.cases import malformed as malformed_lib
from vatt_tf.serving.conformance.cases.connection import Server
from vatt_tf.serving.conformance.cases.malformed import KINDS, find_targets, malformed
from vatt_tf.serving.server.embedded import start_server

# Enough for every kind to come up.
REQUESTS = 300


@pytest.fixture(scope="module")
def served(exported_models):
    with start_server(exported_models) as running:
        yield f"localhost:{running.port}"


@pytest.fixture(scope="module")
def server(served):
    with Server(served) as connected:
        yield connected


@pytest.fixture(scope="module")
def targets(server):
    return find_targets(server, list(fuzz.MODELS))


def test_targets_are_all_signatures(targets):
    assert [(target.model, target.alias) for target in targets] == [
        ("video", "frames"),
        ("video", "frames_bytes"),
        ("audio", "waveform"),
        ("audio", "audio_bytes"),
        ("text", "text"),
    ]


def test_same_seed_same_requests(targets):
    first = [malformed(3, index, targets) for index in range(20)]
    assert first == [malformed(3, index, targets) for index in range(20)]
    other = [malformed(4, index, targets) for index in range(20)]
    assert first != other


@pytest.mark.check
def test_server_answers_as_promised(server, targets, capsys):
    peaceful = fuzz.fuzz(
        server,
        targets,
        requests=REQUESTS,
        quiet_seconds=1.0,
        max_slowdown=float("inf"),  # the machine may be busy
    )
    printed = capsys.readouterr().out
    assert peaceful, printed
    assert f"all                  {REQUESTS:6}      0" in printed
    assert "failed: none" in printed
    sent = {line.split()[0] for line in printed.splitlines()[1:] if line}
    assert sent >= {kind.name for kind in KINDS}, "the seed leaves kinds out"


def test_wrong_answers_are_shown(server, targets, capsys, monkeypatch):
    kind = next(kind for kind in KINDS if kind.name == "unknown_label")
    wanted = frozenset({grpc.StatusCode.NOT_FOUND})
    wrong = malformed_lib.Kind(kind.name, wanted, kind.make, kind.fits)
    monkeypatch.setattr(malformed_lib, "KINDS", [wrong])
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    answers = [fuzz._send(server, call, 0, index, targets) for index in (7, 8)]
    assert fuzz._print_replies(answers) == 2
    printed = capsys.readouterr().out
    assert "request 7: unknown_label to " in printed
    assert "got INVALID_ARGUMENT 'Unrecognized servable version label: " in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=video,music"], "--models=video,music: music is none of video, audio, text"),
        (["--requests=0"], "--requests=0: expected 1 or more"),
        (["--models=classifier"], "classifier is none of"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert fuzz.main(["--server=localhost:1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_model_that_is_not_served_is_a_mistake(served, capsys, monkeypatch):
    monkeypatch.setattr(fuzz, "MODELS", ("speech",))
    assert fuzz.main([f"--server={served}", "--models=speech"]) == 2
    assert "speech of localhost" in capsys.readouterr().err
