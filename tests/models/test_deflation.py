"""Image networks from video networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.layers.layer_test_case import randomise
from tests.models import tiny
from tests.models.test_convolutional import S3D, TSM, mmv
from vatt_tf.errors import UserError
from vatt_tf.layers.batch_norm import BatchNormalization
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.deflation import deflate, normalisations
from vatt_tf.models.vatt import build_vatt
from vatt_tf.training.tasks import deflation

MODELS = {
    "s3d": lambda: build_vatt(mmv(S3D)),
    "tsm_resnet": lambda: build_vatt(mmv(TSM)),
    "transformer": lambda: build_vatt(tiny.specific()),
    "agnostic": lambda: build_vatt(tiny.agnostic()),
    "classifier": lambda: build_classifier(ClassifierConfig("video", TSM, 4)),
}


def images(count, height=32, width=48):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype("uint8")


def with_statistics(model, shown, frames):
    """Gives BatchNorm the statistics of some clips: at the start features all but vanish."""
    tower = model.towers["video"]
    norms = [x for x in tower._flatten_layers() if isinstance(x, BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    tower(np.repeat(shown[:8, None], frames, axis=1), training=True)
    for norm in norms:
        norm.momentum = 0.9
    return model


def values(weights):
    return {weight.path: np.array(weight) for weight in weights}


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_it_reads_images_and_keeps_all_other_weights(kind):
    keras.utils.set_random_seed(0)
    model = MODELS[kind]()
    image = deflate(model)
    tower = image.towers["video"]
    size = (16, 24) if kind in ("transformer", "agnostic") else (32, 48)
    assert tower(images(2, *size)[:, None])["features_pooled"].shape == (2, tower.output_dim)
    before, after = values(model.weights), values(image.weights)
    assert before.keys() == after.keys()
    changed = [path for path in before if before[path].shape != after[path].shape]
    if kind in ("tsm_resnet", "classifier"):  # Their shift also orders channels.
        video = [weight.path for weight in model.towers["video"].weights]
        changed += [path for path in video if path.endswith("conv_0/kernel")]
    assert all("/video/" in f"/{path}" for path in changed)
    for path in before.keys() - set(changed):
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    with pytest.raises(UserError, match="single images already"):
        deflate(image)


def test_shifts_are_off():
    image = deflate(MODELS["tsm_resnet"]())
    assert image.config.video.shift is False and image.config.video.frames == 1
    tower, two = image.towers["video"], images(2)
    alone = [tower(one[None, None])["features_pooled"] for one in two]
    clip = tower(two[None])["features"]
    for number, one in enumerate(alone):
        pooled = np.mean(np.array(clip)[:, number], axis=(1, 2))
        np.testing.assert_allclose(pooled, one, rtol=1e-4, atol=1e-5)


def test_far_from_its_ends_a_still_clip_is_its_image():
    """Naive deflation is exact where no frame beyond the clip is seen (four blocks: one each)."""
    keras.utils.set_random_seed(0)
    shown = images(2, 32, 32)
    model = with_statistics(MODELS["tsm_resnet"](), shown, frames=4)
    clip = np.repeat(shown[:, None], 20, axis=1)
    features = np.array(model.towers["video"](clip)["features"])
    image = np.array(deflate(model).towers["video"](shown[:, None])["features"])
    scale = np.abs(image).max()
    assert scale > 0.1
    for frame in range(4, 16):
        np.testing.assert_allclose(features[:, frame], image[:, 0], atol=1e-5 * scale)
    assert np.abs(features[:, 3] - image[:, 0]).max() > 1e-3 * scale


def test_patches_of_a_still_clip_and_of_its_image_are_the_same_tokens():
    model = MODELS["transformer"]()
    randomise(model.towers["video"].weights)
    image = deflate(model)
    still = np.repeat(images(1, 16, 24)[:, None], 4, axis=1)
    tokens = model.towers["video"].patch_embedding(still)
    of_image = image.towers["video"].patch_embedding(still[:, :1])
    np.testing.assert_allclose(np.array(tokens)[:, :6], of_image, rtol=1e-4, atol=1e-5)
    table = model.towers["video"].positions.weights[0]
    pooled = image.towers["video"].positions.weights[0]
    np.testing.assert_allclose(np.mean(table, axis=0, keepdims=True), pooled, rtol=1e-5)


@pytest.mark.parametrize("kind", [pytest.param("s3d", marks=pytest.mark.check), "tsm_resnet"])
def test_the_fit_comes_closer_and_changes_scales_and_offsets_alone(kind):
    keras.utils.set_random_seed(0)
    shown = images(48)
    model = with_statistics(MODELS[kind](), shown, frames=4)
    image = deflate(model)
    tower = image.towers["video"]
    targets = deflation.still_features(model.towers["video"], shown, frames=4)
    before = values(image.weights)
    arguments = {"held_out": 8, "batch_size": 20, "learning_rate": 0.005, "seed": 0}
    found = deflation.fit(tower, shown, targets, steps=40, **arguments)
    assert found.learned < 0.9 * found.naive
    assert len(found.losses) == 40 and found.losses[-1] < found.losses[0]
    fitted = {weight.path for weight in normalisations(tower)}
    assert fitted
    for path, value in values(image.weights).items():
        assert np.array_equal(value, before[path]) == (path not in fitted), path


@pytest.mark.check
def test_the_fit_is_a_function_of_its_seed():
    keras.utils.set_random_seed(0)
    shown = images(12)
    model = with_statistics(MODELS["tsm_resnet"](), shown, frames=4)
    targets = deflation.still_features(model.towers["video"], shown, frames=4)
    losses = []
    for seed in (0, 0, 1):
        tower = deflate(model).towers["video"]
        found = deflation.fit(
            tower, shown, targets, held_out=2, steps=3, batch_size=4, learning_rate=1e-2, seed=seed
        )
        losses.append(found.losses)
    assert losses[0] == losses[1] != losses[2]
    nothing = deflation.fit(
        deflate(build_vatt(tiny.specific())).towers["video"],
        images(4, 16, 24),
        np.zeros((4, 16), "float32"),
        held_out=2,
        steps=3,
        batch_size=2,
        learning_rate=1e-2,
        seed=0,
    )
    assert nothing.losses == [] and nothing.naive == nothing.learned
