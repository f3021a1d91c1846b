"""What ``vatt_tf.search`` prints: a table for people, or one JSON object for programs."""

from __future__ import annotations

import dataclasses
import json
import os

from vatt_tf import paths
from vatt_tf.search_index.hits import Found, Hit, clock


def format_found(found: Found) -> str:
    """The hits as a table."""
    space = f"space {found.space}, " if found.space else ""
    what = "moment" if len(found.hits) == 1 else "moments"
    lines = [
        paths.shown(found.query),
        f"  best {len(found.hits)} {what} of {found.clips} clips, {space}{found.method}",
        f"  videos in {paths.shown(found.videos)}",
        *(f"  note: {paths.shown(note)}" for note in found.notes),
        *([f"  {line}"] if (line := calibration_line(found)) else []),
        "",
    ]
    if found.unknown and not any("vocabulary" in note for note in found.notes):
        words = paths.shown(", ".join(found.unknown))
        lines.insert(3, f"  note: not in this model's vocabulary: {words}")
    names = [paths.shown(hit.file) for hit in found.hits]
    width = max(map(len, names), default=0)
    calibrated = is_calibrated(found)
    if calibrated:
        lines.append(f"{'':4}  {'score':>6}  {'true':>6}  {'random':>6}")
    for rank, (hit, name) in enumerate(zip(found.hits, names, strict=True), start=1):
        score = f"{format_score(hit):>6}"
        if calibrated:
            score += f"  {percent(hit.true_higher):>6}  {percent(hit.random_higher):>6}"
        times = f"{clock(hit.start)} - {clock(hit.end)}"
        lines.append(f"{rank:4d}  {score}  {name:{width}}  {times}  {reason(hit)}")
    return "\n".join(lines)


def is_calibrated(found: Found) -> bool:
    """Whether it is known how many held-out pairs score higher than the hits."""
    return any(hit.true_higher is not None for hit in found.hits)


def calibration_line(found: Found) -> str:
    """What the scores are read against, or why they are not; "" where no model was asked."""
    if not found.calibration:
        return ""
    known = paths.shown(found.calibration)
    if not is_calibrated(found):
        return f"scores: {known}"
    return f"scores: beside each, the fraction of {known} that score higher"


def percent(fraction: float | None) -> str:
    """``41 %``, ``0.3 %`` or a dash; 0 and 100 are only what is exactly that."""
    if fraction is None:
        return "-"
    if 0 < fraction < 0.01:
        return "<0.1 %" if fraction < 0.0005 else f"{100 * fraction:.1f} %"
    return ">99 %" if 0.99 < fraction < 1 else f"{100 * fraction:.0f} %"


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
