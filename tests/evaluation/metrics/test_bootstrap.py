"""Intervals of known distributions."""

from __future__ import annotations

import numpy as np
import pytest

from vatt_tf.evaluation.metrics.bootstrap import bootstrap, weighted_median


def test_the_interval_of_a_mean_is_the_one_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap({"mean": values}, draws=4000)["mean"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([low, high], [values.mean() - half, values.mean() + half], atol=0.02)


def test_same_seed_same_interval_whatever_the_chunks(monkeypatch):
    values = {"x": np.arange(50.0)}
    whole = bootstrap(values, seed=3)
    assert whole == bootstrap(values, seed=3) != bootstrap(values, seed=4)
    monkeypatch.setattr("vatt_tf.evaluation.metrics.bootstrap._CHUNK", 170)
    assert bootstrap(values, seed=3) == whole


def test_a_function_gets_how_often_each_clip_was_drawn():
    def statistics(weights):
        assert weights.shape[1] == 7 and (weights.sum(axis=1) == 7).all()
        nothing = np.full(len(weights), np.nan)
        some = np.where(np.arange(len(weights)) == 0, np.nan, 1.0)
        return {"nothing": nothing, "some": some}

    assert bootstrap(statistics, 7, draws=20) == {"some": [1.0, 1.0]}


def test_no_clip():
    with pytest.raises(ValueError, match="at least one clip"):
        bootstrap({"x": np.zeros(0)})


@pytest.mark.parametrize("count", [5, 6])
def test_weighted_median_is_the_median_of_the_resample(count):
    generator = np.random.default_rng(count)
    values = generator.normal(size=count)
    drawn = generator.integers(0, count, (30, count))
    weights = np.stack([np.bincount(d, minlength=count) for d in drawn]).astype(float)
    np.testing.assert_allclose(
        weighted_median(values, weights), np.median(values[drawn], axis=1), rtol=1e-12
    )
