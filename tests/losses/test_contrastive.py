"""The losses against float64 NumPy, closed forms and the official numbers."""

import itertools

import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp

from vatt_tf.errors import UserError
from vatt_tf.losses.contrastive import DENOMINATORS, contrastive_loss, l2_normalize
from vatt_tf.losses.objective import ObjectiveConfig, find_space, objective


def numpy_loss(x, y, x_mask, y_mask, temperature, denominator):
    """Loops in float64, written from the formula and nothing else."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    batch, candidates = y.shape[:2]
    losses = np.zeros(batch)
    for i in range(batch):
        own = [x[i] @ y[i, k] / temperature for k in range(candidates) if y_mask[i, k]]
        if not own or not x_mask[i]:
            continue
        row, column = [], []
        for j in range(batch):
            for k in range(candidates):
                if y_mask[j, k]:
                    row.append(x[i] @ y[j, k] / temperature)
                if y_mask[i, k] and x_mask[j] and (denominator != "joint" or j != i):
                    column.append(x[j] @ y[i, k] / temperature)
        if denominator == "symmetric":
            losses[i] = logsumexp(row) + logsumexp(column) - 2 * logsumexp(own)
        else:
            losses[i] = logsumexp(row + column) - logsumexp(own)
    return losses


def whole_batch(x, y, x_mask, y_mask, **kwargs):
    return contrastive_loss(
        x,
        y,
        x,
        y,
        anchor_mask=x_mask,
        candidate_mask=y_mask,
        all_anchor_mask=x_mask,
        all_candidate_mask=y_mask,
        **kwargs,
    )


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("candidates", [1, 3])
def test_matches_float64_loops(denominator, candidates):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8)).astype("float32")
    y = rng.normal(size=(6, candidates, 8)).astype("float32")
    x_mask = np.array([1, 1, 1, 0, 1, 1], "float32")
    y_mask = (rng.random((6, candidates)) < 0.8).astype("float32")
    y_mask[0], y_mask[1] = 0, 1
    loss, valid = whole_batch(x, y, x_mask, y_mask, temperature=0.2, denominator=denominator)
    expected = numpy_loss(x, y, x_mask, y_mask, 0.2, denominator)
    np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, atol=1e-5)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(valid), (x_mask > 0) & (y_mask.max(axis=1) > 0)
    )


def test_shares_of_two_replicas_add_up_to_the_loss_of_the_batch():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 8)).astype("float32")
    y = rng.normal(size=(6, 2, 8)).astype("float32")
    ones, both = np.ones(6, "float32"), np.ones((6, 2), "float32")
    whole, _ = whole_batch(x, y, ones, both)
    parts = [
        contrastive_loss(
            x[start : start + 3],
            y[start : start + 3],
            x,
            y,
            anchor_mask=ones[:3],
            candidate_mask=both[:3],
            all_anchor_mask=ones,
            all_candidate_mask=both,
            row_offset=start,
        )[0]
        for start in (0, 3)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_floors():
    """Perfectly aligned, mutually opposed embeddings: 0 (paper) and ln 2 (release)."""
    x = np.array([[1.0, 0.0], [-1.0, 0.0]], "float32")
    ones = np.ones(2, "float32")
    paper, _ = whole_batch(x, x[:, None], ones, ones[:, None], temperature=0.05)
    release, _ = whole_batch(
        x, x[:, None], ones, ones[:, None], temperature=0.05, denominator="joint_positive_twice"
    )
    np.testing.assert_allclose(paper, 0.0, atol=1e-6)
    np.testing.assert_allclose(release, np.log(2.0), atol=1e-6)


def test_constant_embeddings_give_the_log_of_the_number_of_terms():
    ones = np.ones(5, "float32")
    loss, _ = whole_batch(
        np.ones((5, 3), "float32"), np.ones((5, 1, 3), "float32"), ones, ones[:, None]
    )
    np.testing.assert_allclose(loss, np.log(2 * 5 - 1), atol=1e-5)


def test_a_batch_without_valid_clips_costs_nothing():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 8)).astype("float32")
    spaces = {"va": {"video": x, "audio": x}}
    masks = {"video": np.ones(4, "float32"), "audio": np.zeros(4, "float32")}
    total, parts = objective(spaces, spaces, masks, masks, ObjectiveConfig(video_text=0.0))
    assert float(total) == 0.0 and float(parts["video_audio"]) == 0.0


def test_zero_vectors_stay_finite():
    assert np.all(np.isfinite(l2_normalize(np.zeros((2, 3), "float32"))))


def test_bad_settings_are_named():
    with pytest.raises(UserError, match="temperature=0"):
        ObjectiveConfig(temperature=0)
    with pytest.raises(UserError, match="joint, joint_positive_twice, symmetric"):
        ObjectiveConfig(denominator="both")
    with pytest.raises(UserError, match="video_audio=0"):
        ObjectiveConfig(video_audio=0, video_text=0)
    with pytest.raises(UserError, match="no common space holds both video and text"):
        find_space({"va": {"video": 0, "audio": 0}}, "video", "text")


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_mean_over_a_batch_with_masks(denominator):
    """Of 4 clips 3 have video, 3 audio and 2 both: sums are divided by 2, or by 3 * 3 / 4."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 8)).astype("float32")
    y = rng.normal(size=(4, 8)).astype("float32")
    masks = {
        "video": np.array([1, 1, 1, 0], "float32"),
        "audio": np.array([1, 1, 0, 1], "float32"),
    }
    spaces = {"va": {"video": x, "audio": y}}
    config = ObjectiveConfig(video_text=0.0, temperature=0.2, denominator=denominator)
    _, parts = objective(spaces, spaces, masks, masks, config)
    clips = numpy_loss(x, y[:, None], masks["video"], masks["audio"][:, None], 0.2, denominator)
    expected = clips.sum() / (9 / 4 if denominator == "symmetric" else 2)
    np.testing.assert_allclose(parts["video_audio"], expected, rtol=1e-5)


