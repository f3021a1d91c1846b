"""Report of a conversion: the printed table and ``provenance.json`` beside the weights."""

from __future__ import annotations

import collections
import json
import os
import time
from typing import Any, Protocol

from vatt_tf import __version__
from vatt_tf.pretrained.official_vatt import Converted, MappedVariable
from vatt_tf.wording import WIDTH, count_of

PROVENANCE = "provenance.json"


class Source(Protocol):
    """A published checkpoint: ``SourceCheckpoint`` or ``MMVSource``."""

    licence: str
    prefix: str
    shapes: dict[str, tuple[int, ...]]

    def checksums(self) -> dict[str, dict[str, str | int]]:
        """Size and SHA-256 of every file, by its name."""


def format_report(source: Source, converted: Converted) -> str:
    """Formats every official variable with its shape and ours, and those left out with reasons."""
    rows = [
        (key, _shape(source.shapes[key]), f"{entry.path}{_note(entry, key)}")
        for entry in converted.variables
        for key in entry.keys
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1, 2)]
    # Ours stands below where both do not fit side by side.
    between = "  " if sum(widths) + 4 <= WIDTH else "\n    -> "
    lines = [
        f"{key:<{widths[0]}}  {shape:>{widths[1]}}{between}{ours}" for key, shape, ours in rows
    ]
    reasons = collections.Counter(converted.left_out.values())
    lines += [f"left out: {count} ({reason})" for reason, count in sorted(reasons.items())]
    lines.append(
        f"{count_of(len(rows), 'official variable')} -> {len(converted.variables)} of ours"
    )
    return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _note(entry: MappedVariable, key: str) -> str:
    if entry.source_rows is not None:
        return f"  (interpolated from {entry.source_rows} to {entry.shape[0]} positions)"
    if len(entry.keys) > 1:
        return f"  ({entry.keys.index(key) + 1} of {len(entry.keys)}, side by side)"
    return ""


def write_provenance(folder: str, source: Source, converted: Converted, step: int) -> None:
    """Writes ``provenance.json``: source files with checksums, step, licence note, variables."""
    record: dict[str, Any] = {
        "source": os.path.basename(source.prefix),
        "description": converted.description,
        "files": source.checksums(),
        "step": step,
        "licence": source.licence,
        "converted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "vatt_tf": __version__,
        "variables": [
            {
                "ours": entry.path,
                "shape": list(entry.shape),
                "from": {key: list(source.shapes[key]) for key in entry.keys},
                **({"interpolated_from": entry.source_rows} if entry.source_rows else {}),
            }
            for entry in converted.variables
        ],
        "left_out": converted.left_out,
    }
    with open(os.path.join(folder, PROVENANCE), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
