"""Where records lie: shard files of a data source and the byte offset of every record in them.

The position of each record is read once from the TFRecord headers (12 bytes a record). With it
the pipeline can shuffle record *numbers* instead of records: no shuffle buffer full of JPEGs, no
reading to skip to a step, and no worker reads what another one trains on. A file cut short is
noticed here, before the first step.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import glob
import json
import os
import struct
from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from vatt_tf import paths
from vatt_tf.errors import UserError, value_text
from vatt_tf.wording import count_of

HOW_TO_MAKE_SHARDS = (
    "make shards with `python -m vatt_tf.prepare --sample --out=data/sample` (a sample set) or "
    "`python -m vatt_tf.prepare --videos=DIR --out=DIR_FOR_SHARDS` (your own videos), then give "
    "that folder, e.g. `python -m vatt_tf.train --gin_file=gin_configs/tiny.gin "
    "--gin_bindings='TRAIN_DATA=\"data/sample\"'`"
)

# A record's bytes in a TFRecord file: length (uint64), checksum of the length (uint32), data,
# checksum of the data (uint32).
_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4
FRAMING_BYTES = _HEADER.size + _FOOTER_BYTES
_GZIP_MAGIC = b"\x1f\x8b\x08"

# record id = source << 48 | shard << 24 | index of the record in the shard.
SOURCE_SHIFT = 48
SHARD_SHIFT = 24
_FIELD_MASK = (1 << 24) - 1


@gin.configurable("data_source")
@dataclasses.dataclass(frozen=True)
class DataSource:
    """One set of shards; a subclass with :meth:`parse` reads TFRecord files of another layout.

    Attributes:
        path: Folder written by ``prepare`` (or its split folder), a file, a glob (of what does not
            exist as it is written), DMVR's ``name@shards`` form, or a tuple of those.
        weight: Share of the clips in a mixture, relative to the other sources' weights.
        frame_rate: Stored frames per second of records that do not say it themselves.
        sample_rate: Stored samples per second of records that do not say it themselves.

    Raises:
        UserError: If a field is not usable.
    """

    path: str | tuple[str, ...] = ""
    weight: float = 1.0
    frame_rate: float | None = None
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.path, os.PathLike):
            object.__setattr__(self, "path", os.fspath(self.path))
        elif isinstance(self.path, Sequence) and not isinstance(self.path, str):
            parts = tuple(os.fspath(p) if isinstance(p, os.PathLike) else p for p in self.path)
            object.__setattr__(self, "path", parts)
        parts = self.path if isinstance(self.path, tuple) else (self.path,)
        if not self.path or not all(isinstance(part, str) for part in parts):
            raise UserError(
                f"data_source.path is {value_text(self.path)}; expected a folder or glob of "
                f"shards: {HOW_TO_MAKE_SHARDS}"
            )
        paths.expand_fields(self, "path")
        for name in ("weight", "frame_rate", "sample_rate"):
            value = getattr(self, name)
            if value is None and name != "weight":
                continue
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise UserError(
                    f"data_source.{name} is {value_text(value)}; expected a positive number"
                )

    def parse(self, serialized: tf.Tensor, record_id: tf.Tensor) -> Any:
        """One record as a :class:`vatt_tf.data.shards.records.Record`, in a graph.

        Overridden by sources whose files hold something else than DMVR's ``SequenceExample``.

        Args:
            serialized: String scalar, the bytes of the record.
            record_id: int64, to be handed on.
        """
        raise NotImplementedError

    @property
    def has_own_layout(self) -> bool:
        """Whether the class has a :meth:`parse` of its own."""
        return type(self).parse is not DataSource.parse


Sources = DataSource | str | os.PathLike | Sequence[DataSource | str | os.PathLike]


def as_sources(sources: Sources) -> tuple[DataSource, ...]:
    """Returns ``DataSource`` objects for a path, a source, or a sequence of either."""
    if isinstance(sources, DataSource | str | os.PathLike):
        sources = (sources,)
    found = tuple(s if isinstance(s, DataSource) else DataSource(os.fspath(s)) for s in sources)
    if not found:
        raise UserError(f"no data source was given: {HOW_TO_MAKE_SHARDS}")
    return found


@dataclasses.dataclass(frozen=True)
class MissingRecords:
    """Records that a shard has lost at its end.

    Attributes:
        file: The shard.
        first: Number of the first one in the shard.
        count: How many, by manifest.json; without one at least 1 of a shard that is cut short.
        offset: Byte where they would begin.
        fault: What is wrong with the shard.
    """

    file: str
    first: int
    count: int
    offset: int
    fault: str


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """Every record of a source.

    Attributes:
        files: Shard files, sorted within each path.
        first_row: int64 ``[shards + 1]``, number of the first record of each shard.
        offsets: int64 ``[records]``, byte where the record's header begins.
        lengths: int64 ``[records]``, bytes of the record's data.
        frame_rate: Stored frames per second for records that do not say it (0: unknown).
        sample_rate: Stored samples per second for records that do not say it (0: unknown).
        missing: What the shards once held besides; empty unless damage is tolerated.
        has_own_layout: Whether the source parses the records itself.
    """

    files: tuple[str, ...]
    first_row: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    frame_rate: float
    sample_rate: int
    missing: tuple[MissingRecords, ...] = ()
    has_own_layout: bool = False

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self.offsets)


def list_shards(path: str | Sequence[str], splits: Sequence[str] = ("train",)) -> tuple[str, ...]:
    """Finds the shard files of a folder, glob, file, ``name@shards`` table, or several of those.

    What exists is no glob, whatever characters are in its name.

    Args:
        path: See :class:`DataSource`.
        splits: For the top folder of a prepared data set, the split folders to look for; the
            first one that is there is taken.

    Raises:
        UserError: If there is no such folder or no shard in it.
    """
    if not isinstance(path, str):
        return tuple(file for part in path for file in list_shards(part, splits))
    gfile = tf.io.gfile
    if gfile.isdir(path):
        found = shards_in(path)
        for split in splits if not found else ():
            found = shards_in(os.path.join(path, split))
            if found:
                break
        if not found:
            inside = sorted(name.rstrip("/") for name in gfile.listdir(path))[:8]
            raise UserError(
                f"no shards in the folder {path} (looked for *.tfrecord and *-of-* there and in "
                f"{', '.join(splits)}/; it holds {', '.join(inside) or 'nothing'}): "
                f"{HOW_TO_MAKE_SHARDS}"
            )
        return tuple(found)
    found = [file for file in paths.find(path) if _is_shard(file)] or _shards_of_table(path)
    if not found:
        raise UserError(f"no shards at {path}: {HOW_TO_MAKE_SHARDS}")
    return tuple(found)


def _shards_of_table(path: str) -> list[str]:
    """Shard files of ``name@shards``."""
    table, at, count = path.rpartition("@")
    if not at or not count.isdigit():
        return []
    folder, name = os.path.split(table)
    for start in (glob.escape(name), name):
        found = paths.find(os.path.join(folder, f"{start}*-of-*"))
        if found:
            return [file for file in found if _is_shard(file)]
    return []


def _is_shard(file: str) -> bool:
    """Half-written files (``.tmp-``) and folders do not count."""
    return ".tmp-" not in os.path.basename(file) and not tf.io.gfile.isdir(file)


def shards_in(folder: str) -> list[str]:
    """Shard files right in a folder."""
    names = [name for name in paths.list_names(folder) if not name.startswith(".")]
    for pattern in ("*.tfrecord", "*-of-*"):
        files = [os.path.join(folder, name) for name in fnmatch.filter(names, pattern)]
        files = [file for file in files if _is_shard(file)]
        if files:
            return files
    return []


def index_shard(file: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads the record headers of a TFRecord file.

    Returns:
        int64 byte offsets of the records, int64 lengths of their data, and where the file is cut
        short what tells so ("" for a whole one).

    Raises:
        UserError: If the file cannot be read, is compressed, or is no TFRecord file.
    """
    cut = ""
    offsets: list[int] = []
    lengths: list[int] = []
    try:
        size = tf.io.gfile.stat(file).length
        # Plain unbuffered reads are several times faster than GFile's, where they are possible.
        local = "://" not in file
        with open(file, "rb", buffering=0) if local else tf.io.gfile.GFile(file, "rb") as stream:
            offset = 0
            while offset < size:
                stream.seek(offset)
                header = stream.read(_HEADER.size)
                if offset == 0 and header[:3] == _GZIP_MAGIC:
                    raise UserError(f"{file} is compressed; write it as a plain TFRecord file")
                end = size + 1
                if len(header) == _HEADER.size:
                    length = _HEADER.unpack(header)[0]
                    end = offset + _HEADER.size + length + _FOOTER_BYTES
                if end > size:
                    cut = _cut_short(file, len(offsets), offset, end, size, header)
                    break
                offsets.append(offset)
                lengths.append(length)
                offset = end
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot read the shard {file}: {error}") from error
    return np.asarray(offsets, np.int64), np.asarray(lengths, np.int64), cut


