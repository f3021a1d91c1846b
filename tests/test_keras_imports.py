"""The commands' Keras comes without what they do not need; everybody else finds it."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from vatt_tf import keras_imports
keras_imports.own_process()
keras_imports.import_lean("keras", "orbit")
import vatt_tf.training.tasks.finetune
left_out = ("cv2", "matplotlib", "pandas", "sklearn")
print(json.dumps([name for name in left_out if name in sys.modules]))
from sklearn.metrics import average_precision_score
print(sum(type(finder).__module__.startswith("vatt_tf") for finder in sys.meta_path))
"""


@pytest.mark.check
def test_left_out_of_keras_alone():
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    imported, hooks = found.stdout.splitlines()
    assert json.loads(imported) == []
    assert hooks == "0"
