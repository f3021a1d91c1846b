"""The example scripts run and do what they say."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = CHECKOUT / "examples"


@pytest.mark.check
def test_build_and_train_by_hand():
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "build_and_train_by_hand.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = re.search(r"loss ([\d.]+) -> ([\d.]+)", done.stdout).groups()
    assert float(after) < 0.8 * float(before), done.stdout
    rank = re.search(r"median rank .*: ([\d.]+) \(chance", done.stdout).group(1)
    assert float(rank) <= 8, done.stdout
