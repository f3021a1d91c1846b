"""The benchmarks of the embedded server, in short: their figures are those of what they promise."""

from __future__ import annotations

import json

import pytest

from vatt_tf.serving.benchmarks import hostile, latency

pytestmark = pytest.mark.check


def figures(tmp_path, command, exported_models, *flags):
    arguments = [command, f"--models={exported_models}", f"--out={tmp_path}", "--quiet", *flags]
    assert latency.main(arguments) == 0
    return json.loads((tmp_path / f"{command}.json").read_text())


def test_hostile_clients_beside_a_good_one(tmp_path, exported_models, monkeypatch):
    monkeypatch.setattr(hostile, "IDLE_CONNECTIONS", 300)
    found = figures(tmp_path, "hostile", exported_models, "--seconds=8")
    assert found["failures"] == {} and found["beside"]["requests"] > 10
    assert found["rss_mb"]["peak"] < 2500
    statuses = {name: set(counts) for name, counts in found["hostile"].items()}
    assert (
        statuses["text without values"] == statuses["frames of 150 scans"] == {"INVALID_ARGUMENT"}
    )
    assert statuses["name of 5 MB"] == {"NOT_FOUND"}
    assert statuses["body that unpacks to 1 GB"] == {"429"}
    assert statuses["the same to no path"] == {"400"}


def test_load_of_several_sizes_without_and_with_deadlines(tmp_path, exported_models):
    flags = ["--minutes=0.2", "--clients=8", "--version_seconds=3", "--clips=4x16x24,4x32x32"]
    found = figures(tmp_path, "load", exported_models, *flags)
    assert found["failures"] == 0 and found["calls"] > 50 and found["versions"] > 1


def test_transport(tmp_path, exported_models):
    found = figures(tmp_path, "transport", exported_models, "--calls=50")
    assert 0 < found["embedded_p50_ms"] and 0 < found["plain_p50_ms"]
