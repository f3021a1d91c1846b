"""Row (a) of the benchmark's ablation computes what the package computes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.reference.ablation_worker import switch_off
from tests.reference.test_plain_vatt import CONFIG, batch, pair  # noqa: F401
from vatt_tf.models.vatt import build_vatt

# Names of stock layers -> those of the package.
NAMES = {
    "attention/attention_output/": "attention/output/",
    "position_norm/": "positions/layer_norm/",
    "agg_token": "agg_token/embedding",
    "audio/axis_0": "audio/positions/temporal_embeddings",
    "axis_0": "positions/temporal_embeddings",
    "axis_1": "positions/vertical_embeddings",
    "axis_2": "positions/horizontal_embeddings",
}


def value(weight, weights):
    """What the package's weights say of one of the stock towers."""
    path = weight.path
    for stock, ours in NAMES.items():
        path = path.replace(stock, ours)
    for third, name in enumerate(("query", "key", "value")):
        if f"/attention/{name}/" in path:
            fused = weights[path.replace(f"/{name}/", "/qkv/")]
            return np.split(fused.numpy(), 3, axis=-1)[third].reshape(weight.shape)
    return weights[path].numpy().reshape(weight.shape)


@pytest.mark.check
def test_stock_towers_embed_alike(pair, batch, monkeypatch):  # noqa: F811
    model, _ = pair
    inputs, _ = batch
    weights = {w.path.replace("/transformer/", "/"): w for w in model.weights}
    switch_off("a", monkeypatch.setattr)
    stock = build_vatt(CONFIG)
    assert stock.count_params() == model.count_params()
    for weight in stock.weights:
        weight.assign(value(weight, weights))
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        model(inputs),
        stock(inputs),
    )
