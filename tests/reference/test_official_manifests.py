"""The full-size models' variables, name by name, against the manifests of the released code."""

from __future__ import annotations

import gin
import numpy as np
import pytest

from tests.pretrained.official import read_manifest
from vatt_tf import config
from vatt_tf.models.vatt import abstract_vatt
from vatt_tf.pretrained.official_names import model_keys
from vatt_tf.pretrained.official_vatt import map_variables
from vatt_tf.pretrained.recognise import recognise
from vatt_tf.pretrained.source import SUFFIX

# Manifest -> our configuration, how the checkpoint is described.
MODELS = {
    "bbs": ("models/bbs.gin", "specific VATT (video base, audio base, text small)"),
    "mbs": ("models/mbs.gin", "specific VATT (video medium, audio base, text small)"),
    "lbs": ("models/lbs.gin", "specific VATT (video large, audio base, text small)"),
    "ma_medium": ("models/ma_medium.gin", "agnostic VATT (agnostic medium)"),
    "ma_base": ("models/ma_medium.gin", "agnostic VATT (agnostic base)"),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_variable_has_its_place(name, shared_dir):
    manifest = read_manifest(shared_dir / "reference/official_vatt" / f"variables_{name}.tsv")
    shapes = {key.removesuffix(SUFFIX): shape for key, shape in manifest.items()}
    gin_file, description = MODELS[name]
    config.clear()
    config.import_configurables()
    try:
        config.parse([gin_file], ["agnostic_tower.size = 'base'"] if name == "ma_base" else [])
        given = gin.get_configurable("vatt")()
    finally:
        config.clear()
    found = recognise(shapes, name)
    assert description in found.describe()
    assert found.config(given) == given
    # What is read from the shapes alone is the same model.
    inferred = found.config(None)
    assert inferred.clip() == given.clip()
    mapped, left_out = map_variables(abstract_vatt(given).weights, shapes, model_keys, name)
    assert all(entry.source_rows is None for entry in mapped)
    assert set(left_out.values()) <= {"optimizer state", "describes the file itself"}
    taken = [key for entry in mapped for key in entry.keys]
    assert len(taken) == len(set(taken)) == len(shapes) - len(left_out)
    size = sum(int(np.prod(shapes[key])) for key in taken)
    assert size == sum(int(np.prod(entry.shape)) for entry in mapped)
