"""Verdict in words on results.json: what is above chance, by how much, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vatt_tf.errors import HOW_TO_ADD_WORDS
from vatt_tf.evaluation.metrics.retrieval import RECALL_AT
from vatt_tf.evaluation.report.headline import Headline, headlines
from vatt_tf.evaluation.tasks.retrieval import DIRECTIONS, direction_name
from vatt_tf.wording import count_of

# Below these a reader should take the numbers as rough.
FEW_CLIPS, FEW_FILES, FEW_STEPS = 100, 50, 5000

_FINDS = {
    "text": ("words", "find their"),
    "audio": ("sound", "finds its"),
    "video": ("video", "finds its"),
}
_CLASSES = {
    "classify": "the classifier's first class is right",
    "probe": "the probe's first class is right",
    "zero_shot": "the first of the classes named in words is right",
}


def verdict(results: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    """Returns the sentences at the top of a report.

    A number is called above chance where the low end of its 95 % bootstrap interval is.

    Args:
        results: Content of results.json.
        description: Content of model.json.

    Returns:
        What the model can and cannot do where a tower is missing, what is above chance and what
        is not, the same towers at random weights, what limits the numbers; each only where it is
        known.
    """
    block = results.get("retrieval", {})
    found = [*_directions(block), *_classes(results)]
    above = [text for good, text in found if good]
    below = [text for good, text in found if not good]
    sentences = _ability(description)
    if above:
        sentences.append(f"Above chance: {'; '.join(above)}.")
    if below:
        sentences.append(f"Not above chance: {'; '.join(below)}.")
    random = block.get("random_weights")
    if random:
        parts = [text.partition(",")[0] for _, text in _directions(random)]
        sentences.append(f"The same towers at random weights: {'; '.join(parts)}.")
    limits = list(_limits(results)) if found else []
    if limits:
        sentences.append(f"What limits these numbers: {'; '.join(limits)}.")
    return sentences


def _ability(description: Mapping[str, Any]) -> list[str]:
    """Sentences on the abilities of a model that lacks a tower."""
    modalities = description.get("model", {}).get("modalities")
    if description.get("kind", "vatt") != "vatt" or not modalities or len(modalities) > 2:
        return []
    if "text" not in modalities:
        return [
            "This model has learned from pictures and sound alone: it finds clips by example and "
            f"by sound, and not by words; to add words, {HOW_TO_ADD_WORDS}."
        ]
    return [
        "This model has learned from pictures and words alone: it finds clips by example and by "
        "words, and not by sound; to add sound, train on videos that have it."
    ]


def _directions(block: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Sentences on each direction: above chance or not, and its recall."""
    for query, item in DIRECTIONS:
        part = block.get(direction_name(query, item))
        if part is None or "chance" not in part:
            continue
        # R@1 discriminates best, but a weak model may be above chance at R@10 only.
        places = [k for k in RECALL_AT if part["chance"][f"R@{k}"] < 0.5] or [1]
        good = [k for k in places if _is_above(_low(part, f"R@{k}"), part["chance"][f"R@{k}"])]
        k = good[0] if good else 1
        name, how = _FINDS[query]
        where = "first" if k == 1 else f"among the first {k}"
        recall, chance = part[f"R@{k}"], part["chance"][f"R@{k}"]
        yield (
            bool(good),
            f"{name} {how} {_FINDS[item][0]} {where} in {100 * recall:.1f} % of "
            f"{part['pool_size']} clips, {_times(recall, chance)}",
        )


def _is_above(low: float, chance: float) -> bool:
    # Embeddings that are all the same give chance itself, but for the last digits.
    return low - chance > 1e-6


def _low(part: Mapping[str, Any], key: str) -> float:
    return float(part.get("confidence", {}).get(key, (0.0, 0.0))[0])


def _times(value: float, chance: float) -> str:
    """``26 times chance (1.6 %)``."""
    if not chance:
        return "chance 0 %"
    ratio = value / chance
    times = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.2g}"
    return f"{times} times chance ({100 * chance:.1f} %)"


def _classes(results: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    for one in headlines(results):
        if one.task in _CLASSES and one.name == "top-1" and None not in (one.chance, one.interval):
            yield _class(one)


def _class(one: Headline) -> tuple[bool, str]:
    assert one.chance is not None and one.interval is not None
    of = f" of {one.pool} clips" if one.pool else ""
    kind = f" ({one.group})" if one.group else ""
    return (
        _is_above(one.interval[0], one.chance),
        f"{_CLASSES[one.task]}{kind} in {one.text()}{of}, {_times(one.value, one.chance)}",
    )


def _limits(results: Mapping[str, Any]) -> Iterator[str]:
    blocks = [block for block in results.values() if isinstance(block, Mapping) and "data" in block]
    clips = min((block["clips"] for block in blocks if "clips" in block), default=FEW_CLIPS)
    if clips < FEW_CLIPS:
        yield f"only {count_of(clips, 'clip')} {'was' if clips == 1 else 'were'} held out"
    if any(block.get("held_out") == "by time" for block in blocks):
        yield "they are held out by time, not by file: their scenes are those of the training"
    files = [sum(s.get("files", FEW_FILES) for s in b.get("trained_on") or ()) for b in blocks]
    if 0 < min(files, default=0) < FEW_FILES:
        yield f"the model was trained on {min(files)} file{'s' * (min(files) > 1)}"
    steps = [block["step"] for block in blocks if isinstance(block.get("step"), int)]
    if steps and max(steps) < FEW_STEPS:
        yield f"it was trained for {count_of(max(steps), 'step')}"
