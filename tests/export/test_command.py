"""``python -m vatt_tf.export``."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from vatt_tf import export
from vatt_tf.export import __main__ as command
from vatt_tf.export import servables
from vatt_tf.models import io


def test_prints_the_signatures(weights_folder, tmp_path, capsys):
    flags = [f"--weights={weights_folder}", f"--out={tmp_path}", "--models=text", "--version=12"]
    assert command.main(flags) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{tmp_path}/text/12 (")
    assert [" ".join(line.split()) for line in printed[1:]] == [
        "serving_default",
        "<- text string [?]",
        "-> embedding float32 [?, 8]",
        "-> features float32 [?, 16]",
        "describe",
        "<- query string [?]",
        "-> description string [?]",
        "vocabulary",
        "<- text string [?]",
        "-> tokens int32 [?]",
        "-> unknown int32 [?]",
    ]


def test_cosines_of_other_weights_are_not_exported(weights_folder, tmp_path, capsys):
    copy = str(shutil.copytree(weights_folder, tmp_path / "copy"))
    measured = io.read_description(copy)["score_calibration"]
    io.update_description(copy, score_calibration={**measured, "model_hash": "0", "step": 5})
    flags = [f"--run_dir={copy}", f"--out={tmp_path / 'models'}", "--models=text"]
    assert command.main(flags) == 0
    printed = capsys.readouterr().err.replace("\n  ", " ")
    assert (
        "scores: not calibrated; measured at step 5, not 1; python -m vatt_tf.evaluate" in printed
    )
    exported = export.load(tmp_path / "models").text
    assert "score_calibration" not in exported.description
    io.update_description(copy, score_calibration={})
    assert servables.uncalibrated(copy).startswith("scores: not calibrated; python -m vatt_tf.eval")
    assert servables.uncalibrated(weights_folder) == ""


def test_quiet(weights_folder, tmp_path, capsys):
    flags = [f"--weights={weights_folder}", f"--out={tmp_path}", "--models=text", "--quiet"]
    assert command.main(flags) == 0
    assert capsys.readouterr() == ("", "") and (tmp_path / "text" / "1").is_dir()


def test_no_run(tmp_path, capsys):
    assert command.main([f"--run_dir={tmp_path}/none", f"--out={tmp_path}/models"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none: no such folder")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out=m"], "the following arguments are required: --run_dir"),
        (["--weights=", "--out=m"], "expected a path, found nothing"),
        (["--run_dir=a"], "required: --out"),
        (["--run_dir=a", "--out=m", "--version=0"], "expected a whole number >= 1, found '0'"),
        (["--run_dir=a", "--out=m", "--models=video,speech"], "expected some of video, audio"),
        (["--run_dir=a", "--out=m", "--modelz=video"], "did you mean --models?"),
    ],
)
def test_wrong_flags(capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        command.main(flags)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_help_needs_no_tensorflow():
    code = (
        "import runpy, sys; sys.argv = ['export', '--help']\n"
        "try: runpy.run_module('vatt_tf.export', run_name='__main__')\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--run_dir" in done.stdout and done.stdout.endswith("False\n")
