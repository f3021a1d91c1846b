"""What a search prints beside its scores, and what it prints where nothing was measured."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.search.test_embed_and_search import (
    make_address,  # noqa: F401
    make_index,  # noqa: F401
    make_server,  # noqa: F401
    make_source_videos,  # noqa: F401
    make_videos,  # noqa: F401
)
from vatt_tf import search as search_command
from vatt_tf.errors import UserError
from vatt_tf.evaluation.calibration import LEVELS
from vatt_tf.search import search
from vatt_tf.search_index.listing import percent
from vatt_tf.serving.client.client import Client

PAIRS = {
    "true": {"pairs": 206, "quantiles": (0.5 + 0.5 * LEVELS).tolist()},
    "random": {"pairs": 42_230, "quantiles": (0.9 * LEVELS).tolist()},
}
CALIBRATION = {
    "model_hash": "aa" * 32,
    "step": 3000,
    "data": "quickstart/val",
    "clips": 206,
    "spaces": {"vt": {"text": PAIRS}},
}
MEASURED = "206 true and 42,230 random pairs (quickstart/val, step 3000)"
COMMAND = "python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS --task=retrieval measures it"


@pytest.fixture(name="calibrated")
def make_calibrated(index, server):
    server.calibration = CALIBRATION
    return index


def test_hits_are_read_against_held_out_pairs(calibrated):
    found = search(calibrated, "bright")
    assert found.calibration == MEASURED and len(found.hits) > 2
    for hit in found.hits:
        want = np.clip([(1 - hit.score) / 0.5, (0.9 - hit.score) / 0.9], 0, 1)
        np.testing.assert_allclose([hit.true_higher, hit.random_higher], want, atol=1e-3)


def test_the_table_has_columns_for_them(calibrated, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert search_command.main([f"--index={calibrated}", "bright", f"--html={page}"]) == 0
    text = capsys.readouterr().out
    line = f"  scores: beside each, the fraction of {MEASURED} that score higher\n"
    assert line in text and all(len(line) <= 120 for line in text.splitlines()[:5])
    head, first, *_ = text[text.index("\n\n") + 2 :].splitlines()
    hit = search(calibrated, "bright").hits[0]
    true, random = percent(hit.true_higher), percent(hit.random_higher)
    for name, value in (("true", true), ("random", random), ("score", f"{hit.score:.3f}")):
        end = head.index(name) + len(name)
        assert first[:end].endswith(f" {value}")
    html = page.read_text()
    shown = f"(higher: {true} of true, {random} of random pairs)"
    assert shown.replace("<", "&lt;").replace(">", "&gt;") in html and MEASURED in html


def test_json_has_them(calibrated, capsys):
    assert search_command.main([f"--index={calibrated}", "--json", "bright"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["calibration"] == MEASURED
    assert all(0 <= hit[f"{kind}_higher"] <= 1 for hit in found["hits"] for kind in PAIRS)


def test_what_was_not_measured_is_named(index, server, videos, capsys):
    assert search_command.main([f"--index={index}", "--json", "bright"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {hit["true_higher"] for hit in found["hits"]} == {None}
    assert {hit["random_higher"] for hit in found["hits"]} == {None}
    assert search_command.main([f"--index={index}", "bright"]) == 0
    text = " ".join(capsys.readouterr().out.split())  # Long lines are wrapped.
    assert f" scores: not calibrated; {COMMAND}, then export again 1 " in text
    assert "random" not in text

    server.calibration, server.version = CALIBRATION, 2
    query = shutil.copy(videos / "flash.mp4", videos.parent / "query.mp4")
    found = search(index, audio=query)
    assert found.calibration == (
        "not calibrated: queries by audio were not measured (quickstart/val, step 3000); "
        f"{COMMAND}, then export again"
    )
    found = search(index, video=query)
    assert found.calibration.startswith("not calibrated for a query by video")
    assert {hit.random_higher for hit in found.hits} == {None}


def test_words_alone_have_no_scores(calibrated):
    found = search(calibrated, "flash", words_only=True)
    assert found.calibration == "" and found.hits[0].true_higher is None


def test_cosines_of_other_weights_are_not_read(index, server):
    server.calibration = {**CALIBRATION, "model_hash": "bb" * 32}
    found = search(index, "bright")
    assert found.hits[0].true_higher is None
    assert "measured with other weights (quickstart/val, step 3000)" in found.calibration


def test_a_server_with_a_damaged_one(index, server, address):
    server.calibration = {**CALIBRATION, "spaces": {"vt": {"text": {"true": 1}}}}
    with pytest.raises(UserError, match=f"{address}: its score_calibration cannot be read"):
        search(index, "bright")


def test_the_client_has_it(server, address):
    with Client(address) as client:
        assert client.describe("video").score_calibration is None
    server.calibration = CALIBRATION
    with Client(address) as client:
        assert client.describe("video").score_calibration == CALIBRATION


def test_percent():
    values = [None, 0.0, 0.0002, 0.002, 0.034, 0.5, 0.994, 1.0]
    assert [percent(value) for value in values] == [
        "-",
        "0 %",
        "<0.1 %",
        "0.2 %",
        "3 %",
        "50 %",
        ">99 %",
        "100 %",
    ]