def _cut_short(file: str, record: int, offset: int, end: int, size: int, header: bytes) -> str:
    """Says what is wrong with a file whose last header does not fit its size."""
    if record == 0 and end > size + (1 << 40):
        raise UserError(f"{file} is not a TFRecord file (it begins with {header!r})")
    need = "has half a header" if len(header) < _HEADER.size else f"needs bytes up to {end}"
    return (
        f"the shard {file} is cut short: record {record} at byte {offset} {need}, but the file "
        f"ends at byte {size}; copy it again, make it again with `python -m vatt_tf.prepare`, "
        "or take it out of the folder"
    )


def read_manifest(file: str) -> dict | None:
    """Reads the ``manifest.json`` beside a shard or one folder above it, if there is one."""
    folder = os.path.dirname(file)
    return manifest_in(folder) or manifest_in(os.path.dirname(folder))


def manifest_in(folder: str | os.PathLike) -> dict | None:
    """Reads the ``manifest.json`` of a folder, and adds its ``path``; None without one.

    Raises:
        UserError: It is no JSON.
    """
    path = os.path.join(folder, "manifest.json")
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "r") as stream:
            content = json.load(stream)
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(f"{path}: not a readable manifest ({error}); prepare the data again") from (
            error
        )
    # Other programs write files of this name too; ours has a table of splits.
    ours = isinstance(content, dict) and isinstance(content.get("splits"), dict)
    return {**content, "path": path} if ours else None


