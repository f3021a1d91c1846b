"""Losses and metrics of any batch against NumPy float64: what is missing, doubled, tied or masked.

Vectors lie on a grid, so that many are equal and many scores tie.
"""

import itertools
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.evaluation.tasks.test_retrieval import make_set
from tests.losses.backend_gradients import gradients
from vatt_tf.errors import UserError
from vatt_tf.evaluation.tasks.retrieval import DIRECTIONS, direction_name, retrieval_metrics
from vatt_tf.evaluation.tasks.zero_shot import zero_shot_metrics
from vatt_tf.losses.contrastive import DENOMINATORS
from vatt_tf.losses.objective import ObjectiveConfig, objective

NAMES = ("circle", "red", "square", "star")


def any_of(few, **strategies):
    """Some examples in `make test`, hundreds in `make check`; always the same ones."""

    def decorate(check):
        @pytest.mark.parametrize("examples", [few, pytest.param(500, marks=pytest.mark.check)])
        def test(examples):
            settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),  # they measure times
            )(given(**strategies)(check))()

        return test

    return decorate


@st.composite
def batches(draw):
    """Embeddings by modality (text has several a clip), masks, and what may stand behind them."""
    clips, texts, width = (draw(st.integers(1, most)) for most in (6, 3, 3))
    values, masks, garbage = {}, {}, {}
    for name, shape in {"video": (clips,), "audio": (clips,), "text": (clips, texts)}.items():
        grid = arrays("int8", (*shape, width), elements=st.integers(-1, 1))
        there = arrays("bool", shape, elements=st.booleans())
        values[name] = draw(grid).astype("float32")
        some = st.one_of(there, st.just(np.ones(shape)), st.just(np.zeros(shape)))
        masks[name] = draw(some).astype("float32")
        rest = draw(st.sampled_from([1e-3, 50.0, 1e4])) * (1 + np.arange(values[name].size))
        rest = np.where(masks[name][..., None] > 0, values[name], rest.reshape(*shape, width))
        garbage[name] = rest.astype("float32")
    return values, masks, garbage


@st.composite
def objectives(draw):
    audio, text = draw(st.sampled_from([(1.0, 1.0), (0.5, 2.0), (1.0, 0.0), (0.0, 1.0)]))
    return ObjectiveConfig(
        temperature=draw(st.sampled_from([0.07, 0.1, 1.0])),
        denominator=draw(st.sampled_from(DENOMINATORS)),
        video_audio=audio,
        video_text=text,
        average=draw(st.booleans()),
    )


def unit(rows):
    norms = np.sqrt(np.maximum((np.asarray(rows, np.float64) ** 2).sum(-1, keepdims=True), 1e-12))
    return np.asarray(rows, np.float64) / norms


def reference(values, masks, config):
    """The losses of the pairs, written out clip by clip."""
    found = {}
    for other in ("audio", "text"):
        candidates, mask = values[other], masks[other]
        if other == "audio":
            candidates, mask = candidates[:, None], mask[:, None]
        found[f"video_{other}"] = _pair(values["video"], candidates, masks["video"], mask, config)
    return found


def _pair(anchors, candidates, anchor_mask, candidate_mask, config):
    scores = np.einsum("id,jld->ijl", unit(anchors), unit(candidates)) / config.temperature
    clips, texts = candidate_mask.shape
    there = [[c for c in range(texts) if candidate_mask[i, c]] for i in range(clips)]
    total = 0.0
    for i in range(clips):
        if not anchor_mask[i] or not there[i]:
            continue
        positive = logsumexp([scores[i, i, c] for c in there[i]])
        rows = [scores[i, j, c] for j in range(clips) for c in there[j]]
        joint = config.denominator == "joint"
        others = [j for j in range(clips) if anchor_mask[j] and not (joint and j == i)]
        columns = [scores[j, i, c] for j in others for c in there[i]]
        if config.denominator == "symmetric":
            total += logsumexp(rows) + logsumexp(columns) - 2 * positive
        else:
            total += logsumexp(rows + columns) - positive
    anchored, described = anchor_mask > 0, np.array([bool(own) for own in there])
    count = (anchored & described).sum()
    if config.denominator == "symmetric":
        count = anchored.sum() * described.mean()
    return total / (count or 1)


@any_of(12, batch=batches(), config=objectives())
def test_loss(batch, config):
    values, masks, garbage = batch
    read = {m for first, second, _ in config.pairs for m in (first, second)}

    def loss(values, rows=slice(None)):
        """The share of some clips, which see all."""
        spaces = [
            {"va": {m: x for m, x in part.items() if m != "text"}, "vt": part}
            for part in ({m: values[m][rows] for m in read}, {m: values[m] for m in read})
        ]
        own = {m: mask[rows] for m, mask in masks.items()}
        return objective(*spaces, own, masks, config, rows.start or 0)

    weights = {f"{first}_{second}": weight for first, second, weight in config.pairs}
    expected = {n: x for n, x in reference(values, masks, config).items() if n in weights}
    total, slopes = gradients(lambda x: loss(x)[0], values)
    right = sum(weights[name] * value for name, value in expected.items())
    right /= sum(weights.values()) if config.average else 1.0
    assert total == pytest.approx(right, rel=1e-4, abs=1e-4)
    middle = len(values["video"]) // 2
    if middle:  # two replicas
        parts = [loss(values, rows)[0] for rows in (slice(0, middle), slice(middle, None))]
        assert float(sum(parts)) == pytest.approx(total, rel=1e-5, abs=1e-5)
    again, others = gradients(lambda x: loss(x)[0], garbage)
    assert again == pytest.approx(total, rel=1e-5, abs=1e-5)
    for name, slope in others.items():
        assert not slope[masks[name] == 0].any()
        scale = max(1.0, np.abs(slopes[name]).max())
        np.testing.assert_allclose(slope, slopes[name], atol=1e-4 * scale)


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


