"""The heads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from tests.models import tiny
from vatt_tf.heads.common_space import (
    DisjointHead,
    FACHead,
    ReluProjection,
    SharedHead,
    VideoProjection,
)
from vatt_tf.heads.config import HeadConfig
from vatt_tf.models.vatt import build_vatt


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def features():
    return {"video": random(6, 5), "audio": random(6, 4, seed=1), "text": random(6, 3, 7, seed=2)}


def batch_norm(values, axes=0):
    return (values - values.mean(axes)) / np.sqrt(values.var(axes) + 1e-5)


def kernel(layer):
    return np.asarray(layer.kernel)


class TestVideoProjection(LayerTestCase):
    layer_class = VideoProjection
    config = {"width": 6}

    def inputs(self):
        return random(6, 5)

    def test_training_and_moving_statistics(self):
        layer, inputs = self.make(), self.inputs()
        hidden = inputs @ kernel(layer.hidden)
        expected = np.maximum(batch_norm(hidden), 0) @ kernel(layer.projection)
        np.testing.assert_allclose(layer(inputs, training=True), batch_norm(expected), atol=1e-3)
        # Momentum 0.9, biased variance.
        np.testing.assert_allclose(
            layer.hidden_norm.moving_mean, 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            layer.hidden_norm.moving_variance, 0.9 + 0.1 * hidden.var(0), rtol=1e-4
        )


class TestReluProjection(LayerTestCase):
    layer_class = ReluProjection
    config = {"width": 6}

    def inputs(self):
        return random(4, 3, 5)

    def test_statistics_over_all_rows(self):
        layer, inputs = self.make(), self.inputs()
        rows = np.maximum(inputs.reshape(-1, 5), 0) @ kernel(layer.projection)
        expected = batch_norm(rows).reshape(4, 3, 6)
        np.testing.assert_allclose(layer(inputs, training=True), expected, atol=1e-4)

    def test_statistics_of_the_rows_that_are_there(self):
        layer, inputs = self.make(), self.inputs()
        mask = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]], "float32")
        there = mask > 0
        rows = np.maximum(inputs[there], 0) @ kernel(layer.projection)
        inputs[~there] = 1e3
        found = np.asarray(layer(inputs, training=True, mask=mask))
        np.testing.assert_allclose(found[there], batch_norm(rows), atol=1e-4)
        np.testing.assert_allclose(layer.norm.moving_mean, 0.1 * rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(layer.norm.moving_variance, 0.9 + 0.1 * rows.var(0), rtol=1e-5)


class _HeadTests(LayerTestCase):
    def inputs(self):
        return features()

    def test_any_subset_of_the_modalities(self):
        head = self.make()
        everything = head(features())
        for modality in ("video", "audio", "text"):
            alone = head({modality: features()[modality]})
            for space, embeddings in alone.items():
                assert set(embeddings) <= {modality}
                for value in embeddings.values():
                    np.testing.assert_allclose(value, everything[space][modality], rtol=1e-5)

    def test_one_text_per_clip(self):
        head = self.make()
        one = head({"text": features()["text"][:, 0]})
        many = head({"text": features()["text"]})
        for space in one:
            if "text" in one[space]:
                np.testing.assert_allclose(
                    one[space]["text"], np.asarray(many[space]["text"])[:, 0], rtol=1e-4, atol=1e-5
                )

    def test_a_model_without_text_has_no_branch_for_it(self):
        head = self.layer_class(**self.config, name="layer")
        head.build({"video": (None, 5), "audio": (None, 4)})
        assert not any("text" in variable.path for variable in head.variables)
        assert {"video", "audio"} == {m for parts in head(_no_text()).values() for m in parts}


def _no_text():
    return {modality: features()[modality] for modality in ("video", "audio")}


class TestFACHead(_HeadTests):
    layer_class = FACHead
    config = {"va_dim": 6, "vt_dim": 3}

    def test_structure(self):
        head = self.make()
        spaces = head(features())
        va = spaces["va"]["video"]
        np.testing.assert_allclose(head.va_to_vt(va), spaces["vt"]["video"], rtol=1e-5)
        dense = features()["audio"] @ kernel(head.audio_to_va)
        np.testing.assert_allclose(spaces["va"]["audio"], dense, rtol=1e-4, atol=1e-6)
        biases = [v.path for v in head.weights if v.path.endswith("/bias")]
        assert biases == ["layer/audio_to_va/bias", "layer/text_to_vt/bias"]


class TestDisjointHead(_HeadTests):
    layer_class = DisjointHead
    config = {"va_dim": 6, "vt_dim": 3}

    def test_spaces_share_nothing(self):
        head = self.make()
        before = np.asarray(head(features())["vt"]["video"])
        for variable in head.video_to_va.weights:
            variable.assign(variable + 1.0)
        np.testing.assert_array_equal(head(features())["vt"]["video"], before)


class TestSharedHead(_HeadTests):
    layer_class = SharedHead
    config = {"vat_dim": 6}

    def test_one_space(self):
        spaces = self.make()(features())
        assert set(spaces) == {"vat"} and set(spaces["vat"]) == {"video", "audio", "text"}


@pytest.mark.parametrize("kind", ["fac", "disjoint", "shared", "mmv_fac", "mmv_shared"])
def test_what_is_missing_does_not_change_the_others(kind):
    """With ``masked_statistics``; without it the released behaviour, in which it does."""
    masks = {"video": [1, 1, 1, 0, 1, 1], "audio": [1, 0, 1, 1, 0, 1]}
    masks = {name: np.array(mask, "float32") for name, mask in masks.items()}
    masks["text"] = (np.eye(6, 3) + np.eye(6, 3, -3)).astype("float32")
    shapes = {"video": (6, 16), "audio": (6, 16), "text": (6, 3, 16)}
    given = {name: random(*shape, seed=len(name)) for name, shape in shapes.items()}
    other = {name: values.copy() for name, values in given.items()}
    for name, values in other.items():
        values[masks[name] == 0] = 50.0
    for masked in (True, False):
        head = HeadConfig(kind, masked_statistics=masked)
        model = build_vatt(dataclasses.replace(tiny.specific(), head=head))
        one, two = (model.project(v, training=True, masks=masks) for v in (given, other))
        same = [
            np.allclose(
                np.asarray(value)[masks[name] > 0],
                np.asarray(two[space][name])[masks[name] > 0],
                atol=1e-5,
            )
            for space, members in one.items()
            for name, value in members.items()
        ]
        assert all(same) == masked
