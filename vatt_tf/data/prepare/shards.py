"""Writing shards: records in DMVR's format, one shard at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import io
import itertools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vatt_tf.atomic import new_file, read_json, write_json
from vatt_tf.data.media.captions import Caption
from vatt_tf.data.prepare.cutting import VideoClips
from vatt_tf.data.prepare.plan import Settings, Shard, Video
from vatt_tf.data.schema import RecordKeys
from vatt_tf.data.shards.clip_table import account_path
from vatt_tf.data.shards.overlap import content_hash
from vatt_tf.errors import UserError

Report = Callable[[str, str, float], None]  # event ("open", "read", "done"), file, share read


class ShardWriteError(UserError):
    """A shard that cannot be written (disk full, no permission)."""


def encode_record(
    frames: Sequence[bytes],
    waveform: np.ndarray | None,
    *,
    frame_rate: float,
    sample_rate: int,
    start: float,
    end: float,
    filename: str,
    captions: Sequence[Caption] = (),
    labels: Sequence[tuple[int, str]] = (),
    keys: RecordKeys | None = None,
) -> bytes:
    """Serialises one clip as ``tf.train.SequenceExample`` (docs/reference.md, Records).

    Args:
        frames: JPEG of each frame.
        waveform: float32 [N], mono, in [-1, 1]; None stores no sound.
        frame_rate: Frames per second.
        sample_rate: Samples per second.
        start: Seconds after the start of the video.
        end: Seconds.
        filename: Path of the video relative to the videos folder.
        captions: Captions with times in seconds on the video's time axis.
        labels: (index, name) pairs.
        keys: Feature names; DMVR's when left out.
    """
    import tensorflow as tf  # seconds to import: only where records are made

    keys = keys or RecordKeys()

    def texts(values: Iterable[str]) -> tf.train.Feature:
        encoded = [value.encode("utf-8") for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    def whole(values: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=list(values)))

    context = {
        keys.clip_start: whole([_microseconds(start)]),
        keys.clip_end: whole([_microseconds(end)]),
        keys.filename: texts([filename]),
        keys.frame_rate: tf.train.Feature(float_list=tf.train.FloatList(value=[frame_rate])),
    }
    if captions:
        context[keys.caption] = texts(caption.text for caption in captions)
        context[keys.caption_start] = whole(_microseconds(c.start) for c in captions)
        context[keys.caption_end] = whole(_microseconds(c.end) for c in captions)
        if any(caption.language for caption in captions):
            context[keys.caption_language] = texts(caption.language for caption in captions)
        if any(caption.confidence is not None for caption in captions):
            found = [math.nan if c.confidence is None else c.confidence for c in captions]
            context[keys.caption_confidence] = tf.train.Feature(
                float_list=tf.train.FloatList(value=found)
            )
    if labels:
        context[keys.label_index] = whole(index for index, _ in labels)
        context[keys.label_text] = texts(name for _, name in labels)
    images = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[frame])) for frame in frames]
    lists = {keys.image: tf.train.FeatureList(feature=images)}
    if waveform is not None:
        context[keys.sample_rate] = whole([sample_rate])
        sound = tf.train.Feature(float_list=_float_list(waveform))
        lists[keys.waveform] = tf.train.FeatureList(feature=[sound])
    example = tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    )
    return example.SerializeToString(deterministic=True)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _float_list(values: np.ndarray) -> Any:
    """A FloatList from an array, a hundred times faster than element by element.

    A packed repeated float field is its tag, its length in bytes, and the raw little-endian
    numbers, which the protobuf parser copies in one go.
    """
    import tensorflow as tf

    payload = np.ascontiguousarray(values, dtype="<f4").tobytes()
    header, length = bytearray(b"\x0a"), len(payload)
    while length > 0x7F:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return tf.train.FloatList.FromString(bytes(header) + payload)


def jpeg_encoder(quality: int) -> Callable[[np.ndarray], bytes]:
    """A function from a frame (uint8 [H, W, 3]) to JPEG bytes."""
    from PIL import Image

    def encode(frame: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    return encode


def write_records(path: str | os.PathLike, records: Iterable[bytes]) -> dict[str, Any]:
    """Writes a TFRecord file.

    Returns:
        ``records``, ``bytes`` and ``sha256`` of the file.

    Raises:
        ShardWriteError: The file cannot be written; nothing of it is left.
    """
    import tensorflow as tf

    path = pathlib.Path(path)
    count = 0
    with _new_shard(path) as temporary:
        with _writing(path):
            writer = tf.io.TFRecordWriter(str(temporary))
        try:
            for record in records:
                with _writing(path):
                    writer.write(record)
                count += 1
            with _writing(path):
                writer.close()
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                writer.close()
            raise
        with _writing(path), open(temporary, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    return {"records": count, "bytes": size, "sha256": digest}


@contextlib.contextmanager
def _new_shard(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """``new_file``, whose own errors are those of a shard; errors of the block pass unchanged."""
    with contextlib.ExitStack() as stack:
        with _writing(path):
            # An account relies on the shard: it must not outlive it in a power cut.
            temporary = stack.enter_context(new_file(path, durable=True))
        yield temporary
        with _writing(path):
            stack.close()


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong while writing into one clear message."""
    import tensorflow as tf

    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        raise ShardWriteError(
            f"{path}: the shard cannot be written: {reason} ({free_space(path.parent)}). The "
            "unfinished shard was removed and the finished ones are kept: mend the cause (make "
            "room) and run the same command again"
        ) from error


