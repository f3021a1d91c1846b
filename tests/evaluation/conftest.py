"""A tiny run and its shards, made once."""

from __future__ import annotations

import pytest

from tests.evaluation import tiny_run


@pytest.fixture(scope="session")
def tiny_shards(made_once):
    return made_once("tiny_shards", tiny_run.write_tiny_shards)


@pytest.fixture(scope="session")
def tiny_weights(made_once):
    return made_once("tiny_weights", tiny_run.save_tiny_model)


@pytest.fixture
def tiny_run_dir(tiny_weights, tmp_path):
    """A copy that a test may write to."""
    import shutil

    return shutil.copytree(tiny_weights, tmp_path / "run")


@pytest.fixture(scope="session")
def labelled_shards(made_once):
    splits = {"train": 12, "val": 6, "test": 9}
    return made_once(
        "labelled_shards", lambda folder: tiny_run.write_labelled_shards(folder, splits)
    )


@pytest.fixture(scope="session")
def classifier_weights(made_once):
    return made_once("classifier_weights", tiny_run.save_tiny_classifier)


@pytest.fixture
def classifier_run(classifier_weights, tmp_path):
    """A copy that a test may write to."""
    import shutil

    return shutil.copytree(classifier_weights, tmp_path / "finetuned")
