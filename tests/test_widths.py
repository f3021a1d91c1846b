"""Every table fits a terminal of 120 columns, whatever the names and numbers in it."""

from __future__ import annotations

import collections
import types

import numpy as np
import pytest

from tests.test_mistakes import parser_of
from vatt_tf.__main__ import COMMANDS
from vatt_tf.wording import WIDTH

LONG = "a_very_long_folder_name/with_many_parts/" * 4 + "clip_0000000000000001.mp4"
CLASSES = {f"{n} {LONG}": {"top1": 1.0, "ap": 1.0, "clips": 1_000_000} for n in range(3)}
INTERVALS = collections.defaultdict(lambda: (0.999, 1.0))
METRICS = dict.fromkeys(("top1", "top5", "mean_class_accuracy"), 1.0)
COMMON = {"chance": METRICS, "pool_size": 1_000_000, "clips": 1_000_000, "classes": 100_000}


def fits(text: str) -> None:
    wide = [line for line in text.splitlines() if len(line) > WIDTH]
    assert text and not wide, wide


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, monkeypatch):
    fits(parser_of(command, monkeypatch).format_help())


def test_search():
    from vatt_tf.search_index.listing import format_found
    from vatt_tf.search_index.query import Found, Hit

    words = tuple("longwords" * 3 for _ in range(8))
    hits = [Hit(LONG, 0.0, 360_000.0, -1.0, "both", words, missing=True)] * 3
    found = Found(" ".join(words), hits, "vat", "exact search", 10**9, "videos", "index", words)
    fits(format_found(found))
    quiet = format_found(found, quiet=True)
    assert "best 3 moments" not in quiet and "note: not in this model's vocabulary" in quiet


def test_search_benchmark():
    from vatt_tf.search_index.benchmark import format_result

    row = {"index": "OPQ64_256,IVF65536_HNSW32,PQ64x4fs", "build_seconds": 99999.9, "nprobe": 4096}
    row |= {"p50_ms": 99999.999, "p99_ms": 99999.999, "recall@10": 0.9999, "peak_gb": 9999.99}
    counts = dict.fromkeys(("vectors", "dim", "clusters", "queries", "cpus"), 10**9)
    fits(format_result({"indexes": [row], **counts}))


def test_benchmark():
    from vatt_tf.benchmark import TOWER_PARTS
    from vatt_tf.benchmarking.table import table

    row = {"seconds": 86_400.0 * 999, "clips_per_second": 12345.0, "flops": 1.0, "mfu": 1.0}
    row |= {"flops_per_second": 1e18, "peak_bytes": 1e13, "passing_bytes": 1e13, "waiting": 1.0}
    fits(table([{"part": part, "variant": "mixed_bfloat16", **row} for part in TOWER_PARTS]))


def test_benchmark_estimate():
    from vatt_tf.benchmarking.report import _estimate

    memory = [{"micro_batch_size": 2**n, "bytes": 1e12} for n in range(14)]
    estimate = {"steps": 10**6, "seconds": 1e7, "cost": 1e6, "memory": memory}
    fits("\n".join(_estimate("mixed_bfloat16", estimate, 10**12)))


def test_data_service_benchmark():
    from vatt_tf.data.service.benchmark import table

    fits(table([{"services": 10**6, "clips_per_second": 1e9}]))


def test_client(monkeypatch, capsys):
    from vatt_tf.serving.client import command as client_command
    from vatt_tf.serving.client.calls import Classification

    description = types.SimpleNamespace(version=10**9, model_hash="f" * 64, outputs={})
    vectors = np.full((40, 512), -1 / np.sqrt(512), np.float32)
    classes = Classification(np.ones((40, 1), np.float32), np.ones((40, 1), np.float32), (LONG,))
    client = types.SimpleNamespace(
        describe=lambda task: description,
        embed_text=lambda inputs, space: {"vt": vectors},
        classify=lambda inputs, model, windows: classes,
    )
    for task, show in (("text", client_command._embed), ("classify", client_command._classify)):
        show(client, client_command.build_parser().parse_args([task, *[LONG] * 40]))
    printed = capsys.readouterr().out
    # The names of classified files stand alone, and can be copied.
    fits("\n".join(line for line in printed.splitlines() if line != LONG))
    assert "-1.000" not in printed and "..." in printed


