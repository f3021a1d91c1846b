"""Index on disk: a folder that grows video by video and is consistent after a kill at any time.

    INDEX/manifest.json       model, settings, spaces, counts, quarantine
    INDEX/videos.jsonl        one line per finished video: file, size, times of its clips
    INDEX/vectors_<space>.f32 embeddings of all clips, float32 [clips, dim]
    INDEX/texts.sqlite        words of the clips (vatt_tf.search_index.text.index)

The line of a video commits it: its vectors are written first, and vectors without a line are cut
off when the index is opened to add to it. Lines are only appended; a later line for a file replaces
the earlier one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vatt_tf import __version__, paths
from vatt_tf.atomic import write_json
from vatt_tf.data.shards.identity import SAME_FROM
from vatt_tf.data.shards.lock import only_job
from vatt_tf.errors import UserError
from vatt_tf.output_folder import LISTS, OutputFolder
from vatt_tf.wording import count_of

FORMAT = 1
MANIFEST, LOG, TEXTS = "manifest.json", "videos.jsonl", "texts.sqlite"


@dataclasses.dataclass
class Entry:
    """A finished video.

    Attributes:
        file: Path relative to the folder of videos, with forward slashes; bytes that are not
            UTF-8 are lone surrogates, as in every path of Python.
        size: Bytes of the file.
        mtime_ns: Time of its last change.
        first: Row of its first clip in the vectors.
        times: Start and end of each clip in seconds.
        reason: Why the video, or a part of it, could not be used; "" if all of it was used.
        present: Whether the file was in the folder at the last scan.
    """

    file: str
    size: int
    mtime_ns: int
    first: int
    times: list[tuple[float, float]]
    reason: str = ""
    present: bool = True


@dataclasses.dataclass(frozen=True)
class Clips:
    """Clips of the present videos, in the order of the rows.

    Attributes:
        files: Names of the videos.
        video: int32 [n], index into ``files``.
        times: float32 [n, 2], start and end in seconds.
        rows: int64 [n], rows of the vectors, or None when these are all of them in order.
    """

    files: list[str]
    video: np.ndarray
    times: np.ndarray
    rows: np.ndarray | None

    def __len__(self) -> int:
        return len(self.video)


class IndexFolder:
    """Index on disk; open it with ``open_index`` or ``create_or_resume``.

    Attributes:
        path: The folder.
        manifest: Content of manifest.json.
        entries: Finished videos by file name.
        rows: Number of clips in the vector files, those of replaced videos included.
        log_bytes: Length of the log: changes with every change of the index.
        unreachable: Reason by file that could not be read now; nothing else is booked of it.
    """

    def __init__(self, path: pathlib.Path, manifest: dict[str, Any]):
        self.path, self.manifest = path, manifest
        self.entries: dict[str, Entry] = {}
        self.rows = self.log_bytes = 0
        self.unreachable: dict[str, str] = {}
        self._read_log()

    @property
    def spaces(self) -> dict[str, dict[str, Any]]:
        """Space -> ``{"dim": ..., "partners": [modalities besides video]}``."""
        return self.manifest["spaces"]

    def vectors_path(self, space: str) -> pathlib.Path:
        """File of the embeddings of a space."""
        return self.path / f"vectors_{space}.f32"

    def clips(self) -> Clips:
        """The clips of the videos that are present."""
        entries = [e for e in self.entries.values() if e.present and e.times]
        counts = [len(entry.times) for entry in entries]
        total = sum(counts)
        rows = None
        if total != self.rows:
            parts = [np.arange(entry.first, entry.first + len(entry.times)) for entry in entries]
            rows = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        times = [time for entry in entries for time in entry.times]
        return Clips(
            files=[entry.file for entry in entries],
            video=np.repeat(np.arange(len(entries), dtype=np.int32), counts),
            times=np.array(times, np.float32).reshape(-1, 2),
            rows=rows,
        )

    def vectors(self, space: str, clips: Clips) -> np.ndarray:
        """Embeddings of the clips, float32 [n, dim]; memory-mapped where they are all rows."""
        shape = (self.rows, self.spaces[space]["dim"])
        if not self.rows:
            return np.zeros(shape, np.float32)
        stored = np.memmap(self.vectors_path(space), np.float32, mode="r", shape=shape)
        return stored if clips.rows is None else stored[clips.rows]

    def vectors_at(self, space: str, rows: np.ndarray) -> np.ndarray:
        """Embeddings of some rows, float32 [n, dim]; reads no other rows of the file."""
        shape = (self.rows, self.spaces[space]["dim"])
        if not len(rows):
            return np.zeros((0, shape[1]), np.float32)
        return np.memmap(self.vectors_path(space), np.float32, mode="r", shape=shape)[rows]

    def counts(self) -> dict[str, Any]:
        """Numbers of present videos, clips, seconds and files left out."""
        present = [entry for entry in self.entries.values() if entry.present]
        found = [entry for entry in present if entry.times]
        return {
            "videos": len(found),
            "clips": sum(len(entry.times) for entry in found),
            "seconds": round(sum(e - s for entry in found for s, e in entry.times), 3),
            "quarantined": sum(bool(e.reason) for e in present) + len(self.unreachable),
        }

    def add(self, entry: Entry, vectors: Mapping[str, np.ndarray]) -> None:
        """Appends a finished video: its vectors, then the line that commits it."""
        entry.first = self.rows
        for space in self.spaces if entry.times else ():
            with open(self.vectors_path(space), "ab") as file:
                file.write(np.ascontiguousarray(vectors[space], np.float32).tobytes())
                file.flush()
                # Before the line: after a power cut no line may exist without its vectors.
                os.fsync(file.fileno())
        self._append(dataclasses.asdict(entry))
        self.entries.pop(entry.file, None)
        self.entries[entry.file] = entry
        self.rows += len(entry.times)

    def mark(self, file: str, present: bool) -> None:
        """Marks a file as absent or present; its vectors stay."""
        self._append({"file": file, "present": present})
        self.entries[file].present = present

    def save_manifest(self) -> None:
        """Writes manifest.json with the current counts and quarantine list."""
        self.manifest["counts"] = self.counts()
        self.manifest["quarantine"] = [
            {"file": entry.file, "reason": entry.reason}
            for entry in self.entries.values()
            if entry.reason and entry.present
        ] + [
            {"file": file, "reason": reason, "retry": True}
            for file, reason in self.unreachable.items()
        ]
        write_json(self.path / MANIFEST, self.manifest)

    def cut_leftovers(self) -> None:
        """Truncates vectors and log after the last finished video, which a killed run left."""
        log = self.path / LOG
        if log.exists():
            os.truncate(log, self.log_bytes)
        for space, facts in self.spaces.items():
            if self.vectors_path(space).exists():
                os.truncate(self.vectors_path(space), self.rows * facts["dim"] * 4)

    def _append(self, line: dict[str, Any]) -> None:
        # A lone surrogate becomes its JSON escape, from which it is read again.
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        with open(self.path / LOG, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.log_bytes += len(data)

    def _read_log(self) -> None:
        log = self.path / LOG
        lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
        for number, raw in enumerate(lines, start=1):
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
                if line is not None and "times" in line:
                    entry = Entry(**{**line, "times": [tuple(time) for time in line["times"]]})
                    self.entries.pop(entry.file, None)
                    self.entries[entry.file] = entry
                    self.rows = max(self.rows, entry.first + len(entry.times))
                elif line is not None:
                    self.entries[line["file"]].present = line["present"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{log} line {number} is damaged ({error}); remove the folder {self.path} and "
                    "embed again"
                ) from error
            if line is None:  # a kill truncated the last line
                break
            self.log_bytes += len(raw)
        for space, facts in self.spaces.items():
            path = self.vectors_path(space)
            have = path.stat().st_size if path.exists() else 0
            need = self.rows * facts["dim"] * 4
            if have < need:
                raise UserError(
                    f"{path} has {have} bytes, expected {need}: it was cut or replaced; remove the "
                    f"folder {self.path} and embed again"
                )


def open_index(path: str | os.PathLike) -> IndexFolder:
    """Opens an index to search it.

    Raises:
        UserError: If there is none or it cannot be read.
    """
    folder = pathlib.Path(paths.expand(path))
    manifest = _read_manifest(folder)
    if manifest is None:
        raise UserError(
            f"{path}: no index there (no {MANIFEST}); make one with "
            f"`python -m vatt_tf.embed --videos=DIR --out={path} --run_dir=RUN`"
        )
    return IndexFolder(folder, manifest)


@contextlib.contextmanager
def create_or_resume(
    path: str | os.PathLike,
    *,
    model: dict[str, Any],
    settings: dict[str, Any],
    spaces: dict[str, dict[str, Any]],
    files: Mapping[str, int] | None = None,
    replace: bool = False,
    say: Callable[[str], None] = lambda note: None,
) -> Iterator[IndexFolder]:
    """Opens an index to add to it, or makes a new one; one process at a time.

    Args:
        path: Folder.
        model: ``{"kind", "address", "hash"}``; the hash has to be the index's own.
        settings: JSON values that have to be the index's own, but for ``videos``: a folder that
            has moved holds at least half of the videos of the index.
        spaces: See ``IndexFolder.spaces``.
        files: Bytes of the videos in the folder by name, to recognise a moved folder.
        replace: Make a new index in the place of one that was made differently.
        say: Called with each note for the user, one line.

    Raises:
        UserError: If the folder holds something else, an index of another model, of other settings
            or of other videos, or another process is at work in it.
    """
    folder = pathlib.Path(paths.expand(path))
    _compare(folder, model, settings, spaces, files, replace)
    with only_job(folder, "embed"):
        # Again, under the lock: another job may have changed the index before.
        before, own, differs = _compare(folder, model, settings, spaces, files, replace)
        if differs:
            own.remove(own.names)
            say("the index that was here before is replaced")
            before = None
        own.claim(_file_names(spaces))
        old = before["settings"]["videos"] if before else settings.get("videos")
        if old != settings.get("videos"):
            say(f"the videos have moved from {old} to {settings['videos']}")
        manifest = {
            **(before or {}),
            "format": FORMAT,
            "vatt_tf": __version__,
            "model": model,
            "settings": settings,
            "spaces": spaces,
        }
        index = IndexFolder(folder, manifest)
        index.cut_leftovers()
        index.save_manifest()
        yield index


def _file_names(spaces: Iterable[str]) -> list[str]:
    """Names of all files that an index may have."""
    kinds = ("vectors_{}.f32", "nearest_{}.faiss", "nearest_{}.json")
    texts = [TEXTS, f"{TEXTS}-journal"]  # with SQLite's journal, which exists during a write
    return [MANIFEST, LOG, *texts, *(kind.format(space) for space in spaces for kind in kinds)]


def spaces_in_words(spaces: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats the spaces of an index: ``va (with audio, 64 dimensions), ...``."""
    return ", ".join(
        f"{name} (with {' and '.join(facts['partners']) or 'nothing'}, {facts['dim']} dimensions)"
        for name, facts in spaces.items()
    )


