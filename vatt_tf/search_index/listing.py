"""Output of ``vatt_tf.search``: a table, or one JSON object for programs."""

from __future__ import annotations

import dataclasses
import json
import os

from vatt_tf import paths
from vatt_tf.search_index.hits import Found, Hit, clock
from vatt_tf.wording import WIDTH, count_of, fixed, shortened, wrapped

_NAME_WIDTH = 52


def format_found(found: Found, quiet: bool = False) -> str:
    """Formats the hits as a table; shortens long names in the middle, unlike ``as_json``.

    Args:
        found: Result of a search.
        quiet: Formats only hits and notes.
    """
    space = f"space {found.space}, " if found.space else ""
    summary = [
        wrapped(paths.shown(found.query)),
        f"  best {count_of(len(found.hits), 'moment')} of {count_of(found.clips, 'clip')}, {space}"
        f"{found.method}",
        f"  videos in {paths.shown(found.videos)}",
        *([wrapped(f"  {line}")] if (line := calibration_line(found)) else []),
    ]
    notes = list(found.notes)
    if found.unknown and not any("vocabulary" in note for note in notes):
        notes.insert(0, f"not in this model's vocabulary: {', '.join(found.unknown)}")
    lines = [] if quiet else summary
    lines += [wrapped(f"  note: {paths.shown(note)}") for note in notes]
    lines += [""] if lines else []
    names = [shortened(paths.shown(hit.file), _NAME_WIDTH) for hit in found.hits]
    width = max(map(len, names), default=0)
    calibrated = is_calibrated(found)
    if calibrated:
        lines.append(f"{'':4}  {'score':>6}  {'true':>6}  {'random':>6}")
    for rank, (hit, name) in enumerate(zip(found.hits, names, strict=True), start=1):
        score = f"{format_score(hit):>6}"
        if calibrated:
            score += f"  {percent(hit.true_higher):>6}  {percent(hit.random_higher):>6}"
        times = f"{clock(hit.start)} - {clock(hit.end)}"
        line = f"{rank:4d}  {score}  {name:{width}}  {times}  "
        lines.append(line + shortened(reason(hit), WIDTH - len(line)))
    return "\n".join(lines)


def is_calibrated(found: Found) -> bool:
    """Whether the scores have a calibration."""
    return any(hit.true_higher is not None for hit in found.hits)


def calibration_line(found: Found) -> str:
    """Line about the calibration, or why there is none; "" where no model was used."""
    if not found.calibration:
        return ""
    known = paths.shown(found.calibration)
    if not is_calibrated(found):
        return f"scores: {known}"
    return f"scores: beside each, the fraction of {known} that score higher"


def percent(fraction: float | None) -> str:
    """Formats a fraction: ``41 %``, ``0.3 %`` or a dash; 0 % and 100 % are exact."""
    if fraction is None:
        return "-"
    if 0 < fraction < 0.01:
        return "<0.1 %" if fraction < 0.0005 else f"{100 * fraction:.1f} %"
    return ">99 %" if 0.99 < fraction < 1 else f"{100 * fraction:.0f} %"


def format_score(hit: Hit) -> str:
    """Formats a cosine with three decimals, or a dash."""
    return "-" if hit.score is None else fixed(hit.score, 3)


def reason(hit: Hit) -> str:
    """Reason in words why a clip was found."""
    parts = [f"words: {' '.join(hit.words)}"] if hit.words else []
    if hit.found_by != "words":
        parts.append("embedding")
    missing = " (cannot be opened)" if hit.missing else ""
    return paths.shown(" + ".join(parts) + missing)


def as_json(found: Found) -> str:
    """Formats the hits as one ASCII JSON object; bytes that are not UTF-8 are lone surrogates."""
    hits = [
        {**dataclasses.asdict(hit), "path": os.path.join(found.videos, hit.file)}
        for hit in found.hits
    ]
    return json.dumps({**dataclasses.asdict(found), "hits": hits})
