"""Losses and metrics of any batch against NumPy float64: what is missing, doubled, tied or masked.

Vectors lie on a grid, so that many are equal and many scores tie.
"""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp

from tests.evaluation.tasks.test_retrieval import make_set
from vatt_tf.errors import UserError
from vatt_tf.evaluation.tasks.retrieval import DIRECTIONS, direction_name, retrieval_metrics
from vatt_tf.losses.contrastive import DENOMINATORS
from vatt_tf.losses.objective import ObjectiveConfig, objective

SHORT, LONG = range(5), range(5, 300)
TEMPERATURE = 0.1


def many(test):
    """Some batches in `make test`, hundreds in `make check`."""
    long = [pytest.param(LONG, marks=pytest.mark.check)]
    return pytest.mark.parametrize("seeds", [SHORT, *long], ids=["short", "long"])(test)


def unit(rows):
    norms = np.sqrt(np.maximum((np.asarray(rows, np.float64) ** 2).sum(-1, keepdims=True), 1e-12))
    return np.asarray(rows, np.float64) / norms


def drawn(seed):
    """Embeddings by modality (text has several a clip), and masks; each may miss anything."""
    rng = np.random.default_rng(seed)
    clips, texts, width = (int(rng.integers(low, high)) for low, high in ((1, 7), (1, 4), (1, 4)))
    shapes = {"video": (clips,), "audio": (clips,), "text": (clips, texts)}
    values = {m: rng.integers(-1, 2, (*s, width)).astype("float32") for m, s in shapes.items()}
    share = rng.choice([0.0, 0.3, 0.7, 1.0], 3)
    masks = {
        m: (rng.random(s) < one).astype("float32")
        for (m, s), one in zip(shapes.items(), share, strict=True)
    }
    return rng, values, masks


def garbage(rng, values, masks):
    """The same where the masks are 1, anything elsewhere."""
    return {
        m: np.where(masks[m][..., None] > 0, x, 1e3 * rng.normal(size=x.shape)).astype("float32")
        for m, x in values.items()
    }


def reference(anchors, candidates, anchor_mask, candidate_mask, denominator):
    """The loss of a pair, written out clip by clip."""
    scores = np.einsum("id,jld->ijl", unit(anchors), unit(candidates)) / TEMPERATURE
    clips, texts = candidate_mask.shape
    there = [[c for c in range(texts) if candidate_mask[i, c]] for i in range(clips)]
    total = 0.0
    for i in range(clips):
        if not anchor_mask[i] or not there[i]:
            continue
        positive = logsumexp([scores[i, i, c] for c in there[i]])
        rows = [scores[i, j, c] for j in range(clips) for c in there[j]]
        others = [j for j in range(clips) if anchor_mask[j] and (denominator != "joint" or j != i)]
        columns = [scores[j, i, c] for j in others for c in there[i]]
        if denominator == "symmetric":
            total += logsumexp(rows) + logsumexp(columns) - 2 * positive
        else:
            total += logsumexp(rows + columns) - positive
    anchored, described = anchor_mask > 0, np.array([bool(own) for own in there])
    count = (anchored & described).sum()
    if denominator == "symmetric":
        count = anchored.sum() * described.mean()
    return total / (count or 1)


@many
def test_loss_of_any_batch(seeds):
    for seed, denominator in itertools.product(seeds, DENOMINATORS):
        rng, values, masks = drawn(seed)
        config = ObjectiveConfig(temperature=TEMPERATURE, denominator=denominator)

        def loss(values, rows=slice(None), masks=masks, config=config):
            spaces = [
                {"va": {m: part[m] for m in ("video", "audio")}, "vt": part}
                for part in ({m: x[rows] for m, x in values.items()}, values)
            ]
            own = {m: mask[rows] for m, mask in masks.items()}
            return objective(*spaces, own, masks, config, rows.start or 0)

        total, losses = loss(values)
        expected = {}
        for other in ("audio", "text"):
            candidates, mask = values[other], masks[other]
            if other == "audio":
                candidates, mask = candidates[:, None], mask[:, None]
            expected[f"video_{other}"] = reference(
                values["video"], candidates, masks["video"], mask, denominator
            )
        where = f"seed {seed}, {denominator}"
        for name, value in expected.items():
            assert float(losses[name]) == pytest.approx(value, rel=1e-4, abs=1e-4), where
        again, _ = loss(garbage(rng, values, masks))
        assert float(again) == pytest.approx(float(total), rel=1e-5, abs=1e-5), where
        middle = len(values["video"]) // 2
        if middle:  # two replicas
            parts = [loss(values, rows)[0] for rows in (slice(0, middle), slice(middle, None))]
            assert float(sum(parts)) == pytest.approx(float(total), rel=1e-5, abs=1e-5), where


def brute_force(queries, items, right):
    """R@1, R@5 and the mean rank, averaged over orders of equal scores; right bool [q, n]."""
    scores = np.round(unit(queries) @ unit(items).T, 6)
    hits, ranks = {1: [], 5: []}, []
    for row, good in zip(scores, right, strict=True):
        best = row[good].max()
        above, level = (row[~good] > best).sum(), (row[~good] == best).sum()
        ties = (row[good] == best).sum()
        ranks.append(above + level / (ties + 1) + 1)
        for k, found in hits.items():
            drawn = int(np.clip(k - above, 0, level + 1))
            miss = [(level - n) / max(level + ties - n, 1) for n in range(drawn)]
            found.append(1 - np.prod(np.maximum(miss, 0)))
    return np.mean(hits[1]), np.mean(hits[5]), np.mean(ranks)


@many
def test_metrics_of_any_batch(seeds):
    for seed in seeds:
        rng, values, masks = drawn(seed)
        values["text"], masks["text"] = values["text"][:, 0], masks["text"][:, 0]
        names = ["red", "circle", "square"]
        classes = rng.random((len(masks["video"]), 3)) < 0.5

        def measured(values, masks=masks, classes=classes, names=names):
            rows = {m: unit(x).astype("float32") for m, x in values.items()}
            present = {m: mask > 0 for m, mask in masks.items()}
            clips = make_set({"vat": rows}, [f"{i}" for i in range(len(classes))], masks=present)
            clips.labels = [
                tuple(n for n, has in zip(names, own, strict=True) if has) for own in classes
            ]
            return retrieval_metrics(clips)

        try:
            block = measured(values)
        except UserError:
            assert max(np.sum(a * b) for a, b in itertools.combinations(masks.values(), 2)) == 0
            continue
        for query, item in DIRECTIONS:
            name, both = direction_name(query, item), (masks[query] * masks[item]) > 0
            assert (name in block) == both.any()
            if not both.any():
                continue
            queries, items = values[query][both], values[item][both]
            part = block[name]
            found = part["R@1"], part["R@5"], part["MnR"]
            assert found == pytest.approx(brute_force(queries, items, np.eye(both.sum()) > 0))
            own = classes[both]
            labelled = own.any(axis=1)
            if labelled.any():
                share = own[labelled] @ own[labelled].T
                right = brute_force(queries[labelled], items[labelled], share)[0]
                assert block["by_class"][name]["precision@1"] == pytest.approx(right), seed
        assert measured(garbage(rng, values, masks)) == block, seed
