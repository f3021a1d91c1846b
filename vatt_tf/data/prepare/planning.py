"""Which video goes into which shard of which split.

The plan depends on the files, the manifest CSV and the settings only, never on the number of
processes or on what an earlier run finished, so that every run gives the same shards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

from vatt_tf.data.lists.manifest import Row, Rows
from vatt_tf.data.media.captions import pick_caption_file
from vatt_tf.data.media.file_names import FileNames, FoundFile
from vatt_tf.data.media.scan import MEDIA_SUFFIXES, VIDEO_SUFFIXES, not_looked_at, scan
from vatt_tf.data.prepare.holdout import BY_FILE, BY_TIME, copies_of, hold_out, number_of
from vatt_tf.data.prepare.plan import Plan, PlanError, Settings, Shard, Span, Video
from vatt_tf.data.shards.overlap import same_clips, tell_some
from vatt_tf.wording import count_of

SHARD_INPUT_BYTES = 64 * 2**20  # of video files; a shard is a few times larger


def make_plan(
    videos: str | os.PathLike,
    settings: Settings,
    rows: Rows | None = None,
    captions_dir: str | os.PathLike | None = None,
    labels: Sequence[str] | None = None,
    leave_out: Sequence[str | os.PathLike] = (),
) -> Plan:
    """Plans the shards of a folder.

    Args:
        videos: Folder, searched recursively.
        settings: What decides the content of the shards.
        rows: Manifest CSV; only the videos that it names are used.
        captions_dir: Folder of the caption files when they do not lie beside the videos.
        labels: All classes in index order; None: those of the rows in alphabetical order.
        leave_out: Folders that are not searched; files in them that the rows name are used.

    Raises:
        PlanError: No such folder, nothing to be found in it, or the same clip in two splits.
    """
    root = pathlib.Path(videos)
    if not root.is_dir():
        raise PlanError(f"--videos={videos}: no such folder")
    quarantine: list[dict[str, Any]] = []
    warnings: list[dict[str, Any]] = []
    found: list[Video] = []
    suffixes = MEDIA_SUFFIXES[settings.media]
    aliases: dict[str, set[str]] = {}
    others: dict[str, list[str]] | None = {} if rows is None else None
    names, caption_names = scan(root, suffixes, quarantine, leave_out, others)
    for first, note in not_looked_at(others or {}, settings.media):
        warnings.append({"file": first, "warning": note})
    files = FileNames(root, [*names, *caption_names])
    if rows is None:
        found = _from_folder(names, files, settings, quarantine, warnings)
        if not found and not quarantine:
            shown = VIDEO_SUFFIXES if settings.media == "video" else suffixes
            other = " and ".join(f"--media={m}" for m in MEDIA_SUFFIXES if m != settings.media)
            raise PlanError(
                f"{videos}: no {settings.media} file found (looked for {' '.join(shown)} in it and "
                f"in its sub-folders; hidden files are left out; {other} look for other files)"
            )
    else:
        quarantine.extend(rows.quarantine)
        warnings.extend(rows.warnings)
        found, aliases = _from_rows(rows, files, quarantine, warnings)
        warnings.extend(
            {"file": rows.source, "warning": note}
            for note in _without_effect(rows, found, settings, captions_dir, labels is None)
        )
    if captions_dir is not None:
        if not pathlib.Path(captions_dir).is_dir():
            raise PlanError(f"--captions_dir={captions_dir}: no such folder")
        _, caption_names = scan(captions_dir, (), [], leave_out)
        files = FileNames(captions_dir, caption_names)
    caption_names = {files.rename(stem): caption_names[stem] for stem in caption_names}
    _attach_captions(found, caption_names, root, captions_dir, settings.language, warnings)
    _refuse_leaks(found, aliases, settings.max_clip_seconds)
    if labels is None:
        labels = sorted({label for video in found for row in video.rows for label in row[2]})
    shards = _shards(found, list(labels), settings)
    count = len({video.file for video in found})
    columns = () if rows is None else rows.columns
    held_out = ""
    if rows is None and any(video.split == "val" for video in found):
        held_out = BY_TIME if any(video.part for video in found) else BY_FILE
    return Plan(shards, list(labels), quarantine, warnings, count, columns, held_out)


def _from_folder(
    names: list[str], files: FileNames, settings: Settings, quarantine: list, warnings: list
) -> list[Video]:
    several: dict[Hashable, list[FoundFile]] = defaultdict(list)
    for written in names:
        file = _find(files, written, quarantine)
        if file is not None:
            several[file.identity].append(file)
    chosen: dict[str, FoundFile] = {}
    for same in several.values():
        first, *others = sorted(same, key=lambda file: file.name)
        chosen[first.name] = first
        if others:
            shown = ", ".join(file.name for file in others)
            note = f"the same file is also called {shown}; it is used once"
            warnings.append({"file": first.name, "warning": note})
    paths = {name: chosen[name].path for name in sorted(chosen)}
    copies = copies_of(paths) if settings.val_fraction else {}
    for name, original in copies.items():
        note = f"it holds the same as {original}: what is held out of the one is so of the other"
        warnings.append({"file": name, "warning": note})
    splits, note = hold_out(paths, settings, copies)
    if note:
        warnings.append({"file": splits[0][0], "warning": note})
    return [
        dataclasses.replace(_video(chosen[name], name, split, []), part=part)
        for name, split, part in splits
    ]


def _from_rows(
    rows: Rows, files: FileNames, quarantine: list, warnings: list
) -> tuple[list[Video], dict[str, set[str]]]:
    """The videos of the rows, and what the list calls each of them."""
    by_path: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows.rows:
        by_path[row.path, row.split].append(row)
    located: dict[str, FoundFile | None] = {}
    grouped: dict[tuple[Hashable, str], list[tuple[FoundFile, Row]]] = defaultdict(list)
    for (path, split), members in sorted(by_path.items()):
        if path not in located:
            located[path] = _find(files, path, quarantine)
        file = located[path]
        if file is not None:
            grouped[file.identity, split] += [(file, row) for row in members]
    # Under one name in all splits.
    names: dict[Hashable, FoundFile] = {}
    for (identity, _), group in grouped.items():
        first = min((file for file, _ in group), key=lambda file: file.name)
        names[identity] = min(first, names.get(identity, first), key=lambda file: file.name)
    found = []
    aliases: dict[str, set[str]] = defaultdict(set)
    for (identity, split), group in grouped.items():
        members = [row for _, row in group]
        aliases[names[identity].name].update(row.path for row in members)
        members.sort(key=lambda row: (row.start or 0.0, row.end or math.inf, row.line))
        spans = _merge_spans(members, rows.source, names[identity].name, warnings)
        found.append(_video(names[identity], names[identity].name, split, spans))
    found.sort(key=lambda video: (video.file, video.split))
    return found, aliases


def _merge_spans(members: list[Row], source: str, file: str, warnings: list) -> list[Span]:
    """The spans of a video; the same one under two names of the file is one clip."""
    spans: list[Span] = []
    first: dict[tuple[float | None, float | None], tuple[Row, Span]] = {}
    for row in members:
        span = (row.start, row.end, list(row.labels), list(row.captions))
        known, merged = first.setdefault((row.start, row.end), (row, span))
        if known.path == row.path:  # one name: the list has merged what it repeats
            spans.append(span)
            continue
        merged[2].extend(label for label in row.labels if label not in merged[2])
        merged[3].extend(text for text in row.captions if text not in merged[3])
        where = f"{source} line {row.line}: " if row.line else ""
        note = f"{where}'{row.path}' is the same file as '{known.path}', and the span is the same"
        warnings.append({"file": file, "warning": f"{note}; they are one clip"})
    return spans


def _without_effect(
    rows: Rows,
    found: list[Video],
    settings: Settings,
    captions_dir: str | os.PathLike | None,
    chosen: bool,
) -> list[str]:
    """Notes on settings that change nothing beside a list.

    Args:
        rows: The list.
        found: Its videos.
        settings: All settings.
        captions_dir: Folder of caption files.
        chosen: Whether the settings are the user's, not those recommended for a data set.

    Raises:
        PlanError: A share of a list without splits is to be held out.
    """
    default = Settings()
    notes = []
    if settings.val_fraction and rows.columns and "split" not in rows.columns:
        raise PlanError(
            f"--val_fraction={settings.val_fraction:g}: {rows.source} has no column split, so all "
            "of it is train; add the column with train and val, or leave the flag out"
        )
    if settings.val_fraction:
        notes.append(
            f"--val_fraction has no effect: it is {settings.val_fraction:g}, but the list names "
            "the splits (a line without one is train)"
        )
    if chosen and found and all(row[0] is not None for video in found for row in video.rows):
        for name in ("cut", "min_clip_seconds"):
            if getattr(settings, name) != getattr(default, name):
                notes.append(
                    f"--{name} has no effect: it is {getattr(settings, name)}, but every line of "
                    "the list has its times"
                )
    if found and all(any(row[3] for row in video.rows) for video in found):
        if settings.language != default.language:
            notes.append(
                f"--language has no effect: it is {settings.language}, but the list has the "
                "captions of every video"
            )
        if captions_dir is not None:
            notes.append(
                f"--captions_dir has no effect: it is {captions_dir}, but the list has the "
                "captions of every video"
            )
    return notes


def _refuse_leaks(
    found: list[Video], aliases: dict[str, set[str]], max_clip_seconds: float
) -> None:
    """Refuses the same clip (same file, overlapping times) in two splits."""
    parts: dict[str, list[Video]] = defaultdict(list)
    for video in found:
        parts[video.file].append(video)
    shared = []
    for file, videos in parts.items():
        others = ", ".join(sorted(aliases.get(file, set()) - {file}))
        shown = f"{file} (in the list also {others})" if others else file
        for first, second in itertools.combinations(videos, 2):
            spans = [_spans(video, max_clip_seconds) for video in (first, second)]
            for i, j in same_clips(*spans):
                a, b = spans[0][i], spans[1][j]
                times = f"{a[1]:g}-{a[2]:g} s in {first.split}, {b[1]:g}-{b[2]:g} s in"
                shared.append(f"{shown} ({times} {second.split})")
    if shared:
        raise PlanError(
            f"{count_of(len(shared), 'clip')} in two splits: {tell_some(shared)}. A model must "
            "not be "
            "tested on what it was trained on: give each clip one split"
        )


def _spans(video: Video, max_clip_seconds: float) -> list[tuple[str, float, float]]:
    if video.part is not None:
        first, last = video.part
        return [(video.file, first, math.inf if last is None else last)]
    spans = []
    for start, end, *_ in video.rows:
        span = (video.file, start or 0.0, math.inf if end is None else end)
        if end is None or span[2] - span[1] <= max_clip_seconds:  # a longer one is left out
            spans.append(span)
    return spans


def _find(files: FileNames, written: str, quarantine: list) -> FoundFile | None:
    try:
        return files.find(written)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        quarantine.append({"file": written, "reason": f"{reason} (looked for {error.filename})"})
        return None


def _video(file: FoundFile, name: str, split: str, rows: list) -> Video:
    return Video(name, file.path, split, file.state.st_size, file.state.st_mtime_ns, rows)


def _attach_captions(
    found: list[Video],
    captions: dict[str, list[str]],
    root: str | os.PathLike,
    captions_dir: str | os.PathLike | None,
    language: str,
    warnings: list,
) -> None:
    users: dict[str, list[str]] = defaultdict(list)
    folder = root if captions_dir is None else captions_dir
    for video in found:
        if any(row[3] for row in video.rows):
            continue  # the manifest has the captions
        stem = os.path.splitext(video.file)[0]
        # In a folder of captions only the file name needs to agree.
        also = [] if captions_dir is None else [os.path.basename(stem)]
        for candidate in dict.fromkeys([stem, *also]):
            base = os.path.basename(candidate)
            where = os.path.dirname(candidate)
            names = [os.path.basename(name) for name in captions.get(candidate, ())]
            chosen, notes = pick_caption_file(base, names, language)
            warnings.extend({"file": video.file, "warning": note} for note in notes)
            if chosen is not None:
                side_car = pathlib.Path(folder, where, chosen)
                video.captions = str(side_car.absolute())
                with contextlib.suppress(OSError):  # a link to nowhere: told when it is read
                    state = side_car.stat()
                    video.captions_state = (state.st_size, state.st_mtime_ns)
                if video.file not in users[video.captions]:
                    users[video.captions].append(video.file)
                break
    for path, files in users.items():
        if len(files) > 1:
            note = (
                f"{os.path.basename(path)} is used for {count_of(len(files), 'video')}: "
                f"{', '.join(files)}"
            )
            warnings.append({"file": files[0], "warning": note})


def _shards(found: list[Video], labels: list[str], settings: Settings) -> list[Shard]:
    by_split: dict[str, list[Video]] = defaultdict(list)
    for video in found:
        by_split[video.split].append(video)
    shards = []
    for split in sorted(by_split):
        # Hash order mixes folders (often one folder a class) over the shards.
        videos = sorted(by_split[split], key=lambda video: (number_of(video.file), video.file))
        size = sum(video.size for video in videos)
        count = settings.num_shards or max(
            4, math.ceil(math.sqrt(len(videos)) / 2), math.ceil(size / SHARD_INPUT_BYTES)
        )
        count = min(count, len(videos))
        for index in range(count):
            name = f"{split}/{split}-{index:05d}-of-{count:05d}.tfrecord"
            shards.append(Shard(name, split, videos[index::count], labels))
    return shards
