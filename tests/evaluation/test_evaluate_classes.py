"""The tasks classify and probe by command, on tiny models and real shards."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from tests.evaluation import tiny_run
from vatt_tf import evaluate
from vatt_tf.evaluation.tasks import registry as tasks


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_classify(classifier_run, labelled_shards, capsys):
    command = [f"--run_dir={classifier_run}", f"--data={labelled_shards}", "--task=classify"]
    assert evaluate.main([*command, "--views=kinetics", "--batch_size=4"]) == 0
    out = capsys.readouterr().out
    assert "classify on" in out and "kinetics: 4 windows x 3 crops" in out
    block = results(classifier_run)["classify"]
    assert block["labels"] == ["class 2", "class 0", "class 1"], "the order of the weights"
    assert block["split"] == "val" and block["step"] == 9 and block["pool_size"] == 6
    assert block["protocol"]["crops"] == 3 and set(block["confidence"]) >= {"top1"}
    # Classes are matched by name: two clips of each, wherever the shards' index stands.
    assert np.array(block["confusion"]).sum(axis=1).tolist() == [2, 2, 2]


def test_the_best_weights_of_a_run(classifier_run, labelled_shards, capsys):
    command = [f"--run_dir={classifier_run}", f"--data={labelled_shards}", "--task=classify"]
    assert evaluate.main([*command, "--checkpoint=best"]) == 2
    assert "has no folder best" in capsys.readouterr().err
    shutil.copytree(classifier_run, classifier_run / "best")
    description = json.loads((classifier_run / "best" / "model.json").read_text())
    (classifier_run / "best" / "model.json").write_text(json.dumps({**description, "step": 5}))
    assert evaluate.main([*command, "--checkpoint=best", "--windows=1", "--limit=4"]) == 0
    block = results(classifier_run)["classify"]
    assert block["step"] == 5 and block["checkpoint"] == "best" and block["clips"] == 4
    assert not (classifier_run / "best" / "results.json").exists()


def test_multi_label_sound(labelled_shards, tmp_path):
    run = tiny_run.save_tiny_classifier(tmp_path / "audio", "audio", multi_label=True)
    block = evaluate.evaluate(str(run), str(labelled_shards), "classify", windows=2, quiet=True)
    assert block["multi_label"] and block["without_positives"] == []
    assert 0 < block["mAP"] <= 1 and "top1" not in block


def test_several_runs_are_compared(classifier_weights, labelled_shards, tmp_path, capsys):
    a, b = (shutil.copytree(classifier_weights, tmp_path / name) for name in "ab")
    flags = [f"--run_dir={a}", f"--run_dir={b}", f"--data={labelled_shards}", "--task=classify"]
    path = tmp_path / "comparison.json"
    assert evaluate.main([*flags, f"--comparison={path}", "--windows=1"]) == 0
    assert capsys.readouterr().out.count("%*") >= 4, "both are the best, in both columns"
    assert list(json.loads(path.read_text())["runs"]) == [str(a), str(b)]
    assert results(a)["classify"]["top1"] == results(b)["classify"]["top1"]


def test_probe_of_a_pretrained_model(tiny_run_dir, labelled_shards, capsys):
    flags = [f"--run_dir={tiny_run_dir}", f"--data={labelled_shards}", "--task=probe"]
    assert evaluate.main([*flags, "--probe=knn,svm", "--shots=1", "--windows=2"]) == 0
    assert "chosen on val" in capsys.readouterr().out
    block = results(tiny_run_dir)["probe"]
    assert block["split"] == "test" and block["train_data"].endswith("/train")
    assert block["val_data"].endswith("/val") and block["modality"] == "video"
    assert block["knn"]["top1"] > 0.6, "the classes differ in brightness"
    assert set(block["few_shot"]) == {"1"} and "logistic" not in block


def test_probe_of_a_classifier_view_by_view(classifier_run, labelled_shards):
    block = evaluate.evaluate(
        str(classifier_run),
        str(labelled_shards / "val"),
        "probe",
        views="esc50",
        probe=("knn",),
        quiet=True,
    )
    assert block["split"] == "val" and "val_data" not in block
    assert block["protocol"]["train_windows"] == 1 and block["protocol"]["windows"] == 4
    assert block["knn"]["chosen_on"] == "4-fold cross-validation on train"


def test_a_probe_refuses_test_clips_that_it_was_fitted_on(tiny_run_dir, labelled_shards, capsys):
    train = labelled_shards / "train"
    flags = [f"--run_dir={tiny_run_dir}", f"--data={train}", f"--train_data={train}"]
    assert evaluate.main([*flags, "--task=probe"]) == 2
    error = capsys.readouterr().err
    assert "video_0.mp4" in error and error.count("\n") == 1
    assert not (tiny_run_dir / "results.json").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--task=retrieval"], "kind 'classifier', but --task=retrieval needs towers"),
        (["--task=classify", "--views=esc50"], "is for --task=probe, the task is classify"),
        (["--task=classify", "--crops=2"], "--crops=2: expected 1"),
        (["--task=classify", "--shots=1"], "--shots belongs to --task=probe"),
        (["--task=probe", "--modality=audio"], "the model reads video only"),
        (["--task=probe", "--probe=tree"], "--probe=tree: expected some of logistic"),
        (["--task=probe", "--shots=0"], "whole number >= 1"),
        (["--task=classify", "--comparison=x.json"], "give --run_dir twice"),
        (["--task=classify", "--run_dir={run}"], "given twice"),
        (["--task=classify", "--labels=absent.txt"], "absent.txt cannot be read"),
    ],
)
def test_mistakes_are_one_line(classifier_run, labelled_shards, flags, message, capsys):
    flags = [flag.format(run=classifier_run) for flag in flags]
    try:
        code = evaluate.main([f"--run_dir={classifier_run}", f"--data={labelled_shards}", *flags])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error
    assert error.splitlines()[-1].startswith("error: ")
    assert not (classifier_run / "results.json").exists()


def test_a_pretrained_model_has_no_classes(tiny_run_dir, labelled_shards, capsys):
    flags = [f"--run_dir={tiny_run_dir}", f"--data={labelled_shards}"]
    assert evaluate.main([*flags, "--task=classify"]) == 2
    assert "kind 'vatt', but --task=classify needs a classifier" in capsys.readouterr().err


def test_class_names_of_weights_that_name_none(labelled_shards, tmp_path, capsys):
    run = tiny_run.save_tiny_classifier(tmp_path / "run", labels=None)
    labels = tmp_path / "labels.txt"
    flags = [f"--run_dir={run}", f"--data={labelled_shards}", "--task=classify", "--windows=1"]
    for content, message in (
        (None, "names no classes; give them with --labels"),
        ("class 0\nclass 1", "2 class names, but the classifier"),
        ("class 0\nclass 1\nzebra", "has the class 'class 2', which is none of the 3 classes"),
    ):
        more = []
        if content is not None:
            labels.write_text(content)
            more = [f"--labels={labels}"]
        assert evaluate.main([*flags, *more]) == 2
        assert message in capsys.readouterr().err


def test_weights_that_name_their_classes_take_no_others(classifier_run, labelled_shards, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("class 0\nclass 1\nclass 2")
    with pytest.raises(tasks.UserError, match="the weights name others or in another order"):
        evaluate.evaluate(
            str(classifier_run), str(labelled_shards), "classify", labels=str(labels), quiet=True
        )