def clips_of(values, masks, classes, captions):
    """What an evaluation collects; equal captions have equal embeddings."""
    first = [captions.index(caption) for caption in captions]
    rows = {m: unit(x).astype("float32") for m, x in values.items()}
    rows["text"] = rows["text"][:, 0][first]
    present = {m: mask > 0 for m, mask in masks.items()}
    present["text"] = present["text"][:, 0]
    clips = make_set({"vat": rows}, captions, masks=present)
    clips.labels = [tuple(itertools.compress(NAMES, own)) for own in classes]
    return clips


any_classes = arrays("bool", (6, len(NAMES)), elements=st.booleans())
any_captions = st.lists(st.sampled_from("abcd"), min_size=6, max_size=6)


@any_of(15, batch=batches(), classes=any_classes, captions=any_captions)
def test_retrieval(batch, classes, captions):
    values, masks, garbage = batch
    count = len(values["video"])
    classes, captions = classes[:count], captions[:count]
    clips = clips_of(values, masks, classes, captions)
    try:
        block = retrieval_metrics(clips)
    except UserError:
        there = clips.masks.values()
        assert not any((one & other).any() for one, other in itertools.combinations(there, 2))
        return
    rows = clips.spaces["vat"]
    for query, item in DIRECTIONS:
        name, both = direction_name(query, item), clips.masks[query] & clips.masks[item]
        assert (name in block) == both.any()
        if not both.any():
            continue
        queries, items, part = rows[query][both], rows[item][both], block[name]
        found = part["R@1"], part["R@5"], part["MnR"]
        assert found == pytest.approx(brute_force(queries, items, np.eye(both.sum()) > 0))
        own = classes[both]
        labelled = own.any(axis=1)
        if labelled.any():
            share = own[labelled] @ own[labelled].T
            right = brute_force(queries[labelled], items[labelled], share)[0]
            assert block["by_class"][name]["precision@1"] == pytest.approx(right)
        words = np.array(captions)[both]
        different = [int(np.flatnonzero(words == word)[0]) for word in sorted(set(words))]
        if "text" in (query, item) and len(different) < len(words):
            ask, answer = (different if m == "text" else slice(None) for m in (query, item))
            right = words[ask][:, None] == words[answer][None]
            found = block["by_caption"][name]["R@1"]
            assert found == pytest.approx(brute_force(queries[ask], items[answer], right)[0])
    # Embeddings of clips that lack a modality are not read.
    for name, mask in clips.masks.items():
        rows[name][~mask] = unit(garbage[name]).reshape(count, -1, rows[name].shape[1])[~mask, 0]
    assert retrieval_metrics(clips) == block


@any_of(
    15,
    batch=batches(),
    classes=any_classes,
    named=st.lists(st.sampled_from(NAMES), min_size=2, unique=True),
    vectors=arrays("int8", (len(NAMES), 3), elements=st.integers(-1, 1)),
)
def test_zero_shot(batch, classes, named, vectors):
    """Prompts for some of the classes; clips of several, of one and of none."""
    values, masks, garbage = batch
    classes = classes[: len(values["video"])]
    clips = clips_of(values, masks, classes, ["a"] * len(classes))
    vectors = unit(vectors[:, : values["video"].shape[-1]]).astype("float32")
    texts = dict(zip(NAMES, vectors, strict=True))
    model = types.SimpleNamespace(
        towers={"text": None},
        encode=lambda inputs, training=False: inputs,
        project=lambda features, training=False: {"vat": features},
    )
    prompts = {name: [name] for name in named}

    def measured():
        return zero_shot_metrics(
            clips,
            model,
            lambda words: np.array([texts[word] for word in words]),
            labels=NAMES,
            prompts=prompts,
        )

    order = [number for number, name in enumerate(NAMES) if name in named]
    chosen = classes[:, order].any(axis=1) & clips.masks["video"]
    if not chosen.any():
        with pytest.raises(UserError):
            measured()
        return
    block = measured()
    queries, items, own = clips.spaces["vat"]["video"][chosen], vectors[order], classes[chosen]
    own = own[:, order]
    unread = ~clips.masks["video"]
    clips.spaces["vat"]["video"][unread] = unit(garbage["video"])[unread]
    assert measured() == block
    if not block["multi_label"]:
        assert (own.sum(axis=1) == 1).all()
        found = block["top1"], block["top5"]
        assert found == pytest.approx(brute_force(queries, items, own)[:2])
        return
    scores = np.round(unit(queries) @ unit(items).T, 6)
    parts = [(scores[:, n], own[:, n]) for n in range(len(order)) if own[:, n].any()]
    right = np.mean([average_precision_score(has, score) for score, has in parts])
    assert block["mAP"] == pytest.approx(right)
    areas = [roc_auc_score(has, score) for score, has in parts if not has.all()]
    if areas:
        assert block["mean_auc"] == pytest.approx(np.mean(areas))
