"""The command, on a real tiny model and real shards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vatt_tf import evaluate
from vatt_tf.models import io


def test_flags_do_not_need_tensorflow():
    code = (
        "import sys; from vatt_tf import evaluate; evaluate.build_parser().format_help(); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_retrieval_with_report_then_zero_shot(tiny_run_dir, tiny_shards, tmp_path, capsys):
    command = [f"--run_dir={tiny_run_dir}", f"--data={tiny_shards}", "--batch_size=4"]
    assert evaluate.main([*command, "--report"]) == 0
    out = capsys.readouterr().out
    assert "text -> video" in out and "1 of 11 clips lack a modality" in out
    results = json.loads((tiny_run_dir / "results.json").read_text())
    block = results["retrieval"]
    assert block["pool_size"] == 10 and block["clips"] == 11 and block["step"] == 7
    assert block["split"] == "val" and block["protocol"]["windows"] == 4
    assert set(block["by_class"]) == {
        "text_to_video",
        "video_to_text",
        "audio_to_video",
        "video_to_audio",
    }
    # Those of the towers come with the report; here they are equally wide.
    assert list(block["silhouette"]) == ["va", "vt", "tokens", "features"]
    assert -1 <= block["silhouette"]["vt"]["mean"] <= 1
    assert block["silhouette"]["features"]["clips"] == 9  # One has no sound, one no caption.
    assert "silhouette by modality" in out
    assert "Examples" in (tiny_run_dir / "report.html").read_text()
    scores = io.read_description(str(tiny_run_dir))["score_calibration"]
    assert "random pairs (text -> video); written:" in out.replace("\n  ", " ")
    assert scores["model_hash"] == io.weights_hash(io.load_model(str(tiny_run_dir)))
    known = (scores["data"], scores["clips"], scores["step"], scores["windows"])
    assert known == ("folder/val", 11, 7, 4)
    assert str(tiny_shards.parent) not in json.dumps(scores), "paths of this machine stay here"
    assert scores["spaces"]["vt"]["text"]["true"]["pairs"] == 10
    # Record 2 has no sound; records with the same caption are no random pairs.
    assert scores["spaces"]["va"]["audio"]["random"]["pairs"] == 76

    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({f"class {i}": [f"number {i}"] for i in range(3)}))
    command += ["--task=zero_shot", f"--prompts={prompts}"]
    assert evaluate.main(command) == 0
    assert "chance 33.3 %" in capsys.readouterr().out
    again = json.loads((tiny_run_dir / "results.json").read_text())
    assert again["retrieval"] == block, "another task leaves the first one alone"
    assert again["zero_shot"]["prompts"] == {f"class {i}": [f"number {i}"] for i in range(3)}

    assert evaluate.main([*command, "--limit=4"]) == 0
    assert '(under "limited": the full result of before stays)' in capsys.readouterr().out
    last = json.loads((tiny_run_dir / "results.json").read_text())
    limited = last.pop("limited")["zero_shot"]
    assert limited["clips"] == 4 and limited["limit"] == 4
    assert last == again
    assert evaluate.main([*command, "--limit=4", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert evaluate.main(command) == 0
    out = capsys.readouterr().out
    assert "trained on   unknown data\nevaluated on " in out
    last = json.loads((tiny_run_dir / "results.json").read_text())
    assert last["history"] == [again["zero_shot"]]
    assert last["zero_shot"]["trained_on"] == []
    assert last["zero_shot"]["evaluated_on"] == [{"path": str(tiny_shards)}]


@pytest.mark.check
def test_batch_size_does_not_change_the_numbers(tiny_run_dir, tiny_shards):
    def numbers(batch_size):
        block = evaluate.evaluate(
            str(tiny_run_dir), str(tiny_shards / "val"), batch_size=batch_size, quiet=True
        )
        return {name: block[name]["MnR"] for name in block if "_to_" in name}

    assert numbers(3) == numbers(16)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"--run_dir": "absent"}, "no such folder"),
        ({"--data": "absent"}, "no such folder"),
        ({"--task": "prob"}, "invalid choice: 'prob'"),
        ({"--windows": "0"}, "whole number >= 1"),
        ({"--batchsize": "1"}, "did you mean --batch_size?"),
        ({"--prompts": "x.txt"}, "belongs to --task=zero_shot"),
        ({"--task": "zero_shot", "--prompts": "x.txt"}, "x.txt: no such file"),
    ],
)
def test_mistakes_are_one_line(tiny_run_dir, tiny_shards, change, message, capsys):
    flags = {"--run_dir": tiny_run_dir, "--data": tiny_shards, **change}
    try:
        code = evaluate.main([f"{name}={value}" for name, value in flags.items()])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tiny_run_dir / "results.json").exists()


def test_prompts_that_do_not_fit_the_labels(tiny_run_dir, tiny_shards, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("class 0\nclass 1\nzebra\n")
    flags = [f"--run_dir={tiny_run_dir}", f"--data={tiny_shards}", "--task=zero_shot"]
    assert evaluate.main([*flags, f"--prompts={prompts}"]) == 2
    error = capsys.readouterr().err
    assert "does not have: 'zebra'. The data has: 'class 0', 'class 1', 'class 2'" in error


def test_results_that_cannot_be_read_are_not_overwritten(tiny_run_dir, tiny_shards, capsys):
    (tiny_run_dir / "results.json").write_text("{broken")
    flags = [f"--run_dir={tiny_run_dir}", f"--data={tiny_shards}"]
    assert evaluate.main(flags) == 2
    assert "not readable as JSON" in capsys.readouterr().err
    assert (tiny_run_dir / "results.json").read_text() == "{broken"
