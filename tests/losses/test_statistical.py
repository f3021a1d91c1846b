"""Statistical regularisation against NumPy in float64 and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tests.losses.test_any_batch import any_of, batches
from vatt_tf.errors import UserError
from vatt_tf.losses import statistical
from vatt_tf.losses.objective import ObjectiveConfig

BATCH, TEXTS, WIDTH = 10, 3, 4


def batch(seed=0, apart=1.0):
    """Three modalities of which some rows are missing, at different places and scales."""
    rng = np.random.default_rng(seed)
    clips = rng.normal(size=(BATCH, WIDTH))
    shift = apart * rng.normal(size=(3, WIDTH))
    texts = clips[:, None] + 0.3 * rng.normal(size=(BATCH, TEXTS, WIDTH))
    activations = {
        "video": clips + shift[0],
        "audio": 1.5 * clips + shift[1],
        "text": 0.7 * texts + shift[2],
    }
    masks = {
        "video": np.ones(BATCH, "float32"),
        "audio": (np.arange(BATCH) % 4 > 0).astype("float32"),
        "text": (rng.random((BATCH, TEXTS)) < 0.7).astype("float32"),
    }
    masks["text"][5] = 0
    return {name: value.astype("float32") for name, value in activations.items()}, masks


def present(activations, masks):
    """Rows that are there, float64 [n, d], by modality."""
    return {m: x.astype(np.float64)[masks[m] > 0] for m, x in activations.items()}


def mixture(components=3, seed=1):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.2, 1, components)
    means = rng.normal(size=(components, WIDTH))
    return means, rng.uniform(0.3, 2, (components, WIDTH)), weights / weights.sum()


def log_density(x, mean, variance):
    return sum(
        -0.5 * (np.log(2 * np.pi * variance[u]) + (x[u] - mean[u]) ** 2 / variance[u])
        for u in range(len(x))
    )


def numpy_standardise(activations, masks):
    rows = [x for x in present(activations, masks).values() if len(x)]
    mean = np.mean([x.mean(axis=0) for x in rows], axis=0)
    variance = np.mean([((x - mean) ** 2).mean(axis=0) for x in rows], axis=0)
    return {
        m: np.where(masks[m][..., None] > 0, (x - mean) / np.sqrt(variance + 1e-5), 0)
        for m, x in activations.items()
    }


def numpy_moments(activations, masks):
    rows = present(activations, masks).values()
    loss = 0.0
    for a, b in itertools.combinations([x for x in rows if len(x) > 1], 2):
        for u in range(a.shape[1]):
            loss += (a[:, u].mean() - b[:, u].mean()) ** 2 / a.shape[1]
            loss += (a[:, u].var() - b[:, u].var()) ** 2 / a.shape[1]
    return loss


def numpy_likelihood(activations, masks, means, variances, weights):
    losses = []
    for rows in (x for x in present(activations, masks).values() if len(x)):
        values = [
            logsumexp(
                [np.log(w) + log_density(x, m, v)
                 for m, v, w in zip(means, variances, weights, strict=True)]
            )
            for x in rows
        ]  # fmt: skip
        losses.append(-np.mean(values))
    return np.mean(losses) if len(losses) > 1 else 0.0


def numpy_em(activations, masks, means, variances, weights, steps, least):
    """The same mixture by loops over clips, modalities, captions and components."""
    counts = {m: mask.sum() for m, mask in masks.items()}
    for _ in range(steps):
        belongs = np.zeros((BATCH, len(weights)))
        for i in range(BATCH):
            joint = np.log(weights)
            for m, x in activations.items():
                rows = np.atleast_2d(x[i])[np.atleast_1d(masks[m][i]) > 0]
                for k in range(len(weights)):
                    if len(rows):
                        joint[k] += np.mean([log_density(r, means[k], variances[k]) for r in rows])
            belongs[i] = np.exp(joint - logsumexp(joint))
        sizes, first, second = (np.zeros((len(weights), 1 if n == 0 else WIDTH)) for n in range(3))
        for m, x in activations.items():
            for i in range(BATCH):
                for row, there in zip(np.atleast_2d(x[i]), np.atleast_1d(masks[m][i]), strict=True):
                    share = there * belongs[i][:, None] / counts[m] / len(activations)
                    sizes += share
                    first += share * row
                    second += share * row**2
        means = first / sizes
        variances = np.maximum(second / sizes - means**2, least)
        weights = sizes[:, 0] / sizes.sum()
    return means, variances, weights


class TestMomentMatching:
    def test_against_loops(self):
        activations, masks = batch()
        found = float(statistical.moment_matching(activations, masks))
        assert found == pytest.approx(numpy_moments(activations, masks), rel=1e-5)

    def test_closed_form(self):
        signs = np.array([[1.0], [-1.0]]) * np.ones((2, 5))
        # Means 0 and 3, variances 1 and 4: 3^2 + 3^2 for every unit.
        activations = {"video": signs, "audio": 3.0 + 2.0 * signs}
        masks = {"video": np.ones(2), "audio": np.ones(2)}
        assert float(statistical.moment_matching(activations, masks)) == pytest.approx(18.0)
        activations["audio"] = signs[::-1].copy()
        assert float(statistical.moment_matching(activations, masks)) == 0.0

    def test_one_row_has_no_variance(self):
        activations, masks = batch()
        masks["audio"] = np.eye(BATCH)[0]
        del activations["text"]
        assert float(statistical.moment_matching(activations, masks)) == 0.0


class TestMixture:
    def test_likelihood_against_loops(self):
        activations, masks = batch()
        found = statistical.mixture_likelihood(activations, masks, *mixture())
        expected = numpy_likelihood(activations, masks, *mixture())
        assert float(found) == pytest.approx(expected, rel=1e-5)

    def test_likelihood_of_one_gaussian(self):
        activations, masks = batch()
        mean, variance = np.full(WIDTH, 0.5), np.full(WIDTH, 2.0)
        rows = present(activations, masks).values()
        gaussian = multivariate_normal(mean, np.diag(variance))
        expected = -np.mean([gaussian.logpdf(x).mean() for x in rows])
        one = (mean[None], variance[None], np.ones(1))
        found = statistical.mixture_likelihood(activations, masks, *one)
        assert float(found) == pytest.approx(expected, rel=1e-5)

    def test_likelihood_far_from_the_origin(self):
        """Differences of large squares must not eat the digits."""
        activations, masks = batch()
        means, variances, weights = mixture()
        far = {name: value + 1000.0 for name, value in activations.items()}
        found = statistical.mixture_likelihood(far, masks, means + 1000.0, variances, weights)
        expected = numpy_likelihood(far, masks, means + 1000.0, variances, weights)
        assert float(found) == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("steps", [1, 4])
    def test_em_against_loops(self, steps):
        activations, masks = batch()
        found = statistical.fit_mixture(activations, masks, *mixture(), steps, 0.01)
        expected = numpy_em(activations, masks, *mixture(), steps, 0.01)
        for left, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)

    def test_one_component_is_the_mean_and_variance_of_all(self):
        activations, masks = batch()
        rows = present(activations, masks).values()
        mean = np.mean([x.mean(axis=0) for x in rows], axis=0)
        variance = np.mean([((x - mean) ** 2).mean(axis=0) for x in rows], axis=0)
        means, variances, weights = statistical.fit_mixture(activations, masks, *mixture(1))
        np.testing.assert_allclose(means[0], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variances[0], variance, rtol=1e-5)
        np.testing.assert_allclose(weights, [1.0])

    def test_components_hold_all_modalities(self):
        """However far apart they lie: a component of one modality would ask nothing of it."""
        activations, masks = batch(apart=30.0)
        masks = {name: np.ones_like(mask) for name, mask in masks.items()}
        values = statistical.standardise(activations, masks)
        start = statistical.start_of_mixture(values, masks, 2)
        means, _, _ = statistical.fit_mixture(values, masks, *start)
        centres = [np.asarray(x).reshape(-1, WIDTH).mean(axis=0) for x in values.values()]
        for mean in np.asarray(means):
            nearest = min(np.linalg.norm(mean - centre) for centre in centres)
            assert np.linalg.norm(mean) < 0.5 * nearest  # 0 is the middle of the modalities.

    def test_an_empty_component_stays(self):
        activations, masks = batch()
        means, variances, weights = mixture()
        means[1] = 1e3
        found = statistical.fit_mixture(activations, masks, means, variances, weights)
        np.testing.assert_allclose(found[0][1], means[1])
        np.testing.assert_allclose(found[1][1], variances[1], rtol=1e-6)
        assert float(found[2][1]) < 1e-5 and float(sum(found[2])) == pytest.approx(1.0)

    def test_start_is_evenly_spaced_clips(self):
        activations, masks = batch()
        means, variances, weights = statistical.start_of_mixture(activations, masks, 2)
        for mean, clip in zip(np.asarray(means), (2, 7), strict=True):
            parts = [np.atleast_2d(x[clip])[np.atleast_1d(masks[m][clip]) > 0]
                     for m, x in activations.items()]  # fmt: skip
            expected = np.mean([part.mean(axis=0) for part in parts if len(part)], axis=0)
            np.testing.assert_allclose(mean, expected, rtol=1e-5)
        np.testing.assert_array_equal(variances, np.ones((2, WIDTH)))
        np.testing.assert_array_equal(weights, [0.5, 0.5])
        many, _, _ = statistical.start_of_mixture(activations, masks, 40)  # more than clips
        assert np.all(np.isfinite(many))


def test_standardise():
    activations, masks = batch()
    found = statistical.standardise(activations, masks)
    for name, expected in numpy_standardise(activations, masks).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


class TestStatisticalLoss:
    def loss(self, activations, masks, kind, components=3):
        return statistical.statistical_loss(activations, masks, kind, components)

    def gradients(self, activations, masks, kind):
        values = {name: tf.constant(value) for name, value in activations.items()}
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = self.loss(values, masks, kind)
        return float(loss), tape.gradient(loss, values)

    def test_against_numpy(self):
        activations, masks = batch()
        values = numpy_standardise(activations, masks)
        found = float(self.loss(activations, masks, "moments"))
        assert found == pytest.approx(numpy_moments(values, masks), rel=1e-4)
        start = [np.asarray(x, np.float64)
                 for x in statistical.start_of_mixture(values, masks, 3)]  # fmt: skip
        fitted = numpy_em(values, masks, *start, statistical.EM_STEPS, statistical.LEAST_VARIANCE)
        expected = numpy_likelihood(values, masks, *fitted) / WIDTH
        assert float(self.loss(activations, masks, "mixture")) == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("kind", statistical.STATISTICS)
    @pytest.mark.parametrize("ends", [(5,), (3, 7)])
    def test_shares_of_replicas_add_up(self, kind, ends):
        """Value and gradients, for rows gathered from replicas of any size."""
        activations, masks = batch()
        expected, gradients = self.gradients(activations, masks, kind)
        parts = {
            name: [tf.constant(part) for part in np.split(value, ends)]
            for name, value in activations.items()
        }
        total = 0.0
        sums = {name: [np.zeros(p.shape) for p in ps] for name, ps in parts.items()}
        for replica in range(len(ends) + 1):
            with tf.GradientTape() as tape:
                tape.watch(parts)
                gathered = {name: tf.concat(value, axis=0) for name, value in parts.items()}
                share = parts["video"][replica].shape[0] / BATCH
                loss = share * self.loss(gathered, masks, kind)
            total += float(loss)
            for name, asked in tape.gradient(loss, parts).items():
                for place, gradient in enumerate(asked):
                    sums[name][place] += gradient.numpy()
        assert total == pytest.approx(expected, rel=1e-6)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(np.concatenate(sums[name]), gradient, atol=1e-6)

    @pytest.mark.parametrize("kind", statistical.STATISTICS)
    def test_it_does_not_fall_by_shrinking_everything(self, kind):
        activations, masks = batch()
        loss, gradients = self.gradients(activations, masks, kind)
        large = {name: 50.0 * value + 7.0 for name, value in activations.items()}
        assert float(self.loss(large, masks, kind)) == pytest.approx(loss, rel=1e-3)
        along = sum(np.sum(g.numpy() * activations[name]) for name, g in gradients.items())
        assert abs(along) < 1e-4

    @pytest.mark.parametrize("kind", statistical.STATISTICS)
    def test_its_gradient_draws_the_modalities_together(self, kind):
        activations, masks = batch(apart=3.0)
        _, gradients = self.gradients(activations, masks, kind)
        moved = {n: x - 0.1 * gradients[n].numpy() for n, x in activations.items()}
        assert numpy_moments(moved, masks) < numpy_moments(activations, masks)
        near, _ = batch(apart=0.0)
        assert float(self.loss(near, masks, kind)) < float(self.loss(activations, masks, kind))

    @pytest.mark.parametrize("kind", statistical.STATISTICS)
    def test_one_modality_costs_nothing(self, kind):
        activations, masks = batch()
        alone = {"video": activations["video"]}
        assert float(self.loss(alone, masks, kind)) == 0.0
        masks = {"video": masks["video"], "audio": np.zeros(BATCH), "text": 0 * masks["text"]}
        for value in (masks, {name: 0 * mask for name, mask in masks.items()}):
            loss, gradients = self.gradients(activations, value, kind)
            assert loss == 0.0
            for gradient in gradients.values():
                np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))

    @pytest.mark.parametrize("kind", statistical.STATISTICS)
    def test_what_is_missing_is_not_read(self, kind):
        activations, masks = batch()
        expected, _ = self.gradients(activations, masks, kind)
        for name, value in activations.items():
            value[masks[name] == 0] = np.nan
        loss, gradients = self.gradients(activations, masks, kind)
        assert loss == expected
        for name, gradient in gradients.items():
            assert np.all(gradient.numpy()[masks[name] == 0] == 0)
            assert np.all(np.isfinite(gradient))

    def test_float32_under_every_policy(self):
        activations, masks = batch()
        half = {name: tf.cast(value, tf.bfloat16) for name, value in activations.items()}
        for kind in statistical.STATISTICS:
            loss = self.loss(half, masks, kind)
            assert loss.dtype == tf.float32
            exact = float(self.loss(activations, masks, kind))
            assert float(loss) == pytest.approx(exact, rel=0.02)

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="kind='cca'"):
            self.loss(*batch(), "cca")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistics_weight": -1.0}, "statistics_weight=-1.0: expected a number of at least 0"),
        ({"statistics": "cca"}, "statistics='cca': expected one of moments, mixture"),
        ({"mixture_components": 0}, "mixture_components=0: expected a whole number"),
        ({"mixture_components": 2.0}, "mixture_components=2.0: expected a whole number"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(UserError, match=f"contrastive_loss.{message}"):
        ObjectiveConfig(**change)


def test_towers_of_different_widths():
    widths = {"video": 768, "audio": 768, "text": 512}
    ObjectiveConfig().check_widths(widths)
    config = ObjectiveConfig(statistics_weight=0.1)
    config.check_widths({**widths, "text": 768})
    with pytest.raises(UserError, match=r"widths differ \(video 768, audio 768, text 512\)"):
        config.check_widths(widths)


@any_of(4, case=batches(), kind=st.sampled_from(statistical.STATISTICS))
def test_any_batch(case, kind):
    activations, masks, garbage = case
    if any(mask.any() for mask in masks.values()):
        values = numpy_standardise(activations, masks)
        if kind == "moments":
            found = float(statistical.statistical_loss(activations, masks, kind))
            expected = numpy_moments(values, masks)
        else:
            means, variances, weights = mixture()
            width = values["video"].shape[1]
            given = (values, masks, means[:, :width], variances[:, :width], weights)
            found = float(statistical.mixture_likelihood(*given))
            expected = numpy_likelihood(*given)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    found, again = (
        float(statistical.statistical_loss(x, masks, kind, 2)) for x in (activations, garbage)
    )
    assert found == again and np.isfinite(found)
