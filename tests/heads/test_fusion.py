"""Fusion layers against NumPy in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.heads import fusion

WIDTHS = {"video": 5, "audio": 3, "text": 4}


def features(names=("video", "audio", "text"), rows=3):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(rows, WIDTHS[name])).astype("float32") for name in names}


def one_and(values):
    values = np.asarray(values, np.float64)
    return np.concatenate([np.ones((len(values), 1)), values], axis=1)


def products(values):
    """Outer product of [1, x] of each row, in the order audio, text, video: [B, all products]."""
    parts = [one_and(values[name]) for name in sorted(values)]
    rows = [[np.prod(p) for p in itertools.product(*(part[row] for part in parts))]
            for row in range(len(parts[0]))]  # fmt: skip
    return np.array(rows)


class TestConcatenation(LayerTestCase):
    layer_class = fusion.Concatenation

    def inputs(self):
        return features()

    def test_values(self):
        inputs = self.inputs()
        expected = np.concatenate([inputs[name] for name in ("audio", "text", "video")], axis=1)
        np.testing.assert_array_equal(self.make()(inputs), expected)


class TestTensorFusion(LayerTestCase):
    layer_class = fusion.TensorFusion

    def inputs(self):
        return features()

    def test_values(self):
        inputs = self.inputs()
        np.testing.assert_allclose(self.make()(inputs), products(inputs), atol=1e-5)

    def test_a_modality_of_zeros_leaves_the_others(self):
        inputs = features(("video", "audio"))
        inputs["audio"] *= 0
        found = np.asarray(fusion.TensorFusion()(inputs)).reshape(3, 4, 6)
        np.testing.assert_array_equal(found[:, 0, 1:], inputs["video"])
        assert not found[:, 1:].any()

    def test_refuses_too_many_products(self):
        with pytest.raises(ValueError, match="1,050,625 products, at most 1,048,576"):
            fusion.TensorFusion().build({"video": (None, 1024), "audio": (None, 1024)})


class TestProjectedTensorFusion(LayerTestCase):
    layer_class = fusion.TensorFusion
    config = {"dim": 2}

    def inputs(self):
        return features(("video", "text"))

    def test_values(self):
        layer, inputs = self.make(), self.inputs()
        projected = {
            "video": inputs["video"] @ np.asarray(layer.video_projection.kernel),
            "text": inputs["text"] @ np.asarray(layer.text_projection.kernel),
        }
        np.testing.assert_allclose(layer(inputs), products(projected), atol=1e-5)


class TestCompactBilinear(LayerTestCase):
    layer_class = fusion.CompactBilinear
    config = {"dim": 64, "seed": 3}

    def inputs(self):
        return features()

    def explicit_sketch(self, layer, values):
        """Every product into its place: the sum of the places modulo dim, with all signs."""
        names = sorted(values)
        places = [np.asarray(getattr(layer, f"{name}_places"), int) for name in names]
        signs = [np.asarray(getattr(layer, f"{name}_signs")) for name in names]
        assert all(set(np.abs(part)) == {1} for part in signs)
        sketch = np.zeros((len(values[names[0]]), layer.dim))
        for column, place, sign in zip(
            products(values).T, itertools.product(*places), itertools.product(*signs), strict=True
        ):
            sketch[:, sum(place) % layer.dim] += np.prod(sign) * column
        return sketch

    @pytest.mark.parametrize("names", [("video", "audio", "text"), ("video", "audio")])
    @pytest.mark.parametrize("dim", [64, 33])
    def test_is_the_count_sketch_of_the_outer_product(self, names, dim):
        layer, inputs = fusion.CompactBilinear(dim), features(names)
        outputs = layer(inputs)
        sketch = self.explicit_sketch(layer, inputs)
        np.testing.assert_allclose(layer.sketch(inputs), sketch, atol=1e-5)
        root = np.sign(sketch) * np.sqrt(np.abs(sketch))
        expected = root / np.linalg.norm(root, axis=1, keepdims=True)
        np.testing.assert_allclose(outputs, expected, atol=2e-3)

    def test_inner_products_are_those_of_the_outer_products(self):
        """The kernel that the sketch approximates; 16 seeds average its noise."""
        inputs = features(rows=2)
        left, right = products(inputs)
        found = []
        for seed in range(16):
            layer = fusion.CompactBilinear(1024, seed)
            layer.build({name: value.shape for name, value in inputs.items()})
            sketch = np.asarray(layer.sketch(inputs), np.float64)
            found.append((sketch[0] @ sketch[1], sketch[0] @ sketch[0]))
        error = np.abs(np.mean(found, axis=0) - (left @ right, left @ left))
        assert np.all(error < 0.05 * np.linalg.norm(left) * np.linalg.norm(right))

    def test_places_and_signs_depend_on_seed_and_modality(self):
        def places(seed):
            layer = fusion.CompactBilinear(10_000, seed)
            layer.build({"audio": (None, 20), "video": (None, 20)})
            return np.asarray(layer.audio_places), np.asarray(layer.video_places)

        first, second, other = places(0), places(0), places(1)
        np.testing.assert_array_equal(first, second)
        assert np.any(first[0] != first[1]) and np.any(first[0] != other[0])

    def test_a_modality_of_zeros_leaves_the_others(self):
        inputs = features(("video", "audio"))
        inputs["audio"] *= 0
        outputs = fusion.CompactBilinear(64)(inputs)
        assert np.std(outputs, axis=0).max() > 0.01


class TestAveragedHeads(LayerTestCase):
    layer_class = fusion.AveragedHeads
    config = {"num_classes": 4, "dropout_rate": 0.1}

    def inputs(self):
        return features()

    def test_leaves_out_what_a_row_lacks(self):
        layer, inputs = self.make(), self.inputs()
        present = {
            "video": np.array([1, 0, 0], "float32"),
            "audio": np.array([1, 1, 0], "float32"),
            "text": np.array([1, 0, 0], "float32"),
        }
        logits = {
            name: value @ np.asarray(getattr(layer, f"{name}_head").dense.kernel)
            for name, value in inputs.items()
        }
        mean = np.mean(list(logits.values()), axis=0)
        expected = np.stack([mean[0], logits["audio"][1], np.zeros(4)])
        outputs = layer(inputs, present)
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-6)
        np.testing.assert_allclose(outputs["probabilities"][2], 0.25, atol=1e-6)
        np.testing.assert_allclose(layer(inputs)["logits"], mean, atol=1e-6)
