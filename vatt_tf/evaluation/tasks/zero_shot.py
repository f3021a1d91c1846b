"""Zero-shot classification: the class whose prompts lie nearest to the video in their space."""

from __future__ import annotations

import json
import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vatt_tf import paths
from vatt_tf.errors import NO_TEXT_TOWER, NO_VOCABULARY, UserError
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet, embed_strings
from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.unit_length import l2_normalize
from vatt_tf.wording import count_of, percent, shortened, wrapped

# Put around a class name that comes without a prompt; the text tower was trained on narrations, not
# on sentences about videos, so the name alone is the neutral choice.
DEFAULT_TEMPLATES = ("{}",)


def prompts_from_names(
    names: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES
) -> dict[str, list[str]]:
    """Makes prompts of class names: underscores become spaces, each template is filled in."""
    return {
        name: [template.format(name.replace("_", " ").strip()) for template in templates]
        for name in names
    }


def read_prompts(
    path: str | pathlib.Path, templates: Sequence[str] = DEFAULT_TEMPLATES
) -> dict[str, list[str]]:
    """Reads a prompts file.

    Accepted: JSON ``{"label": ["prompt", ...]}`` (or one string), text lines
    ``label<TAB>prompt`` (a label may come on several lines), or one class name per line, which the
    templates turn into prompts. In the text forms, empty lines and lines that start with ``#`` are
    skipped.

    Raises:
        UserError: If the file is missing, not UTF-8, empty, or mixes forms.
    """
    path = pathlib.Path(paths.expand(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"--prompts={path}: no such file") from error
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"--prompts={path}: not readable as UTF-8 text ({error})") from error
    if text.lstrip()[:1] in ("{", "["):
        prompts = _from_json(path, text)
    else:
        prompts = _from_lines(path, text, templates)
    if len(prompts) < 2:
        raise UserError(f"--prompts={path}: {len(prompts)} class found, at least 2 are needed")
    return prompts


def _from_json(path: pathlib.Path, text: str) -> dict[str, list[str]]:
    expected = 'expected {"label": ["prompt", ...], ...}'
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"--prompts={path}: not valid JSON ({error}); {expected}") from error
    if not isinstance(content, dict):
        raise UserError(f"--prompts={path}: found a {type(content).__name__}, {expected}")
    prompts = {}
    for label, value in content.items():
        value = [value] if isinstance(value, str) else value
        good = isinstance(value, list) and all(isinstance(p, str) and p.strip() for p in value)
        if not (good and value):
            raise UserError(f"--prompts={path}: label {label!r} has {value!r}, {expected}")
        prompts[label] = value
    return prompts


def _from_lines(path: pathlib.Path, text: str, templates: Sequence[str]) -> dict[str, list[str]]:
    prompts: dict[str, list[str]] = {}
    form = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        label, _, prompt = (part.strip() for part in line.partition("\t"))
        tab = "\t" in line
        form = tab if form is None else form
        if tab != form or not label or (tab and not prompt):
            raise UserError(
                f"--prompts={path}, line {number}: found {line!r}; write either "
                "`label<TAB>prompt` on every line or one class name on every line"
            )
        if tab:
            prompts.setdefault(label, []).append(prompt)
        elif label in prompts:
            raise UserError(f"--prompts={path}, line {number}: class {label!r} comes twice")
        else:
            prompts.update(prompts_from_names([label], templates))
    return prompts


def _normal_name(label: str) -> str:
    return " ".join(label.replace("_", " ").lower().split())


