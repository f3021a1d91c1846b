"""Fixtures that every test may use."""

from __future__ import annotations

import os
import pathlib

import pytest

from vatt_tf import cli

# Quiet and reproducible: set before TensorFlow is imported anywhere.
cli.before_tensorflow()
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Folder of reference material and real data beside the checkout; skips when absent."""
    path = CHECKOUT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the reference material in {path}, which is not there")
    return path


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory) -> pathlib.Path:
    """Weights folder of a tiny model with random weights; read only."""
    from tests.export import tiny

    return tiny.save_weights(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="session")
def exported_models(weights_folder, tmp_path_factory) -> pathlib.Path:
    """Its export, version 1 of video, audio and text; read only."""
    from vatt_tf import export

    folder = tmp_path_factory.mktemp("exported") / "mo[d]els"  # a name that could be a pattern
    export.export_models(weights_folder, folder)
    return folder
