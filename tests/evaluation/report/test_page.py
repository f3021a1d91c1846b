"""The report: one well-formed file that loads nothing from anywhere."""

from __future__ import annotations

import html.parser
import json
import re

import numpy as np
import pytest

from tests.evaluation.tasks.test_retrieval import make_set, unit
from vatt_tf.evaluation.report import figures, run_info
from vatt_tf.evaluation.report import page as report
from vatt_tf.evaluation.tasks import retrieval

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Checker(html.parser.HTMLParser):
    """Collects the tags and makes sure that they close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def check(path):
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert all(source.startswith("data:") for source in checker.sources)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().replace("finance", "")
    return text, checker


def run_folder(run_dir, results=None, description=None):
    """A run directory with curves, and with results.json and model.json when they are given."""
    run_dir.mkdir(exist_ok=True)
    write_curves(run_dir)
    for name, content in (("results", results), ("model", description)):
        if content is not None:
            (run_dir / f"{name}.json").write_text(json.dumps(content))
    return run_dir


def write_curves(run_dir, steps=80):
    rng = np.random.default_rng(0)
    lines = []
    for step in range(1, steps + 1):
        a, b = (3 / step**0.3 + 0.1 * rng.random() for _ in range(2))
        line = {"step": step, "kind": "train", "time": 1e9 + step, "loss": a + b}
        line |= {"loss/video_audio": a, "loss/video_text": b, "learning_rate": 1e-4 * step}
        lines.append(json.dumps(line | {"clips_per_second": 50.0, "gradient_norm": 1.0}))
        if step % 40 == 0:
            record = {"step": step, "kind": "eval", "time": 1e9 + step}
            lines.append(json.dumps(record | {"text_to_video/R@10": 0.3}))
    (run_dir / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 81, "lo')
    (run_dir / "config.gin").write_text("BATCH_SIZE = 32\nTRAIN_DATA = 'shards <1>'\n")


def test_empty_run_directory(tmp_path):
    text, _ = check(report.write_report(tmp_path))
    assert tmp_path.name in text


def test_curves_only(tmp_path):
    write_curves(tmp_path)
    text, checker = check(report.write_report(tmp_path))
    assert checker.tags.count("svg") == 6
    assert "R@10 during training" in text and "shards &lt;1&gt;" in text
    assert f"{np.log(63):.2f}" in text  # the loss of alike embeddings, joint denominator
    assert not list(tmp_path.glob("*.tmp-*"))


def test_alarms_stand_above_the_curves(tmp_path):
    write_curves(tmp_path)
    assert "Alarms" not in check(report.write_report(tmp_path))[0]
    alarm = {"step": 1200, "kind": "alarm", "guard": "collapse", "message": "cosine > 0.99 in va"}
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(f"\n{json.dumps(alarm)}\n")
    text, _ = check(report.write_report(tmp_path))
    assert text.index("cosine &gt; 0.99 in va") < text.index("Loss per pair")
    assert "1,200" in text


def test_full_report(tmp_path):
    write_curves(tmp_path)
    rng = np.random.default_rng(0)
    n = 30
    video = unit(rng.normal(size=(n, 6)))
    spaces = {
        "va": {"video": video, "audio": unit(video + 0.3 * rng.normal(size=(n, 6)))},
        "vt": {"video": video, "text": unit(video + 0.3 * rng.normal(size=(n, 6)))},
    }
    audio = np.ones(n, bool)
    audio[3] = False
    clips = make_set(
        spaces, [f"<b>caption</b> & {i}" for i in range(n)], np.arange(n) % 3, {"audio": audio}
    )
    clips.strips = [b"\xff\xd8picture" for _ in range(n)]
    results = {"retrieval": {**retrieval.retrieval_metrics(clips), "data": "shards", "step": 80}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    text, checker = check(report.write_report(tmp_path, clips))
    for title in ("Zero-shot retrieval", "By class", "Similarity", "t-SNE", "Examples"):
        assert title in text
    assert "<b>caption</b>" not in text and "&lt;b&gt;caption&lt;/b&gt; &amp;" in text
    assert checker.tags.count("svg") == 6 + 2 + 2
    assert checker.tags.count("img") >= 5


@pytest.mark.parametrize(
    "low, high, expected",
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0, 3000, [0, 1000, 2000, 3000]), (2, 2, None)],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    found = figures.ticks(low, high)
    assert found[0] <= low and found[-1] >= high and len(found) >= 2
    if expected:
        assert found == expected


def test_train_seconds_leave_out_the_pause_before_a_resumption():
    lines = [{"time": t} for t in (0.0, 10.0, 20.0, 90_000.0, 90_010.0)]
    assert run_info.train_seconds(lines) == pytest.approx(40.0)
    assert run_info.train_seconds(lines[:1]) is None
