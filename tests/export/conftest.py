"""The exported tiny models, loaded once."""

from __future__ import annotations

import pytest

from vatt_tf import export


@pytest.fixture(scope="session")
def models(exported_models):
    return export.load(exported_models)
