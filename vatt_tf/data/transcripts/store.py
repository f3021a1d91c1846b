"""Transcripts of videos without captions: made once, kept beside the shards, read as captions.

    OUT/transcripts/talks/a.mp4.json   {"segments": [{"start", "end", "text", "words", ...}], ...}

They are made before the first shard, so that a shard depends on its transcripts as it does on
caption files: by name, size and time of change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from vatt_tf.atomic import read_json, write_json
from vatt_tf.data.media.captions import Caption, group_words, join_words, read_captions
from vatt_tf.data.media.tracks.container import MediaError
from vatt_tf.data.prepare.folder import TRANSCRIPTS, ShardsFolder
from vatt_tf.data.prepare.plan import Plan, PlanError, Video
from vatt_tf.data.prepare.runners import workers as parallel
from vatt_tf.data.prepare.shards import Report
from vatt_tf.errors import UserError
from vatt_tf.progress_bar import progress_bar

FORMAT = 1
_NAME_BYTES = 200  # most file systems allow 255; a temporary ending comes behind


@dataclasses.dataclass(frozen=True)
class Transcript:
    """What a recogniser hears in a file.

    Attributes:
        words: Words with times and confidence, in order; empty where nobody speaks.
        captions: Captions with times where the words have none.
        language: Code of the language ("en"); "" where unknown.
        language_confidence: 0 to 1; None where unknown.
        note: Why there is no word, "" otherwise.
    """

    words: Sequence[Caption] = ()
    language: str = ""
    language_confidence: float | None = None
    note: str = ""
    captions: Sequence[Caption] = ()


class Recogniser(Protocol):
    """A speech recogniser; worker processes get a pickled copy.

    Attributes:
        name: Names the model; a transcript of another one is made anew.
    """

    name: str

    def __call__(self, path: str) -> Transcript:
        """Transcribes a media file.

        Raises:
            MediaError: The file cannot be read.
            UserError: The recogniser cannot be used at all.
        """


@dataclasses.dataclass(frozen=True)
class _Task:
    """A video to transcribe: its name, where it lies, its state, and where the result goes."""

    file: str
    path: str
    size: int
    changed: int
    target: str


def transcript_names(plan: Plan, recogniser: Recogniser | None) -> list[str]:
    """Names, relative to the shards folder, of the transcripts that ``recogniser`` has to give."""
    return [transcript_name(video.file) for video in _silent(plan)] if recogniser else []


def transcript_name(file: str) -> str:
    """Where the transcript of a video lies, relative to the shards folder."""
    return f"{TRANSCRIPTS}/{name_in_folder(file)}"


def name_in_folder(file: str) -> str:
    """Where the transcript of a video lies, relative to the folder of transcripts."""
    parts = pathlib.PurePosixPath(file).parts
    outside = os.path.isabs(file) or ".." in parts or ":" in file
    if outside or any(len(os.fsencode(part)) > _NAME_BYTES for part in parts):
        # Such a name would lead out of the folder, or be too long with its new ending.
        return f"{hashlib.sha256(os.fsencode(file)).hexdigest()[:32]}.json"
    return f"{file}.json"


def read_transcript(path: str | os.PathLike, size: int) -> list[Caption]:
    """Reads a transcript beside shards for another command than ``prepare``.

    Args:
        path: File that :func:`attach_transcripts` wrote.
        size: Bytes of the video. The time of its change is not compared: a copy is the same video.

    Returns:
        Captions by time; none where nobody speaks.

    Raises:
        UserError: It cannot be read, or belongs to another video.
    """
    known: Any = read_json(path)
    try:
        format_, made_of, segments_ = known["format"], known["video"]["size"], known["segments"]
    except (KeyError, TypeError):
        format_ = None
    if format_ != FORMAT:
        raise UserError(f"{path}: no transcript that prepare --transcribe wrote")
    if made_of != size:
        raise UserError(
            f"{path}: made of a video of {made_of} bytes, which now has {size}; run prepare "
            "--transcribe again"
        )
    return read_captions(path)[0] if segments_ else []


def attach_transcripts(
    folder: ShardsFolder,
    plan: Plan,
    recogniser: Recogniser | None,
    *,
    jobs: int = 1,
    quiet: bool = True,
    say: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Transcribes the videos of a plan that have no captions and gives them their transcripts.

    Args:
        folder: The shards folder; :meth:`ShardsFolder.begin` has listed the transcripts.
        plan: Its videos without captions of their own get them; videos that cannot be read get a
            warning.
        recogniser: None only attaches what an earlier call made.
        jobs: 1 works in this process; more than 1 in one worker, which a crash may end.
        quiet: No progress bar.
        say: Takes notes for the user, a line each.

    Returns:
        The ``transcripts`` block of manifest.json; empty where no transcript is used.

    Raises:
        UserError: The recogniser cannot be used, or a transcript cannot be written.
    """
    out = folder.path
    model = recogniser.name if recogniser else None
    silent = [v for v in _silent(plan) if recogniser or transcript_name(v.file) in folder]
    todo: list[_Task] = []
    others: set[str] = set()
    for video in silent:
        target = out / transcript_name(video.file)
        known = _known(target, video)
        if known is not None:
            if model in (None, known["model"]):
                continue
            others.add(known["model"])
        task = _Task(video.file, video.path, video.size, video.changed, str(target))
        todo.append(task)
    if recogniser and todo:
        for other in sorted(others):
            say(f"transcripts of {other} are made anew by {model}")
        for file, reason in _transcribe(recogniser, todo, jobs, quiet):
            plan.warnings.append({"file": file, "warning": f"not transcribed: {reason}"})
    return _attach(plan, out, {video.file: video for video in silent}, model)