def _compare(
    folder: pathlib.Path,
    model: dict[str, Any],
    settings: dict[str, Any],
    spaces: dict[str, dict[str, Any]],
    files: Mapping[str, int] | None,
    replace: bool,
) -> tuple[dict[str, Any] | None, OutputFolder, bool]:
    """Returns the manifest of the existing index, its files, and how it differs."""
    own = OutputFolder(folder, "embed")
    before = _read_manifest(folder)
    if not own:
        others = folder.is_dir() and any(p.name not in ("lock", LISTS) for p in folder.iterdir())
        if before is None and others:
            raise UserError(
                f"--out={folder}: is not empty and holds no index; nothing was changed. Give "
                "another folder"
            )
        if before is not None:  # of an earlier version, which kept no list of files
            own.adopt(_file_names(before["spaces"]))
    own.check(_file_names(spaces))
    if before is None:
        return None, own, False
    changes = _differences(folder, before, model, settings, spaces, files)
    if changes and not replace:
        raise UserError(
            f"--out={folder} was made differently: {'; '.join(changes)}. Nothing was changed: give "
            "another --out, or --replace to make a new index in its place"
        )
    return before, own, bool(changes)


def _read_manifest(folder: pathlib.Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(manifest, dict) or "spaces" not in manifest:
        raise UserError(f"{path}: is not the manifest of an index; give another folder")
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path}: format {manifest.get('format')!r}, this version reads {FORMAT}")
    return manifest


