"""Gradients of fine-tuning: micro-batches, mixup, class balance."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import tiny_config
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.training.gradients.classification import ClassificationStep

ROWS, CLASSES = 6, 3
KEY = tf.constant([3, 5], tf.int32)


def classifier(multi_label=False, modality="video"):
    keras.utils.set_random_seed(0)
    tower = tiny_config().tower(modality)
    model = build_classifier(ClassifierConfig(modality, tower, CLASSES, multi_label))
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        offset = 1.0 if variable.name in ("gamma", "scale") else 0.0
        variable.assign(offset + 0.4 * rng.normal(size=variable.shape))
    return model


@pytest.fixture
def batch():
    rng = np.random.default_rng(2)
    return {
        "video": tf.constant(rng.integers(0, 256, (ROWS, 4, 16, 16, 3), dtype=np.uint8)),
        "audio": tf.constant(rng.normal(size=(ROWS, 64, 1)), tf.float32),
        "labels": tf.constant(np.eye(CLASSES, dtype="float32")[[0, 1, 2, 0, 0, 1]]),
    }


def run(model, batch, **options):
    step = ClassificationStep(model, **options)
    gradients, metrics = tf.function(step)(batch, KEY)
    return [np.asarray(g) for g in gradients], {n: float(v) for n, v in metrics.items()}


@pytest.mark.parametrize("options", [{}, {"mixup_alpha": 5.0}, {"class_balance": True}])
@pytest.mark.parametrize("multi_label", [False, pytest.param(True, marks=pytest.mark.check)])
def test_micro_batches_add_up(batch, options, multi_label):
    model = classifier(multi_label)
    whole, metrics = run(model, batch, **options)
    parts, sums = run(model, batch, micro_batch_size=2, **options)
    assert metrics == pytest.approx(sums, rel=1e-5)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * max(np.abs(a).max(), 1.0))


def test_the_loss_is_the_mean_cross_entropy(batch):
    model = classifier()
    _, metrics = run(model, batch)
    probabilities = np.asarray(model(batch)["probabilities"], "float64")
    right = (probabilities * batch["labels"].numpy()).sum(-1)
    assert metrics["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    truth = batch["labels"].numpy().argmax(-1)
    assert metrics["top1"] == pytest.approx((probabilities.argmax(-1) == truth).mean())


def test_rare_classes_count_more(batch):
    model = classifier(multi_label=True)
    plain, _ = run(model, batch)
    balanced, metrics = run(model, batch, class_balance=True)
    assert not np.allclose(plain[-1], balanced[-1])
    logits = np.asarray(model(batch)["logits"], "float64")
    labels = batch["labels"].numpy()
    entropies = (np.log1p(np.exp(logits)) - logits * labels).sum(-1)
    weights = (labels / labels.sum(0)).sum(-1)
    assert metrics["loss"] == pytest.approx((weights * entropies).mean(), rel=1e-5)


def test_mixup_mixes_inputs_and_labels_alike(batch):
    """A linear model of linear labels: its loss on mixed clips is that of the mixed inputs."""
    model = classifier(modality="audio")
    step = ClassificationStep(model, mixup_alpha=5.0)
    partners, shares = step._mixture(ROWS, KEY)
    assert sorted(partners.numpy()) == list(range(ROWS))
    assert np.all((shares > 0) & (shares < 1))
    weight = shares.numpy()[:, None]
    sound, labels = batch["audio"].numpy(), batch["labels"].numpy()
    mixed = {
        "audio": tf.constant(weight[..., None] * sound + (1 - weight[..., None]) * sound[partners]),
        "labels": tf.constant(weight * labels + (1 - weight) * labels[partners]),
    }
    expected, _ = run(model, mixed)
    found, _ = run(model, batch, mixup_alpha=5.0)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * max(np.abs(a).max(), 1.0))


def test_the_head_comes_last_and_is_not_clipped():
    step = ClassificationStep(classifier())
    assert [v.path.split("/")[1] for v in step.variables[step.clipped :]] == ["head", "head"]
    assert all("/video/" in v.path for v in step.variables[: step.clipped])


def test_a_micro_batch_that_does_not_divide(batch):
    with pytest.raises(ValueError, match="does not divide the 6 clips"):
        ClassificationStep(classifier(), micro_batch_size=4)(batch, KEY)


def test_clips_without_the_modality_do_not_count(batch):
    model = classifier()
    mask = tf.constant([1.0, 1, 0, 1, 0, 1])
    expected, _ = run(model, {name: tf.boolean_mask(v, mask > 0) for name, v in batch.items()})
    found, metrics = run(model, {**batch, "video_mask": mask})
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * max(np.abs(a).max(), 1.0))
    _, none = run(model, {**batch, "video_mask": tf.zeros(ROWS)})
    assert np.isfinite(metrics["loss"]) and none == {"loss": 0.0, "top1": 0.0}
