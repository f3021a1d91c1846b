"""Several runs on one page."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.evaluation.report.test_page import check, run_folder
from tests.evaluation.report.test_report_classifier import activations
from tests.evaluation.tasks.test_retrieval import make_set, unit
from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.activations import Activations
from vatt_tf.evaluation.report import page as report


def classify(top1, data="shards"):
    return {"classify": {"top1": top1, "pool_size": 9, "data": data, "chance": {"top1": 0.1}}}


def test_the_best_is_marked_and_curves_lie_on_the_same_axes(tmp_path):
    runs = [run_folder(tmp_path / name, classify(x)) for name, x in (("a", 0.625), ("b", 0.5))]
    text, checker = check(report.write_comparison(runs, tmp_path / "all.html"))
    assert "<strong>62.5 % \N{BLACK STAR}</strong>" in text and "<strong>50.0" not in text
    assert checker.tags.count("svg") == 2  # loss and R@10
    assert text.count('class="line c0') and text.count('class="line c1')
    assert "not the same data" not in text
    assert not list(tmp_path.glob("*.tmp-*"))


def test_equal_numbers_have_no_best(tmp_path):
    runs = [run_folder(tmp_path / name, classify(0.5)) for name in ("a", "b")]
    text, _ = check(report.write_comparison(runs, tmp_path / "all.html"))
    assert "50.0 %" in text and "<strong>" not in text


def test_of_ranks_the_smallest_is_best(tmp_path):
    parts = [
        {"retrieval": {"data": "x", "text_to_video": {"MedR": rank, "pool_size": 9, "chance": {}}}}
        for rank in (7.0, 3.0)
    ]
    runs = [run_folder(tmp_path / str(i), part) for i, part in enumerate(parts)]
    text, _ = check(report.write_comparison(runs, tmp_path / "all.html"))
    assert "<strong>3 \N{BLACK STAR}" in text and "<strong>7" not in text


def test_numbers_on_different_data_are_warned_of(tmp_path):
    runs = [run_folder(tmp_path / x, classify(0.5, data=x)) for x in ("a", "b")]
    text, _ = check(report.write_comparison(runs, tmp_path / "all.html"))
    assert "not the same data, do not compare" in text


def told(tmp_path, *blocks):
    """The warning of a comparison of evaluations; "" where the best is marked."""
    runs = [run_folder(tmp_path / str(i), {"zero_shot": one}) for i, one in enumerate(blocks)]
    text, _ = check(report.write_comparison(runs, tmp_path / "all.html"))
    found = re.findall('class="warning">([^<]*)<', text)
    assert bool(found) != ("\N{BLACK STAR}</strong>" in text)
    return found[0] if found else ""


ZERO_SHOT = {
    "task": "zero_shot",
    "data": "o/val",
    "split": "val",
    "pool_size": 9,
    "evaluated_on": [{"path": "o", "set": "1234"}],
    "top1": 0.5,
    "chance": {"top1": 0.1},
    "per_class": {},
    "classes": 2,
    "protocol": {"windows": 4, "crop": "centre"},
    "prompts": {"cat": ["a cat is seen"], "dog": ["a dog is seen"]},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "o/val/"}, ""),
        ({"data": "elsewhere/o/val"}, ""),
        ({"data": "o/val/", "evaluated_on": [{"path": "o"}]}, "not the same data"),
        ({"evaluated_on": [{"path": "o", "set": "5678"}]}, "not the same data"),
        ({"split": "test"}, "not the same data"),
        ({"content": "ab"}, ""),  # an earlier block has none
        ({"pool_size": 8}, "not the same data"),
        ({"protocol": {"windows": 1, "crop": "centre"}}, "not measured alike.*: windows 4 and 1$"),
        ({"limit": 9}, "not measured alike.*: limit None and 9$"),
        ({"checkpoint": "best"}, "not measured alike.*: checkpoint None and best$"),
        ({"prompts": {"cat": ["a cat"], "dog": ["a dog"]}}, "other prompts of classes$"),
    ],
)
def test_what_is_not_measured_alike_has_no_best(tmp_path, change, words):
    found = told(tmp_path, ZERO_SHOT, {**ZERO_SHOT, "top1": 0.25, **change})
    assert re.search(words, found) if words else found == ""


def test_content_tells_data_that_were_prepared_anew(tmp_path):
    one, same, other = ({**ZERO_SHOT, "content": content} for content in ("ab", "ab", "cd"))
    assert told(tmp_path, one, {**same, "top1": 0.25, "data": "copy/val", "split": None}) == ""
    (tmp_path / "x").mkdir()
    assert told(tmp_path / "x", one, {**other, "top1": 0.25}).startswith("not the same data")


def test_a_folder_without_an_identity_may_be_written_in_several_ways(tmp_path):
    one, other = ({**ZERO_SHOT, "evaluated_on": [], "data": data} for data in ("o/val", "./o/val/"))
    assert told(tmp_path, one, {**other, "top1": 0.25}) == ""


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    folders = [tmp_path / x / "run" for x in ("first", "second")]
    for folder in folders:
        folder.parent.mkdir()
        run_folder(folder, classify(0.5))
    text, _ = check(report.write_comparison(folders, tmp_path / "all.html"))
    assert "first/run" in text and "second/run" in text


def test_one_run_is_no_comparison(tmp_path):
    with pytest.raises(UserError, match="two runs or more, got 1"):
        report.write_comparison([tmp_path], tmp_path / "all.html")
    assert not (tmp_path / "all.html").exists()


def test_maps_stand_side_by_side(tmp_path):
    runs = [run_folder(tmp_path / name) for name in ("a", "b")]
    rng = np.random.default_rng(0)
    n = 12
    rows = {m: unit(rng.normal(size=(n, 4))) for m in ("video", "text")}
    embedded = make_set({"vt": rows}, [f"words {i}" for i in range(n)])
    tokens = Activations(make_set({"tokens": rows, "features": rows}, [""] * n), {})
    text, checker = check(
        report.write_comparison(
            runs, tmp_path / "all.html", [embedded, None], [tokens, activations(n)]
        )
    )
    # Curves 2; run a: tokens and common space; run b: its classes before and after the tower.
    assert checker.tags.count("svg") == 2 + 2 + 2
    assert "common space vt" in text and "video after the tower" in text
