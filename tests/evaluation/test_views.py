"""The papers' protocols (docs/reference.md, Evaluation views) and what may be changed on them."""

from __future__ import annotations

import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.views import AGGREGATES, TASKS, VIEWS, views_of


def test_twelve_views_for_kinetics():
    views = views_of("classify", "kinetics")
    assert (views.windows, views.crops, views.aggregate) == (4, 3, "logits")
    assert views.protocol("kinetics") == {
        "views": "kinetics",
        "windows": 4,
        "crops": 3,
        "aggregation": "mean of logits over the views",
    }


@pytest.mark.parametrize(
    "task, name, windows, crops, train_windows",
    [
        ("classify", "audioset", 4, 1, 4),
        ("classify", "imagenet", 1, 1, 4),
        ("probe", "ucf101_probe", 4, 1, 1),
        ("probe", "mmv_ucf101", 10, 1, 10),
        ("probe", None, 4, 1, 4),
        ("retrieval", None, 4, 1, 4),
        ("zero_shot", "retrieval", 4, 1, 4),
    ],
)
def test_protocols(task, name, windows, crops, train_windows):
    views = views_of(task, name)
    assert (views.windows, views.crops, views.train_windows) == (windows, crops, train_windows)


def test_windows_and_crops_override():
    views = views_of("probe", "mmv_ucf101", windows=2, crops=3)
    assert (views.windows, views.crops, views.train_windows) == (2, 3, 2)
    assert views_of("probe", "esc50", windows=2).train_windows == 1
    assert views_of("probe").protocol("default")["train_windows"] == 4


def test_every_protocol_is_for_a_task():
    assert set(AGGREGATES) == set(TASKS)
    for name, views in VIEWS.items():
        assert views.source, name
        for task in views.tasks:
            assert views_of(task, name) == views


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("classify", "kinetic"), "expected one of kinetics"),
        (("retrieval", "kinetics"), "is for --task=classify, the task is retrieval"),
        (("classify", "esc50"), "take one of kinetics, audioset, imagenet"),
        (("classify", None, None, 2), r"--crops=2: expected 1 \(centre\) or 3"),
        (("zero_shot", None, None, 3), "zero_shot takes the centre crop"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        views_of(*arguments)
