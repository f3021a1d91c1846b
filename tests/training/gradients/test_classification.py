"""Gradients of fine-tuning: micro-batches, mixup, class balance."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import spread, tiny_config
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.training.gradients.classification import (
    ClassificationStep,
    mixing_shares,
    with_mixing_shares,
)
from vatt_tf.training.gradients.contrastive import fold, step_key

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


def two_towers():
    towers = {name: tiny_config().tower(name) for name in ("video", "audio")}
    return spread(build_classifier(MultimodalConfig(**towers, num_classes=CLASSES)), 0)


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


def mixed(batch, masks):
    """A batch after mixup of the clips that are there, in NumPy."""
    draws = tf.random.split(fold(KEY, 1 << 30), 3, alg="philox")
    order = np.argsort(tf.random.stateless_uniform([ROWS], draws[0], alg="philox"))
    there = np.flatnonzero(np.max([*masks.values()], axis=0))
    partners = np.arange(ROWS)
    partners[there] = [row for row in order if row in there]
    share = mixing_shares(ROWS, 5.0, KEY).numpy()
    labels = batch["labels"].numpy()
    found = {"labels": share[:, None] * labels + (1 - share[:, None]) * labels[partners]}
    for name, mask in masks.items():
        value = batch[name].numpy().astype("float32")
        value = value / 127.5 - 1 if name == "video" else value
        own, other = mask, mask[partners]
        part = np.where(own * other, share, own > other).reshape(-1, *[1] * (value.ndim - 1))
        found[name] = part * value + (1 - part) * value[partners]
        found[f"{name}_mask"] = np.maximum(own, other)
    return {name: tf.constant(value, tf.float32) for name, value in found.items()}


@pytest.mark.parametrize(
    "masks",
    [
        {"audio": [1, 1, 1, 1, 1, 1]},
        {"audio": [1, 0, 1, 0, 1, 1]},
        {"video": [1, 0, 1, 0, 1, 1], "audio": [1, 1, 0, 0, 1, 1]},
    ],
)
def test_mixup_mixes_inputs_and_labels_alike(batch, masks):
    """Clips that are there: targets sum to 1; what a clip lacks is its partner's, unmixed."""
    masks = {name: np.array(mask, "float32") for name, mask in masks.items()}
    model = classifier(modality=next(iter(masks))) if len(masks) == 1 else two_towers()
    there = np.max([*masks.values()], axis=0)
    options = {"class_balance": True}
    right = mixed(batch, masks)
    np.testing.assert_allclose(right["labels"].numpy()[there > 0].sum(1), 1, rtol=1e-6)
    expected, loss = run(model, right, **options)
    labels = batch["labels"].numpy()
    labels[there == 0] = [1, 0, 0]  # of clips without any modality
    unread = {name: np.where(mask, 1, 9e9) for name, mask in masks.items() if name == "audio"}
    given = {
        **{f"{name}_mask": tf.constant(mask) for name, mask in masks.items()},
        **{name: batch[name] for name in ("video", "audio")},
        "labels": tf.constant(labels),
    }
    for name, scale in unread.items():
        given[name] *= tf.constant(scale.reshape(-1, 1, 1), tf.float32)
    found, metrics = run(model, given, mixup_alpha=5.0, **options)
    assert metrics == pytest.approx(loss, rel=1e-5)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6 * max(np.abs(a).max(), 1.0))


def test_mixing_shares_of_batches_are_those_of_step_and_replica(batch):
    """Beta(5, 5): mean 1/2, variance 1/44; two replicas of the second worker, from step 3 on."""
    rows = tf.data.Dataset.from_tensors({"record_id": tf.range(4000)}).repeat(4)
    batches = list(with_mixing_shares(rows, 5.0, 7, 3, range(2, 4)))
    shares = [one["mixing_shares"].numpy() for one in batches]
    for share, (step, replica) in zip(shares, [(3, 2), (3, 3), (4, 2), (4, 3)], strict=True):
        key = step_key(7, tf.constant(step), tf.constant(replica))
        np.testing.assert_array_equal(share, mixing_shares(4000, 5.0, key))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.005)
    assert np.var(shares) == pytest.approx(1 / 44, rel=0.05)
    drawn, _ = run(classifier(), batch, mixup_alpha=5.0)
    given, _ = run(
        classifier(), {**batch, "mixing_shares": mixing_shares(ROWS, 5.0, KEY)}, mixup_alpha=5.0
    )
    for a, b in zip(drawn, given, strict=True):
        np.testing.assert_array_equal(a, b)


def test_class_balance_counts_labels_before_smoothing():
    """28 clips of one class and one each of four others: a rare one weighs 28 times as much."""
    truth = np.array([0] * 28 + [1, 2, 3, 4])
    labels = np.eye(5, dtype="float32")[truth]
    keras.utils.set_random_seed(0)
    model = build_classifier(ClassifierConfig("audio", tiny_config().tower("audio"), 5))
    sound = np.random.default_rng(0).normal(size=(32, 64, 1)).astype("float32")
    logits = np.asarray(model({"audio": sound})["logits"], "float64")
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    entropies = -((0.9 * labels + 0.1 / 5) * log_p).sum(1)
    given = {"audio": tf.constant(sound), "labels": tf.constant(labels)}
    _, metrics = run(model, given, label_smoothing=0.1, class_balance=True)
    right = np.mean(entropies / labels.sum(0)[truth])
    assert metrics["loss"] == pytest.approx(right, rel=1e-5)


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
