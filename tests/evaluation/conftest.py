"""A tiny run and its shards, made once."""

from __future__ import annotations

import pytest

from tests.evaluation import tiny_run


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory):
    return tiny_run.write_tiny_shards(tmp_path_factory.mktemp("tiny") / "shards")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    return tiny_run.save_tiny_model(tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture
def tiny_run_dir(tiny_weights, tmp_path):
    """A copy that a test may write to."""
    import shutil

    return shutil.copytree(tiny_weights, tmp_path / "run")


@pytest.fixture(scope="session")
def labelled_shards(tmp_path_factory):
    return tiny_run.write_labelled_shards(
        tmp_path_factory.mktemp("labelled") / "shards", {"train": 12, "val": 6, "test": 9}
    )


@pytest.fixture(scope="session")
def classifier_weights(tmp_path_factory):
    return tiny_run.save_tiny_classifier(tmp_path_factory.mktemp("classifier") / "weights")


@pytest.fixture
def classifier_run(classifier_weights, tmp_path):
    """A copy that a test may write to."""
    import shutil

    return shutil.copytree(classifier_weights, tmp_path / "finetuned")
