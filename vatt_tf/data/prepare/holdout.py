"""What is held out as ``val`` of a folder when no list says: whole files, or the ends of files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from vatt_tf.data.media.info import probe
from vatt_tf.data.media.tracks.clock import end_of
from vatt_tf.data.media.tracks.container import MediaError
from vatt_tf.data.prepare.plan import Part, Settings
from vatt_tf.wording import percent

# A folder with fewer files is split by time: whole files would hold out far more or less than was
# asked for, or leave nothing to train on.
FEW_FILES = 5
# In a folder of up to so many files, those that chance holds out are counted: they may be one, or
# have no sound, so that nothing could be evaluated.
SMALL_FOLDER = 200
_PIECE = 2**16  # bytes of a file that are compared at a place
_SMALLEST = 512  # bytes; a smaller file holds no picture and no sound
BY_FILE, BY_TIME = "by file", "by time"


def hold_out(
    files: Mapping[str, str], settings: Settings, copies: Mapping[str, str]
) -> tuple[list[tuple[str, str, Part | None]], str]:
    """Gives every file its split; copies of a file have the same.

    Of few files the last ``val_fraction`` of each is held out, one clip's length apart, because
    neighbouring clips show the same scene. Files that are too short for that, that cannot be read
    or do not say how long they are go to training.

    Args:
        files: Name -> path, in order.
        settings: Give the fraction, and how files are cut.
        copies: See :func:`copies_of`.

    Returns:
        (name, split, part of the file or None for all of it), and a note for the user or "".
    """
    splits, note = _hold_out({n: p for n, p in files.items() if n not in copies}, settings)
    found: dict[str, list[tuple[str, Part | None]]] = defaultdict(list)
    for name, split, part in splits:
        found[name].append((split, part))
    return [(name, *each) for name in files for each in found[copies.get(name, name)]], note


def copies_of(files: Mapping[str, str]) -> dict[str, str]:
    """Names of files that hold the same as an earlier one -> the name of the first of them.

    Compared are sizes and, of files of one size, their ends and the middle.

    Args:
        files: Name -> path, in order.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for name, path in files.items():
        with contextlib.suppress(OSError):  # it gets its reason when its clips are read
            by_size[os.stat(path).st_size].append(name)
    found: dict[str, str] = {}
    first: dict[tuple[int, bytes], str] = {}
    for size, names in by_size.items():
        for name in names if len(names) > 1 and size >= _SMALLEST else ():
            with contextlib.suppress(OSError), open(files[name], "rb") as file:
                digest = hashlib.sha256()
                for place in (0, size // 2, max(0, size - _PIECE)):
                    file.seek(place)
                    digest.update(file.read(_PIECE))
                same = first.setdefault((size, digest.digest()), name)
                if same != name:
                    found[name] = same
    return found


def _hold_out(
    files: Mapping[str, str], settings: Settings
) -> tuple[list[tuple[str, str, Part | None]], str]:
    parts: dict[str, tuple[Part, Part]] = {}
    several = settings.cut != "whole" and settings.media != "image"  # clips of a file
    if settings.val_fraction and len(files) < FEW_FILES and several:
        parts = {name: found for name, path in files.items() if (found := _parts(path, settings))}
    if not parts:
        held = _held_out_files(files, settings)
        note = ""
        if settings.val_fraction and len(files) == 1:
            note = (
                "--val_fraction holds nothing out: the only file gives too few clips of "
                f"{settings.clip_seconds:g} s; add files, or give a shorter --clip_seconds"
            )
        return [(name, "val" if name in held else "train", None) for name in files], note
    splits: list[tuple[str, str, Part | None]] = []
    for name in files:
        if name in parts:
            train, val = parts[name]
            splits += [(name, "train", train), (name, "val", val)]
        else:
            splits.append((name, "train", None))
    return splits, ""


def _parts(path: str, settings: Settings) -> tuple[Part, Part] | None:
    """The training part and the held-out part of a file."""
    try:
        seconds = end_of(path, "audio" if settings.media == "audio" else "video")
    except (MediaError, OSError):
        return None  # it gets its reason when its clips are read
    cut = round(seconds * (1.0 - settings.val_fraction), 3)
    end = round(cut - settings.clip_seconds, 3)
    least = max(settings.min_clip_seconds, 1.0 / settings.frame_rate)
    if end < max(settings.clip_seconds, least) or seconds - cut < least:
        return None
    return (0.0, end), (cut, None)


def _held_out_files(files: Mapping[str, str], settings: Settings) -> set[str]:
    """Files chosen by a hash of the name: further files do not move the others.

    In a small folder at least half as many as were asked for are held out, with sound if there is.
    """
    fraction = settings.val_fraction
    order = sorted(files, key=lambda name: (number_of(f"split:{name}"), name))
    if not fraction or len(order) < 2:
        return set()  # the only file is there to be trained on
    held = {name for name in order if number_of(f"split:{name}") < fraction}
    # With a handful of videos chance must not leave a split empty.
    held = (held or {order[0]}) - {order[-1]}
    if len(order) > SMALL_FOLDER:
        return held
    least = max(1, int(fraction / 2 * len(order)))
    if settings.media == "video" and settings.sample_rate:
        missing = least - sum(_has_sound(files[name]) for name in held)
        if missing > 0:
            others = [n for n in order if n not in held and _has_sound(files[n])]
            held.update(others[:-1][:missing])  # one is left to train on
    others = [name for name in order[:-1] if name not in held]
    return held.union(others[: max(0, least - len(held))])


def _has_sound(path: str) -> bool:
    try:
        return probe(path).has_audio
    except (MediaError, OSError):
        return False  # it gets its reason when its clips are read


def number_of(text: str) -> float:
    """A number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def changes(before: Any, now: str) -> Iterator[str]:
    """A line where the manifest of before says that clips were held out otherwise.

    Args:
        before: Content of the manifest, or None.
        now: How they are held out now.
    """
    old = before.get("held_out", now) if isinstance(before, dict) else now
    if old != now:
        yield (
            f"clips are held out {now or 'nowhere'} now, before {old or 'nowhere'}: runs on the "
            "clips of before may have been trained on those that are held out now"
        )


def describe(manifest: Mapping[str, Any]) -> str:
    """A line for the summary where files were split by time; "" else."""
    if manifest.get("held_out") != BY_TIME:
        return ""
    settings = manifest["settings"]
    return (
        f"held out by time: there are too few files to hold out whole ones, so val is the last "
        f"{percent(settings['val_fraction'], 0)} of each file, {settings['clip_seconds']:g} s "
        "apart from "
        "train"
    )
