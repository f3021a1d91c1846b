"""manifest.json: what was made of a folder, what was left out, and what a user reads of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from vatt_tf import paths
from vatt_tf.data.lists.manifest import MANIFEST_FORMAT
from vatt_tf.data.prepare import holdout
from vatt_tf.data.prepare.folder import TRANSCRIPTS
from vatt_tf.data.prepare.plan import Plan, Settings
from vatt_tf.data.shards.clip_table import INVENTORY
from vatt_tf.output_folder import listed
from vatt_tf.wording import count_of


def content_of(
    plan: Plan,
    settings: Settings,
    accounts: Mapping[str, Mapping[str, Any]],
    tokenizers: Mapping[str, str],
) -> dict[str, Any]:
    """The content of manifest.json.

    Args:
        plan: All shards.
        settings: How they were made.
        accounts: Of the shards, by name.
        tokenizers: Vocabulary file by kind.
    """
    splits: dict[str, dict[str, Any]] = {}
    quarantine, warnings = list(plan.quarantine), list(plan.warnings)
    for shard in plan.shards:
        account = accounts[shard.name]
        split = splits.setdefault(
            shard.split,
            {"shards": [], "records": 0, "with_audio": 0, "with_captions": 0, "seconds": 0.0},
        )
        split["shards"].append(
            {name: account[name] for name in ("file", "records", "bytes", "sha256")}
        )
        for name in ("records", "with_audio", "with_captions", "seconds"):
            split[name] = round(split[name] + account[name], 3)
        quarantine += account["quarantine"]
        warnings += account["warnings"]
    return {
        "format": MANIFEST_FORMAT,
        "settings": settings.as_dict(),
        "splits": splits,
        "held_out": plan.held_out,
        "labels": plan.labels,
        "tokenizers": tokenizers,
        "videos": plan.videos,
        "quarantine": sorted(quarantine, key=lambda entry: (entry["file"], entry["reason"])),
        "warnings": sorted(warnings, key=lambda entry: (entry["file"], entry["warning"])),
    }


def changes(before: Any, plan: Plan) -> Iterator[str]:
    """A line for whatever runs on the shards of before would stumble over.

    Args:
        before: Content of the manifest of before, or None.
        plan: What was made now.
    """
    old, labels = before.get("labels") if isinstance(before, dict) else None, plan.labels
    if isinstance(old, list) and old != labels:
        new = [label for label in labels if label not in old]
        gone = [label for label in old if label not in labels]
        yield (
            f"the classes are others than before: {listed(new) or 'none'} new, "
            f"{listed(gone) or 'none'} gone; runs that were trained on the classes of before keep "
            "theirs and do not go on with these"
        )
    yield from holdout.changes(before, plan.held_out)


def summary(content: Mapping[str, Any], out: str) -> Iterator[str]:
    """Lines on what was made.

    Args:
        content: Content of the manifest.
        out: The shards folder.
    """
    for name, split in content["splits"].items():
        size = sum(shard["bytes"] for shard in split["shards"]) / 2**20
        yield (
            f"{name}: {count_of(split['records'], 'clip')} ({split['with_audio']} with sound, "
            f"{split['with_captions']} with captions), {split['seconds'] / 60:.1f} min, "
            f"{count_of(len(split['shards']), 'shard')}, {size:.1f} MiB"
        )
    if spoken := content.get("transcripts"):
        yield (
            f"transcripts: {count_of(spoken['videos'], 'video')} by {spoken['model']} "
            f"({', '.join(spoken['languages']) or 'no language'}); "
            f"{len(spoken['without_speech'])} without speech"
        )
        flag = shlex.quote(f"--transcripts={out}/{TRANSCRIPTS}")
        yield paths.shown(f"  vatt_tf.embed makes them searchable with {flag}")
    for kind, file in content["tokenizers"].items():
        yield f"{kind} vocabulary: {out}/{file}"


def notes(content: Mapping[str, Any], out: str) -> Iterator[str]:
    """Lines that a user has to see, also with ``--quiet``: what was held out and left out.

    Args:
        content: Content of the manifest.
        out: The shards folder.
    """
    if line := holdout.describe(content):
        yield line
    if content["quarantine"]:
        yield f"quarantine: {len(content['quarantine'])} (reasons in {out}/manifest.json)"
        for entry in content["quarantine"][:5]:
            yield paths.shown(f"  {entry['file']}: {entry['reason']}")
        if again := sum(bool(entry.get("retry")) for entry in content["quarantine"]):
            yield (
                f"  {count_of(again, 'file')} could not be read now: the same command tries "
                f"{'it' if again == 1 else 'them'} again"
            )
    if content["warnings"]:
        yield f"warnings: {len(content['warnings'])} (in {out}/manifest.json)"
        for entry in content["warnings"]:
            # A flag without effect; clips that two splits share.
            if entry["warning"].startswith("--") or entry["file"].startswith(f"{INVENTORY}/"):
                yield paths.shown(f"  {entry['warning']}")
