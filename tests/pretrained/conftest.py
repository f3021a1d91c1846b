"""Fixtures of the importer's tests."""

from __future__ import annotations

import gin
import pytest

from tests.pretrained import official
from vatt_tf import config


@pytest.fixture
def read_config():
    """Reads the gin file of one of the tiny models; forgets it afterwards."""

    def read(name: str, *bindings: str):
        config.clear()
        config.import_configurables()
        config.parse([str(official.CONFIGS / name)], list(bindings))
        return gin.get_configurable("vatt")()

    yield read
    config.clear()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, str]:
    """Prefix of every small checkpoint, by its name."""
    root = tmp_path_factory.mktemp("official")
    made = {}
    for name in official.CONFIG_OF:
        (root / name).mkdir()
        made[name] = official.write(str(root / name / "ckpt-7"), official.values_of(name))
    return made
