"""What ``vatt_tf.search`` prints: a table for people, or one JSON object for programs."""

from __future__ import annotations

import dataclasses
import json
import os

from vatt_tf import paths
from vatt_tf.search_index.query import Found, Hit, clock


def format_found(found: Found) -> str:
    """The hits as a table."""
    space = f"space {found.space}, " if found.space else ""
    what = "moment" if len(found.hits) == 1 else "moments"
    lines = [
        paths.shown(found.query),
        f"  best {len(found.hits)} {what} of {found.clips} clips, {space}{found.method}",
        f"  videos in {paths.shown(found.videos)}",
        *(f"  note: {paths.shown(note)}" for note in found.notes),
        "",
    ]
    if found.unknown and not any("vocabulary" in note for note in found.notes):
        words = paths.shown(", ".join(found.unknown))
        lines.insert(3, f"  note: not in this model's vocabulary: {words}")
    names = [paths.shown(hit.file) for hit in found.hits]
    width = max(map(len, names), default=0)
    for rank, (hit, name) in enumerate(zip(found.hits, names, strict=True), start=1):
        times = f"{clock(hit.start)} - {clock(hit.end)}"
        line = f"{rank:4d}  {format_score(hit):>6}  {name:{width}}  {times}  {reason(hit)}"
        lines.append(line)
    return "\n".join(lines)


def format_score(hit: Hit) -> str:
    """The cosine with three places, or a dash."""
    return "-" if hit.score is None else f"{hit.score:.3f}"


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