def remove_unfinished(shard: Shard, out: str | os.PathLike) -> None:
    """Removes what a process that was killed has left of a shard."""
    for path in (pathlib.Path(out, shard.name), account_path(out, shard.name)):
        for temporary in path.parent.glob(f"{glob.escape(path.name)}.tmp-*"):
            temporary.unlink(missing_ok=True)


def free_space(folder: str | os.PathLike) -> str:
    """Free space of the disk that holds a folder, in words."""
    folder = pathlib.Path(folder)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB free"
    except OSError:
        return "free space unknown"


def finished_shard(shard: Shard, settings: Settings, out: str | os.PathLike) -> dict | None:
    """The account of a shard that an earlier run finished from the same input, or None."""
    account = read_json(account_path(out, shard.name))
    if not isinstance(account, dict) or account.get("fingerprint") != shard.fingerprint(settings):
        return None
    if any(entry.get("retry") for entry in account["quarantine"]):
        return None  # files that could not be reached, which nothing is wrong with
    try:
        whole = os.stat(pathlib.Path(out, shard.name)).st_size == account.get("bytes")
    except OSError:
        return None
    return account if whole else None


def build_shard(
    shard: Shard, settings: Settings, out: str | os.PathLike, report: Report | None = None
) -> dict[str, Any]:
    """Makes one shard and its account; a second call with the same input gives the same bytes.

    Args:
        shard: Entry of the plan.
        settings: What decides the content.
        out: The shards folder.
        report: Called with ("open" | "read" | "done", file, share of the file read).

    Returns:
        The account: file, fingerprint, counts, quarantine, warnings, captions, clips.

    Raises:
        ShardWriteError: The shard cannot be written.
    """
    account: dict[str, Any] = {
        "file": shard.name,
        "split": shard.split,
        "fingerprint": shard.fingerprint(settings),
        "with_audio": 0,
        "with_captions": 0,
        "seconds": 0.0,
        "quarantine": [],
        "warnings": [],
        "captions": [],
        "clips": [],
    }
    records = _shard_records(shard, settings, account, report or (lambda *_: None))
    account |= write_records(pathlib.Path(out, shard.name), records)
    account["seconds"] = round(account["seconds"], 3)
    with _writing(account_path(out, shard.name)):
        write_json(account_path(out, shard.name), account)
    return account


@dataclasses.dataclass(frozen=True)
class ProbedVideo:
    """The first records of a video: their number, bytes, and seconds of media."""

    records: int
    bytes: int
    seconds: float


def probe_video(video: Video, settings: Settings, labels: Sequence[str], most: int) -> ProbedVideo:
    """Makes the first records of a video and keeps none of them.

    Args:
        video: The video; one that cannot be read gives no records.
        settings: What decides the content.
        labels: All label names of the data set.
        most: Records to make.
    """
    account: dict[str, Any] = {name: [] for name in ("quarantine", "warnings", "captions", "clips")}
    account |= {"with_audio": 0, "with_captions": 0, "seconds": 0.0}
    shard = Shard("probe", "train", [video], list(labels))
    records = _shard_records(shard, settings, account, lambda *_: None)
    sizes = [len(record) for record in itertools.islice(records, most)]
    seconds = sum(end - start for _, start, end, *_ in account["clips"])
    return ProbedVideo(len(sizes), sum(sizes), seconds)


def _shard_records(
    shard: Shard, settings: Settings, account: dict[str, Any], report: Report
) -> Iterator[bytes]:
    indices = {label: index for index, label in enumerate(shard.labels)}
    encode = jpeg_encoder(settings.jpeg_quality)
    for video in shard.videos:
        if video.file in shard.skip:
            _leave_out(account, video.file, shard.skip[video.file], 0, video.file in shard.retry)
            report("done", video.file, 1.0)
            continue
        report("open", video.file, 0.0)
        clips = VideoClips(video, settings, encode)
        for clip in clips:
            media = clip.media
            content = content_hash(media.frames, media.waveform)
            span = (round(media.start, 6), round(media.end, 6))
            account["clips"].append([video.file, *span, clip.labels, content])
            yield encode_record(
                media.frames,
                media.waveform,
                frame_rate=settings.frame_rate,
                sample_rate=settings.sample_rate,
                start=media.start,
                end=media.end,
                filename=video.file,
                captions=clip.captions,
                labels=[(indices[label], label) for label in clip.labels],
            )
            account["with_audio"] += media.waveform is not None
            account["with_captions"] += clip.has_words
            account["seconds"] += media.end - media.start
            report("read", video.file, clips.fraction)
        for reason in clips.quarantine:
            _leave_out(account, video.file, reason, clips.records, clips.unreachable)
        if not clips.records and not clips.quarantine:
            _leave_out(account, video.file, "no clip could be cut from it", 0)
        account["warnings"] += [{"file": video.file, "warning": note} for note in clips.warnings]
        if clips.records:
            account["captions"] += [caption.text for caption in clips.captions]
        report("done", video.file, 1.0)


def _leave_out(
    account: dict[str, Any], file: str, reason: str, records: int, retry: bool = False
) -> None:
    """Books a file, or a part of it, that is not used; with ``retry`` for this run only."""
    entry = {"file": file, "reason": reason, "records": records}
    account["quarantine"].append({**entry, "retry": True} if retry else entry)
