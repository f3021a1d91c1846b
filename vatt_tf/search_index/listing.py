"""What ``vatt_tf.search`` prints: a table for people, or one JSON object for programs."""

from __future__ import annotations

import dataclasses
import json
import os

from vatt_tf import paths
from vatt_tf.search_index.query import Found, Hit, clock
from vatt_tf.wording import WIDTH, count_of, fixed, shortened, wrapped

_NAME_WIDTH = 52


def format_found(found: Found, quiet: bool = False) -> str:
    """The hits as a table; long names lose their middle, which ``as_json`` keeps.

    Args:
        found: What a search found.
        quiet: Only hits and notes.
    """
    space = f"space {found.space}, " if found.space else ""
    summary = [
        wrapped(paths.shown(found.query)),
        f"  best {count_of(len(found.hits), 'moment')} of {count_of(found.clips, 'clip')}, {space}"
        f"{found.method}",
        f"  videos in {paths.shown(found.videos)}",
    ]
    notes = list(found.notes)
    if found.unknown and not any("vocabulary" in note for note in notes):
        notes.insert(0, f"not in this model's vocabulary: {', '.join(found.unknown)}")
    lines = [] if quiet else summary
    lines += [wrapped(f"  note: {paths.shown(note)}") for note in notes]
    lines += [""] if lines else []
    names = [shortened(paths.shown(hit.file), _NAME_WIDTH) for hit in found.hits]
    width = max(map(len, names), default=0)
    for rank, (hit, name) in enumerate(zip(found.hits, names, strict=True), start=1):
        times = f"{clock(hit.start)} - {clock(hit.end)}"
        line = f"{rank:4d}  {format_score(hit):>6}  {name:{width}}  {times}  "
        lines.append(line + shortened(reason(hit), WIDTH - len(line)))
    return "\n".join(lines)


def format_score(hit: Hit) -> str:
    """The cosine with three places, or a dash."""
    return "-" if hit.score is None else fixed(hit.score, 3)


def reason(hit: Hit) -> str:
    """Why a clip was found, in words."""
    parts = [f"words: {' '.join(hit.words)}"] if hit.words else []
    if hit.found_by != "words":
        parts.append("embedding")
    missing = " (cannot be opened)" if hit.missing else ""
    return paths.shown(" + ".join(parts) + missing)


def as_json(found: Found) -> str:
    """The hits as one JSON object of ASCII; bytes that are not UTF-8 are lone surrogates in it."""
    hits = [
        {**dataclasses.asdict(hit), "path": os.path.join(found.videos, hit.file)}
        for hit in found.hits
    ]
    return json.dumps({**dataclasses.asdict(found), "hits": hits})