def _attach(
    plan: Plan, out: pathlib.Path, silent: dict[str, Video], model: str | None
) -> dict[str, Any]:
    languages: Counter[str] = Counter()
    without: list[str] = []
    models: set[str] = set()
    spoken: dict[str, tuple[str, tuple[int, int]]] = {}
    for file, video in silent.items():
        target = out / transcript_name(file)
        known = _known(target, video)
        if known is None or model not in (None, known["model"]):
            continue
        models.add(known["model"])
        if not known["segments"]:
            without.append(file)
            continue
        languages[known["language"] or "unknown"] += 1
        state = target.stat()
        spoken[file] = (str(target.absolute()), (state.st_size, state.st_mtime_ns))
    for shard in plan.shards:
        for video in shard.videos:
            if video.file in spoken and _has_no_captions(video):
                video.captions, video.captions_state = spoken[video.file]
    if not models:
        return {}
    return {
        "model": ", ".join(sorted(models)),
        "videos": len(spoken),
        "languages": dict(sorted(languages.items())),
        "without_speech": sorted(without),
    }


def _silent(plan: Plan) -> list[Video]:
    """Videos without captions of their own, each file once, in order of their names."""
    found = {v.file: v for shard in plan.shards for v in shard.videos if _has_no_captions(v)}
    return [found[file] for file in sorted(found)]


def _has_no_captions(video: Video) -> bool:
    return video.captions is None and not any(row[3] for row in video.rows)


def _known(target: pathlib.Path, video: Video) -> dict[str, Any] | None:
    """The transcript that was made of the video as it is now."""
    known = read_json(target)
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        return None
    return known if known["video"] == {"size": video.size, "changed": video.changed} else None


def _transcribe(
    recogniser: Recogniser, todo: list[_Task], jobs: int, quiet: bool
) -> Iterator[tuple[str, str]]:
    """Writes the transcripts; yields the videos that cannot be read, with the reason."""
    sizes = {task.file: task.size for task in todo}
    crashed: list[tuple[str, str]] = []
    with progress_bar("transcribing", sum(sizes.values()), "B", quiet=quiet) as bar:

        def report(event: str, file: str, fraction: float) -> None:
            if event == "done":
                bar.update(sizes[file])

        if jobs == 1:
            yield from transcribe_files(recogniser, todo, report)
            return

        def on_crash(crash: parallel.Crash) -> tuple | None:
            """Once more with the videos behind the one that crashed the decoder."""
            files = [task.file for task in todo]
            if crash.report is None or crash.report[0] != "open":
                return None
            at = files.index(crash.report[1])
            crashed.append((files[at], f"the decoder crashed on this file ({crash.cause})"))
            return recogniser, todo[at + 1 :]

        # One worker: the model is in memory once, and its own threads use the cores.
        for _, unread in parallel.run_tasks(
            transcribe_files,
            [(recogniser, todo)],
            1,
            lambda _, content: report(*content),
            on_crash,
        ):
            yield from unread
        yield from crashed


def transcribe_files(
    recogniser: Recogniser, todo: Sequence[_Task], report: Report
) -> list[tuple[str, str]]:
    """Transcribes videos one after the other; each transcript is written when it is whole.

    Returns:
        The videos that cannot be read, with the reason.
    """
    unread = []
    for task in todo:
        report("open", task.file, 0.0)
        try:
            transcript = recogniser(task.path)
        except (MediaError, OSError, ValueError, ArithmeticError) as error:
            if isinstance(error, UserError) and not isinstance(error, MediaError):
                raise  # of the recogniser: all files would end like this one
            unread.append((task.file, str(error).removeprefix(f"{task.path}: ")))
        else:
            _write(task, recogniser.name, transcript)
        report("done", task.file, 1.0)
    return unread


def _write(task: _Task, model: str, transcript: Transcript) -> None:
    content = {
        "format": FORMAT,
        "model": model,
        "video": {"size": task.size, "changed": task.changed},
        "language": transcript.language,
        "language_confidence": transcript.language_confidence,
        "note": transcript.note,
        "segments": [
            *segments(transcript.words),
            *(_entry(caption, "text") for caption in transcript.captions),
        ],
    }
    try:
        write_json(task.target, content)
    except OSError as error:
        raise PlanError(
            f"{task.target}: the transcript cannot be written: {error.strerror}; finished ones are "
            "kept: run the same command again"
        ) from error


def segments(words: Sequence[Caption]) -> list[dict[str, Any]]:
    """Words as captions in the form that ``captions.read_captions`` reads."""
    return [
        {**_entry(join_words(group)[0], "text"), "words": [_entry(word, "word") for word in group]}
        for group in group_words(words)
    ]


def _entry(caption: Caption, name: str) -> dict[str, Any]:
    confidence = caption.confidence
    return {
        "start": round(caption.start, 3),
        "end": round(caption.end, 3),
        name: caption.text,
        **({} if confidence is None else {"confidence": round(confidence, 4)}),
    }