@pytest.mark.parametrize("family", ["tx_fac", "ut_fac"])
@pytest.mark.parametrize(
    ("kind", "masks"),
    [
        *itertools.product(["asym", "sym"], ["nomask", "masked", "notext", "nothing"]),
        ("sym", "vmasked"),
    ],
)
def test_official_values(shared_dir, family, kind, masks):
    """Losses that the released code computed, total averaged over the weights as it does."""
    reference = np.load(shared_dir / f"reference/official_vatt/{family}/reference.npz")
    output = {
        key.split("bridge/")[1]: reference[key]
        for key in reference.files
        if "bridge/" in key and key.startswith("output")
    }
    spaces = {
        "va": {"video": output["video/toaud"], "audio": output["audio/tovid"]},
        "vt": {"video": output["video/totxt"], "text": output["text/tovid"].reshape(4, 3, -1)},
    }
    ones, zeros = np.ones(4, "float32"), np.zeros(4, "float32")
    video = reference["mask_video"] if masks == "vmasked" else ones
    audio, text = {
        "nomask": (ones, ones),
        "masked": (reference["mask_audio"], reference["mask_text"]),
        "vmasked": (reference["mask_audio"], reference["mask_text"]),
        "notext": (reference["mask_audio"], zeros),
        "nothing": (zeros, zeros),
    }[masks]
    by_modality = {"video": video, "audio": audio, "text": np.repeat(text[:, None], 3, axis=1)}
    config = ObjectiveConfig(
        denominator={"asym": "joint_positive_twice", "sym": "symmetric"}[kind], average=True
    )
    total, parts = objective(spaces, spaces, by_modality, by_modality, config)
    for ours, name in (
        (total, "total"),
        (parts["video_text"], "vidtxt_loss"),
        (parts["video_audio"], "vidaud_loss"),
    ):
        np.testing.assert_allclose(ours, reference[f"loss/{kind}/{masks}/{name}"], atol=1e-5)
