"""The tool that measures towers on a GPU, with tiny ones on the CPU."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

TINY = ("--sizes=tiny", "--clips=2", "--frames=8", "--side=32", "--runs=1", "--matrix=64")


@pytest.mark.check
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="needs JAX")
def test_rows(tmp_path):
    out = tmp_path / "rows.json"
    found = subprocess.run(
        [sys.executable, "tools/gpu_towers.py", *TINY, f"--out={out}"],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    rows = json.loads(out.read_text())
    variants = ["", "kept", "regions", "blocks"]  # flash attention is for GPUs
    assert [(row["dtype"], row["variant"]) for row in rows] == [
        (dtype, variant) for dtype in ("float32", "bfloat16") for variant in variants
    ]
    # Two layers of width 32, MLP 64, two heads of 16; 2 x 2 x 2 patches and AGG.
    patches = 2 * 8 * (4 * 16 * 16 * 3) * 32
    projections, mlp, attention = 2 * 9 * 4 * 32 * 32, 2 * 9 * 2 * 32 * 64, 2 * 2 * 9 * 9 * 32
    keys_and_values = 2 * 9 * 2 * 32 * 32
    last = (projections - keys_and_values + mlp + attention) / 9  # of AGG alone
    flops = 2 * (patches + projections + mlp + attention + keys_and_values + last)  # two clips
    for row in (rows[0], rows[4]):
        assert row["TFLOP/s"] * row["ms"] * 1e9 == pytest.approx(flops)
    assert len(found.stdout.splitlines()) == 2 + len(rows)
    assert max(map(len, found.stdout.splitlines())) <= 120
