"""The table of several runs."""

from __future__ import annotations

import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.report.comparison import check_comparison, comparison_table


def test_the_best_of_each_column_is_marked():
    retrieval = {"R@1": 0.2, "R@5": 0.5, "R@10": 0.6, "chance": {}}
    blocks = {
        "runs/a": {"text_to_video": {**retrieval, "MedR": 5.0}},
        "b": {"text_to_video": {**retrieval, "R@1": 0.3, "MedR": 7.0}},
    }
    lines = comparison_table("retrieval", blocks).splitlines()
    assert "text to video R@1" in lines[0] and len({len(line) for line in lines}) == 1
    a, b = lines[2], lines[3]
    assert "20.0 %" in a and "20.0 %*" not in a and "30.0 %*" in b
    assert "5*" in a and "7*" not in b, "a low rank is the better one"


def test_a_metric_that_one_run_lacks():
    blocks = {"a": {"top1": 0.5, "top5": 0.9}, "b": {"top1": 0.25}}
    text = comparison_table("classify", blocks)
    assert "50.0 %*" in text and text.splitlines()[-1].rstrip().endswith("-")


@pytest.mark.parametrize(
    "name, runs, message",
    [
        ("x.txt", ["a", "b"], "ends in .json or .html"),
        ("absent/x.json", ["a", "b"], "there is no folder"),
        ("x.json", ["a"], "give --run_dir twice or more"),
    ],
)
def test_files_that_cannot_be_written(tmp_path, name, runs, message):
    with pytest.raises(UserError, match=message):
        check_comparison(str(tmp_path / name), runs)
