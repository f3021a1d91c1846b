"""Learning rates of single layers."""

import types

import pytest

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
