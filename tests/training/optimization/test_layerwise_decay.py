"""Learning rates of single layers."""

import types

import pytest

from tests.models import test_convolutional as conv
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.vatt import abstract
from vatt_tf.training.optimization.layerwise_decay import layerwise_multipliers

PATHS = {
    "classifier/video/patch_embedding/kernel": 3,
    "classifier/video/agg_token/embedding": 3,
    "classifier/video/positions/layer_norm/gamma": 3,
    "classifier/video/transformer/block_0/mlp_output/kernel": 2,
    "classifier/video/transformer/block_1/mlp_output/kernel": 1,
    "classifier/video/transformer/final_norm/gamma": 1,
    "classifier/audio/transformer/block_0/mlp_output/kernel": 1,
    "classifier/audio/patch_embedding/kernel": 2,
}


def test_lower_layers_learn_more_slowly():
    paths = [*PATHS, "classifier/head/dense/kernel"]
    variables = [types.SimpleNamespace(path=path) for path in paths]
    rates = layerwise_multipliers(variables, len(PATHS), 0.5)
    assert rates == pytest.approx([0.5**n for n in PATHS.values()] + [1.0])
    assert layerwise_multipliers(variables, len(PATHS), 1.0) == [1.0] * len(paths)


RESNET = {"stem": 5, "unit_0": 4, "unit_1": 3, "unit_2": 2, "unit_3": 1, "norm": 1}
S3D = {"conv_1a": 5, "conv_2": 4, "mixed_3": 3, "mixed_4": 2, "mixed_5": 1}


@pytest.mark.parametrize(
    ("tower", "stages"), [(conv.TSM, RESNET), (conv.S3D, S3D), (conv.SOUND, RESNET)]
)
def test_each_stage_of_a_convolutional_tower_has_its_rate(tower, stages):
    config = ClassifierConfig(tower.modality, tower, 3)
    model = abstract(lambda: build_classifier(config))
    variables = [*model.tower_variables, *model.head_variables]
    rates = layerwise_multipliers(variables, len(model.tower_variables), 0.5)
    names = [variable.path.split("/")[2] for variable in variables]
    for stage, distance in stages.items():
        found = {rate for name, rate in zip(names, rates, strict=True) if name.startswith(stage)}
        assert found == {0.5**distance}, stage
    assert rates[-2:] == [1.0, 1.0]