def match_labels(prompts: dict[str, list[str]], labels: Sequence[str]) -> dict[str, str]:
    """Finds the prompt label of the labels of the data; case and underscores do not count.

    Returns:
        Label of the data -> key of ``prompts``, in the order of ``labels``; prompts may name a part
        of the classes only.

    Raises:
        UserError: If a prompt label is not in the data, or names a class once more.
    """
    by_name: dict[str, str] = {}
    for label in prompts:
        if _normal_name(label) in by_name:
            raise UserError(
                f"the prompts name one class twice: {by_name[_normal_name(label)]!r} and {label!r}"
            )
        by_name[_normal_name(label)] = label
    known = {_normal_name(label) for label in labels}
    unknown = [label for label in prompts if _normal_name(label) not in known]
    if unknown:
        raise UserError(
            f"prompt labels that the data does not have: {_listed(unknown)}. The data has: "
            f"{_listed(labels)}. Write them as the data does, or leave them out"
        )
    return {
        label: by_name[_normal_name(label)] for label in labels if _normal_name(label) in by_name
    }


def _listed(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


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
    has_label = np.array([bool(text) for text in embeddings.label_text])
    chosen = np.flatnonzero(has_label & embeddings.masks["video"])
    if not chosen.size:
        raise UserError(
            "zero-shot classes need labelled clips with video, and no clip has both: give labels "
            "to `vatt_tf.prepare` by a manifest CSV with the column `label`"
        )
    found = [embeddings.label_text[i] for i in chosen]
    names = list(labels) or sorted(set(found))
    if len(names) < 2:
        raise UserError(f"zero-shot classes need at least 2 classes, the data has {_listed(names)}")
    strange = sorted(set(found) - set(names))
    if strange:
        raise UserError(f"clips have labels that the manifest does not list: {_listed(strange)}")
    prompts = prompts_from_names(names) if prompts is None else prompts
    ordered = {name: prompts[key] for name, key in match_labels(prompts, names).items()}
    unnamed = [name for name in names if name not in ordered]
    names = list(ordered)
    named = np.array([label in ordered for label in found])
    other_clips = int((~named).sum())
    chosen, found = chosen[named], [label for label in found if label in ordered]
    if not found:
        raise UserError(f"no clip has one of the classes that the prompts name: {_listed(names)}")
    classes = class_embeddings(model, tokenizer, ordered, space)
    scores = embeddings.spaces[space]["video"][chosen].astype(np.float64) @ classes.T
    truth = np.array([names.index(label) for label in found])
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
        "classes": len(names),
        "pool_size": len(chosen),
        "clips": len(embeddings),
        **({"left_out": {"classes": unnamed, "clips": other_clips}} if unnamed else {}),
        "per_class": per_class,
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


def format_zero_shot(block: dict[str, Any], most: int = 20) -> str:
    """Formats the block as ``vatt_tf.evaluate`` prints it."""
    chance = block["chance"]
    left_out = block.get("left_out", {"classes": [], "clips": 0})
    without = block["clips"] - block["pool_size"] - left_out["clips"]
    lines = [
        (
            f"top-1 {100 * block['top1']:.1f} % (chance {100 * chance['top1']:.1f} %)   "
            f"top-5 {100 * block['top5']:.1f} % (chance {100 * chance['top5']:.1f} %)   "
            f"mean per class {100 * block['mean_per_class']:.1f} %"
        ),
        f"{count_of(block['pool_size'], 'clip')} with a label, "
        f"{count_of(block['classes'], 'class', 'classes')}"
        + (f"; {count_of(without, 'clip')} without a label or video left out" if without else ""),
        *(
            [
                wrapped(
                    f"the prompts do not name {_listed(left_out['classes'])}: "
                    f"{count_of(left_out['clips'], 'clip')} of these classes left out"
                )
            ]
            if left_out["classes"]
            else []
        ),
        "",
        f"{'class':<32}{'top-1':>8}{'clips':>8}   prompts",
    ]
    for name, part in list(block["per_class"].items())[:most]:
        prompts = block["prompts"][name]
        more = f" (+{len(prompts) - 1})" if len(prompts) > 1 else ""
        lines.append(
            f"{shortened(name, 31):<32}{percent(part['top1']):>8}{part['clips']:>8}   "
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