def _differences(
    folder: pathlib.Path,
    before: dict[str, Any],
    model: dict[str, Any],
    settings: dict[str, Any],
    spaces: dict[str, dict[str, Any]],
    files: Mapping[str, int] | None,
) -> list[str]:
    """Reasons why the videos do not belong into the existing index; empty if they do."""
    settings_before = before["settings"]
    changes = [
        f"{name} is {settings_before.get(name)} there and {value} now"
        for name, value in settings.items()
        if name != "videos" and settings_before.get(name) != value
    ]
    if settings_before.get("videos") != settings.get("videos"):
        entries = IndexFolder(folder, before).entries.values()
        there = sum((files or {}).get(entry.file) == entry.size for entry in entries)
        if not entries or there < SAME_FROM * len(entries):
            changes.append(
                f"videos is {settings_before.get('videos')} there and {settings.get('videos')} "
                f"now, where {there} of its {count_of(len(entries), 'video')} are"
            )
    if before["model"]["hash"] != model["hash"]:
        changes.append(
            f"model is {before['model']['hash'][:12]} ({before['model']['address']}) there and "
            f"{model['hash'][:12]} ({model['address']}) now"
        )
    elif before["spaces"] != spaces:
        old, new = spaces_in_words(before["spaces"]), spaces_in_words(spaces)
        changes.append(f"spaces are {old} there and {new} now")
    return changes
