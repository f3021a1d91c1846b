"""VOC 2007 from its files to mean average precision: prepare, then the probe by command."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from vatt_tf import evaluate, prepare
from vatt_tf.data.datasets.voc import CLASSES


def write_voc(root, counts):
    """Images whose three colours are its classes: 0 (aeroplane), 1 (bicycle) and 2 (bird)."""
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    random, number = np.random.default_rng(0), 0
    for part, count in counts.items():
        lines = {label: [] for label in CLASSES}
        for index in range(count):
            number += 1
            present = [bool((index % 7 + 1) >> bit & 1) for bit in range(3)]
            image = random.integers(0, 60, (16, 16, 3)) + 190 * np.array(present)
            Image.fromarray(image.astype(np.uint8)).save(root / f"JPEGImages/{number:06d}.jpg")
            for c, label in enumerate(CLASSES):
                mark = " 1" if c < 3 and present[c] else "-1"
                lines[label].append(f"{number:06d} {mark}\n")
        for label in CLASSES:
            (root / f"ImageSets/Main/{label}_{part}.txt").write_text("".join(lines[label]))


def test_from_files_to_mean_average_precision(classifier_run, tmp_path, capsys):
    write_voc(tmp_path / "voc", {"trainval": 28, "test": 21})
    out = tmp_path / "shards"
    flags = ["--dataset=voc2007", f"--videos={tmp_path / 'voc'}", f"--out={out}", "--quiet"]
    assert prepare.main([*flags, "--jobs=1"]) == 0
    command = [f"--run_dir={classifier_run}", f"--data={out}", "--task=probe", "--probe=svm"]
    assert evaluate.main([*command, "--report"]) == 0
    assert "several per clip" in capsys.readouterr().out
    block = json.loads((classifier_run / "results.json").read_text())["probe"]
    assert block["labels"] == CLASSES[:3] and block["pool_size"] == 21 and block["multi_label"]
    assert set(block["svm"]["average_precision"]) == set(CLASSES[:3])
    # A tower with random weights still shows the colours of its input.
    assert block["svm"]["mAP"] > block["chance"]["mAP"] + 0.1
    assert f"{100 * block['svm']['mAP']:.1f} %" in (classifier_run / "report.html").read_text()
