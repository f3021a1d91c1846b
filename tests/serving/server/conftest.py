from __future__ import annotations

import pytest

from tests.serving.server import double


@pytest.fixture(scope="session")
def saved(made_once):
    """Folder of the versions of :mod:`double`; read only."""
    return made_once("doubles", double.save)


@pytest.fixture
def models(tmp_path, saved):
    """Export folder with version 1 of the model ``double``."""
    double.put(saved, tmp_path, 1, factor=2)
    return tmp_path