def manifests(path: str | Sequence[str], splits: Sequence[str]) -> dict[str, dict]:
    """The folders with the shards of a path, each with its manifest; {} where it has none."""
    folders = dict.fromkeys(os.path.dirname(file) for file in list_shards(path, splits))
    return {folder: read_manifest(os.path.join(folder, "shard")) or {} for folder in folders}


def index_source(
    source: DataSource, splits: Sequence[str] = ("train",), *, tolerate_damage: bool = False
) -> ShardIndex:
    """Finds every record of a source.

    Args:
        source: The source.
        splits: For the top folder of a prepared data set, the split folders to look for.
        tolerate_damage: Take what is left of shards that are cut short and list what is missing.

    Raises:
        UserError: If there is no record, a shard is damaged, or a shard holds another number of
            records than ``manifest.json`` says.
    """
    files = list_shards(source.path, splits)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(index_shard, files))
    counts = [len(offsets) for offsets, _, _ in tables]
    expected, settings = _read_manifests(files)
    missing = []
    for file, (offsets, lengths, cut), told in zip(files, tables, expected, strict=True):
        if cut and not tolerate_damage:
            raise UserError(cut)
        there = len(offsets)
        count, manifest = told or (there, "")
        if count < there or (count > there and not tolerate_damage):
            raise UserError(_other_count(file, there, count, manifest))
        lost = max(count - there, 1 if cut else 0)
        if lost:
            fault = cut or _other_count(file, there, count, manifest)
            end = int(offsets[-1] + lengths[-1]) + FRAMING_BYTES if there else 0
            missing.append(MissingRecords(file, there, lost, end, fault))
    if not sum(counts):
        raise UserError(f"no records in {source.path}: all {len(files)} shards are empty")
    if max(counts) > _FIELD_MASK or len(files) > _FIELD_MASK:
        raise UserError(f"{source.path} has more than {_FIELD_MASK} shards or records in a shard")
    frame_rate = source.frame_rate or settings.get("frame_rate") or 0.0
    sample_rate = source.sample_rate or settings.get("sample_rate") or 0
    return ShardIndex(
        files=files,
        first_row=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        offsets=np.concatenate([offsets for offsets, _, _ in tables]),
        lengths=np.concatenate([lengths for _, lengths, _ in tables]),
        frame_rate=float(frame_rate),
        sample_rate=int(sample_rate),
        missing=tuple(missing),
        has_own_layout=source.has_own_layout,
    )


def _other_count(file: str, found: int, expected: int, manifest: str) -> str:
    return (
        f"the shard {file} has {count_of(found, 'record')}, but {manifest} says {expected}: it "
        "was cut or "
        "replaced; make it again with `python -m vatt_tf.prepare`"
    )


def _read_manifests(files: Sequence[str]) -> tuple[list[tuple[int, str] | None], dict]:
    """Reads the manifests of some shards.

    Returns:
        For each shard how many records it should have and the manifest that says so (None where
        none does), and the settings of the first manifest.
    """
    manifests: dict[str, dict | None] = {}
    counts: dict[str, tuple[int, str]] = {}
    for file in files:
        folder = os.path.dirname(file)
        if folder not in manifests:
            manifests[folder] = read_manifest(file)
            manifest = manifests[folder] or {"path": "", "splits": {}}
            root = os.path.dirname(manifest["path"])
            for split in manifest["splits"].values():
                for shard in split.get("shards", ()):
                    if "records" in shard:
                        path = os.path.normpath(os.path.join(root, shard["file"]))
                        counts[path] = shard["records"], manifest["path"]
    found = [m for m in manifests.values() if m]
    settings = found[0].get("settings", {}) if found else {}
    return [counts.get(os.path.normpath(file)) for file in files], settings


def make_record_id(source: int, shard: int, index: int) -> int:
    """Packs the place of a record into one int64."""
    return source << SOURCE_SHIFT | shard << SHARD_SHIFT | index


def split_record_id(record_id: int) -> tuple[int, int, int]:
    """Returns ``(source, shard, index in the shard)`` of a record id."""
    record_id = int(record_id)
    return (
        record_id >> SOURCE_SHIFT,
        record_id >> SHARD_SHIFT & _FIELD_MASK,
        record_id & _FIELD_MASK,
    )


def describe_record_id(record_id: int, sources: Sources, splits: Sequence[str] = ("train",)) -> str:
    """Names a record for a person: ``train-00000-of-00004.tfrecord record 17``.

    Args:
        record_id: ``record_id`` of a batch.
        sources: The sources that the batch was read from, in the same order.
        splits: The splits that they were read for.
    """
    source, shard, index = split_record_id(record_id)
    files = list_shards(as_sources(sources)[source].path, splits)
    return f"{files[shard]} record {index}"
