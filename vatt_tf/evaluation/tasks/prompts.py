"""Prompts of the classes of zero-shot classification, and which class of the data each is for."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from vatt_tf import paths
from vatt_tf.errors import UserError

# Put around a class name that comes without a prompt; the text tower was trained on narrations, not
# on sentences about videos, so the name alone is the neutral choice.
DEFAULT_TEMPLATES = ("{}",)


def prompts_from_names(
    names: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES
) -> dict[str, list[str]]:
    """Makes prompts of class names: underscores become spaces, each template is filled in."""
    return {name: [_filled(template, name) for template in templates] for name in names}


def _filled(template: str, name: str) -> str:
    return template.replace("{}", name.replace("_", " ").strip())


def read_prompts(
    path: str | pathlib.Path, templates: Sequence[str] = DEFAULT_TEMPLATES
) -> dict[str, list[str]]:
    """Reads a prompts file.

    Accepted: JSON ``{"label": ["prompt", ...]}`` (or one string), text lines
    ``label<TAB>prompt`` (a label may come on several lines), or one class name per line, which the
    templates turn into prompts. In the text forms, empty lines and lines that start with ``#`` are
    skipped. ``{}`` in a prompt stands for the name of its class.

    Raises:
        UserError: If the file is missing, not UTF-8, empty, or mixes forms, a class comes twice, or
            a prompt has other braces than ``{}``.
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
    for label, group in prompts.items():
        for prompt in group:
            if strange := re.search(r"\{[^{}]+\}", prompt):
                raise UserError(
                    f"--prompts={path}: label {label!r} has the prompt {prompt!r}: "
                    f"{strange.group()} is not filled in; write {{}} for the name of the class"
                )
    prompts = {name: [_filled(one, name) for one in group] for name, group in prompts.items()}
    if len(prompts) < 2:
        raise UserError(f"--prompts={path}: {len(prompts)} class found, at least 2 are needed")
    return prompts


def _from_json(path: pathlib.Path, text: str) -> dict[str, list[str]]:
    expected = 'expected {"label": ["prompt", ...], ...}'
    try:
        content = json.loads(text, object_pairs_hook=_each_once)
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


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; by default the last value of a name would replace the others."""
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the class {twice[0]!r} comes twice")
    return dict(pairs)


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
        UserError: If a prompt label is not in the data, or names a class once more, or two classes
            have the same prompts.
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
            f"prompt labels that the data does not have: {listed(unknown)}. The data has: "
            f"{listed(labels)}. Write them as the data does, or leave them out"
        )
    matched = {
        label: by_name[_normal_name(label)] for label in labels if _normal_name(label) in by_name
    }
    same: dict[frozenset[str], str] = {}
    for label, key in matched.items():
        words = frozenset(" ".join(prompt.casefold().split()) for prompt in prompts[key])
        if (other := same.setdefault(words, label)) != label:
            raise UserError(
                f"the classes {other!r} and {label!r} have the same prompts "
                f"({listed(prompts[key], 3)}) and cannot be told apart: give each its own"
            )
    return matched


def listed(names: Sequence[str], most: int = 20) -> str:
    """The first names, quoted."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
