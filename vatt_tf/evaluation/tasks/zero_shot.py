"""Zero-shot classification: the class whose prompts lie nearest to the video in their space."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import NO_TEXT_TOWER, NO_VOCABULARY, UserError
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet, embed_strings, multi_hot
from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.evaluation.tasks.classification import metric_lines, multi_label_block
from vatt_tf.evaluation.tasks.prompts import listed, match_labels, prompts_from_names
from vatt_tf.unit_length import l2_normalize
from vatt_tf.wording import METRIC_NAMES, count_of, percent, shortened, wrapped


def class_embeddings(
    model: Any,
    tokenizer: Callable[[Any], Any],
    prompts: dict[str, list[str]],
    space: str,
) -> np.ndarray:
    """Mean of the normalised prompt embeddings of a class, normalised: float32 [classes, d]."""
    flat = [prompt for group in prompts.values() for prompt in group]
    owner = np.repeat(np.arange(len(prompts)), [len(group) for group in prompts.values()])
    value = embed_strings(model, tokenizer, flat)[space]
    return l2_normalize(np.stack([value[owner == c].mean(axis=0) for c in range(len(prompts))]))


def zero_shot_metrics(
    embeddings: EmbeddingSet,
    model: Any,
    tokenizer: Callable[[Any], Any] | None,
    *,
    labels: Sequence[str] = (),
    prompts: dict[str, list[str]] | None = None,
    tolerance: float = 1e-6,
) -> dict[str, Any]:
    """Computes the ``zero_shot`` block of results.json.

    Where clips have several of the classes, it holds the metrics of several labels: each class
    ranks the clips by their similarity to its prompts.

    Args:
        embeddings: The clips.
        model: The model that embedded them.
        tokenizer: Strings -> ids, or None where the weights came without a vocabulary.
        labels: All label names of the data (the manifest's); names found on clips by default.
        prompts: label -> prompts; the label names themselves by default. Classes without prompts
            are left out with their clips.
        tolerance: Scores closer than this are ties.

    Raises:
        UserError: If there is no vocabulary, the clips have no labels, no space holds video and
            text, or the prompts name a class that the data does not have.
    """
    if tokenizer is None:
        why = NO_VOCABULARY if "text" in model.towers else NO_TEXT_TOWER
        raise UserError(f"zero-shot classes need words; {why}")
    space = embeddings.space_of("video", "text")
    if space is None:
        raise UserError("zero-shot classes need a model with video and text in one space")
    has_label = np.array([any(isinstance(one, str) for one in own) for own in embeddings.labels])
    chosen = np.flatnonzero(has_label & embeddings.masks["video"])
    if not chosen.size:
        raise UserError(
            "zero-shot classes need labelled clips with video, and no clip has both: give labels "
            "to `vatt_tf.prepare` by a manifest CSV with the column `label`"
        )
    found = [embeddings.labels[i] for i in chosen]
    own = {str(name) for clip in found for name in clip}
    names = list(labels) or sorted(own)
    if len(names) < 2:
        raise UserError(f"zero-shot classes need at least 2 classes, the data has {listed(names)}")
    strange = sorted(own - set(names))
    if strange:
        raise UserError(f"clips have labels that the manifest does not list: {listed(strange)}")
    prompts = prompts_from_names(names) if prompts is None else prompts
    ordered = {name: prompts[key] for name, key in match_labels(prompts, names).items()}
    unnamed = [name for name in names if name not in ordered]
    names = list(ordered)
    positive = multi_hot(found, names)
    named = positive.any(axis=1)
    other_clips = int((~named).sum())
    chosen, positive = chosen[named], positive[named]
    if not chosen.size:
        raise UserError(f"no clip has one of the classes that the prompts name: {listed(names)}")
    classes = class_embeddings(model, tokenizer, ordered, space)
    scores = embeddings.spaces[space]["video"][chosen].astype(np.float64) @ classes.T
    multi_label = bool((positive.sum(axis=1) > 1).any())
    if multi_label:
        measured = multi_label_block(scores, positive, names)
    else:
        measured = _single_label(scores, positive.argmax(axis=1), names, tolerance)
    return {
        "multi_label": multi_label,
        "classes": len(names),
        "clips": len(embeddings),
        **({"left_out": {"classes": unnamed, "clips": other_clips}} if unnamed else {}),
        **({"same_words": alike} if (alike := _same_words(tokenizer, ordered)) else {}),
        **measured,
        "protocol": {
            "windows": embeddings.windows,
            "window_aggregation": "mean of embeddings, then L2 norm",
            "crop": "centre",
            "similarity": "cosine",
            "space": space,
            "prompts": "mean of the normalised prompt embeddings of a class, then L2 norm",
            "prompts_per_class": round(sum(map(len, ordered.values())) / len(ordered), 2),
            "ties": f"expected hit over random order (|difference| <= {tolerance:g})",
        },
        "prompts": ordered,
    }


def _single_label(
    scores: np.ndarray, truth: np.ndarray, names: Sequence[str], tolerance: float
) -> dict[str, Any]:
    """The numbers of clips that have one class each, of scores [n, C] and class int [n]."""
    hits = {k: metrics.top_k_hits(scores, truth, k, tolerance) for k in (1, 5)}
    per_class = {
        name: {"top1": float(hits[1][truth == c].mean()), "clips": int((truth == c).sum())}
        for c, name in enumerate(names)
        if (truth == c).any()
    }
    return {
        "top1": float(hits[1].mean()),
        "top5": float(hits[5].mean()),
        "mean_per_class": float(np.mean([part["top1"] for part in per_class.values()])),
        "chance": {"top1": 1 / len(names), "top5": min(1.0, 5 / len(names))},
        "pool_size": len(truth),
        "per_class": per_class,
    }


def _same_words(
    tokenizer: Callable[[Any], Any], prompts: dict[str, list[str]]
) -> list[tuple[str, ...]]:
    """Groups of classes whose prompts are the same to the model: other words are unknown to it."""
    groups: dict[frozenset, list[str]] = {}
    for name, group in prompts.items():
        tokens = np.asarray(tokenizer(group)).tolist()
        groups.setdefault(frozenset(map(tuple, tokens)), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def format_zero_shot(block: dict[str, Any], most: int = 20) -> str:
    """Formats the block as ``vatt_tf.evaluate`` prints it."""
    chance = block["chance"]
    left_out = block.get("left_out", {"classes": [], "clips": 0})
    without = block["clips"] - block["pool_size"] - left_out["clips"]
    metric = "ap" if block["multi_label"] else "top1"
    if block["multi_label"]:
        head = metric_lines(block)
    else:
        head = [
            f"top-1 {100 * block['top1']:.1f} % (chance {100 * chance['top1']:.1f} %)   "
            f"top-5 {100 * block['top5']:.1f} % (chance {100 * chance['top5']:.1f} %)   "
            f"mean per class {100 * block['mean_per_class']:.1f} %"
        ]
    lines = [
        *head,
        f"{count_of(block['pool_size'], 'clip')} with a label, "
        f"{count_of(block['classes'], 'class', 'classes')}"
        + (f"; {count_of(without, 'clip')} without a label or video left out" if without else ""),
        *(
            [
                wrapped(
                    f"the prompts do not name {listed(left_out['classes'])}: "
                    f"{count_of(left_out['clips'], 'clip')} of these classes left out"
                )
            ]
            if left_out["classes"]
            else []
        ),
        *(
            wrapped(
                f"the model reads the prompts of {listed(group)} as the same words (it does not "
                "know the others) and cannot tell these classes apart"
            )
            for group in block.get("same_words", ())
        ),
        "",
        f"{'class':<32}{METRIC_NAMES[metric]:>8}{'clips':>8}   prompts",
    ]
    for name, part in list(block["per_class"].items())[:most]:
        prompts = block["prompts"][name]
        more = f" (+{len(prompts) - 1})" if len(prompts) > 1 else ""
        lines.append(
            f"{shortened(name, 31):<32}{percent(part[metric]):>8}{part['clips']:>8}   "
            f"{textwrap.shorten(repr(prompts[0]), 60, placeholder=' ...')}{more}"
        )
    if len(block["per_class"]) > most:
        lines.append(f"... and {len(block['per_class']) - most} more classes in results.json")
    protocol = block["protocol"]
    lines += [
        "",
        wrapped(
            f"protocol: {count_of(protocol['windows'], 'window')} a clip, "
            f"{protocol['window_aggregation']}; "
            f"{protocol['crop']} crop; {protocol['similarity']} in space {protocol['space']}; "
            f"{protocol['prompts']}; ties: {protocol['ties']}"
        ),
    ]
    return "\n".join(lines)