def test_fuzz(capsys):
    import grpc

    from vatt_tf.serving.fuzz import Answer, _print_replies

    codes = [code.name for code in grpc.StatusCode]
    _print_replies([Answer(n, "kind", "model/default", codes[n % 17], "", True) for n in range(99)])
    fits(capsys.readouterr().out)


def test_conversion():
    from vatt_tf.pretrained.report import format_report

    key, ours = "official/" * 8 + "kernel", "tower/" * 12 + "kernel"
    entry = types.SimpleNamespace(path=ours, keys=(key,), source_rows=None, shape=(1,))
    source = types.SimpleNamespace(shapes={key: (1024, 16, 64)})
    converted = types.SimpleNamespace(variables=[entry], left_out={})
    fits(format_report(source, converted))


def test_comparison():
    from vatt_tf.evaluation.report.comparison import comparison_table
    from vatt_tf.evaluation.tasks.retrieval import DIRECTIONS, direction_name

    part = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "MedR": 1e6, "confidence": {}}
    block = {direction_name(*direction): part for direction in DIRECTIONS}
    text = comparison_table("retrieval", {f"{n}{LONG}": block for n in range(3)})
    fits(text)
    assert text.count("text to video R@1 ") == 1 and text.count("100.0 %") == 3 * 3 * len(
        DIRECTIONS
    )


def test_classification():
    from vatt_tf.evaluation.tasks.classification import format_classification
    from vatt_tf.evaluation.tasks.zero_shot import format_zero_shot

    protocol = {"views": "kinetics", "windows": 10, "crops": 3, "aggregation": "mean of softmax"}
    block = {**COMMON, **METRICS, "confidence": INTERVALS, "per_class": CLASSES}
    block |= {"multi_label": False, "without_positives": list(CLASSES), "protocol": protocol}
    fits(format_classification(block))
    protocol = collections.defaultdict(lambda: "mean of embeddings, then L2 norm", windows=10)
    block |= {"mean_per_class": 1.0, "prompts": {name: [LONG] * 9 for name in CLASSES}}
    fits(format_zero_shot({**block, "protocol": protocol}))


def test_probe():
    from vatt_tf.evaluation.tasks.probe import FITS, GRIDS, format_probe
    from vatt_tf.evaluation.tasks.probe_multi_label import KINDS, format_multi_label

    part = {**METRICS, "mAP": 1.0, "eleven_points": {"mAP": 1.0}, "confidence": INTERVALS}
    part |= {name: 1e-5 for name, *_ in GRIDS.values()}
    part["chosen_on"] = "5-fold cross-validation on train"
    block = {kind: part for kind in {*FITS, *KINDS}}
    block |= {**COMMON, "train_pool_size": 10**6, "modality": "video", "feature_size": 2048}
    fits(format_probe(block))
    block["chance"] = {"mAP": 1.0}
    fits(format_multi_label(block, GRIDS))


def test_retrieval():
    from vatt_tf.evaluation.tasks.retrieval import DIRECTIONS, direction_name, format_retrieval

    part = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "MedR": 1e6, "MnR": 1e6, "pool_size": 10**6}
    part |= {"chance": part, "confidence": INTERVALS, "excluded": 10**6}
    parts = {direction_name(*direction): part for direction in DIRECTIONS}
    classes = {"precision@1": 1.0, "chance": 1.0, "queries": 10**6}
    fits(
        format_retrieval(
            {
                **parts,
                **COMMON,
                "random_weights": parts,
                "by_caption": parts,
                "by_class": dict.fromkeys(parts, classes),
                "silhouette": {space: {"mean": -0.999} for space in ("va", "vt", "vat")},
                "protocol": collections.defaultdict(lambda: "mean of embeddings", windows=10),
            }
        )
    )
