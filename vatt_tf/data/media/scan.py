"""What lies in a folder: media files by their endings, and the caption files beside them."""

from __future__ import annotations

import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf import paths
from vatt_tf.data.media.captions import CAPTION_SUFFIXES, UNREAD_SUFFIXES
from vatt_tf.wording import count_of

VIDEO_SUFFIXES = tuple(
    ".mp4 .mov .mkv .webm .avi .mpg .mpeg .m4v .ogv .ts .m2ts .mts .wmv .flv .3gp".split()
)
AUDIO_SUFFIXES = tuple(".mp3 .wav .ogg .oga .flac .m4a .aac .opus .wma".split())
IMAGE_SUFFIXES = tuple(".jpg .jpeg .png .bmp .webp .gif .tif .tiff .ppm .pgm".split())
# What is looked for by ``Settings.media``. Sound files count among videos, so that the quarantine
# can say what is wrong with them; the sound of a video is sound.
MEDIA_SUFFIXES = {
    "video": VIDEO_SUFFIXES + AUDIO_SUFFIXES,
    "audio": AUDIO_SUFFIXES + VIDEO_SUFFIXES,
    "image": IMAGE_SUFFIXES,
}


# What lies beside media and is no loss.
TEXT_SUFFIXES = frozenset(
    ".txt .csv .tsv .md .json .jsonl .xml .html .yaml .yml .pdf .py .sh .ini .log .nfo .sha256 "
    ".md5 .pkl .npy .h5 .zip .tar .gz .part .db".split()
)

# Folders of operating systems, network disks and archives, in small letters.
SYSTEM_FOLDERS = frozenset(
    ("$recycle.bin", "system volume information", "@eadir", "#recycle", "lost+found", "__macosx")
)


def is_hidden(folder: str) -> bool:
    """Whether a folder of this name is left out: hidden, or a system folder."""
    return folder.startswith(".") or folder.lower() in SYSTEM_FOLDERS


def scan(
    root: str | os.PathLike[str],
    suffixes: Sequence[str],
    quarantine: list[dict[str, Any]],
    leave_out: Sequence[str | os.PathLike[str]] = (),
    others: dict[str, list[str]] | None = None,
) -> tuple[list[str], dict[str, list[str]]]:
    """Media files below a folder, and its caption files by the stems they may belong to.

    Args:
        root: Folder; links are followed, hidden files and folders and system folders left out.
        suffixes: Endings of the media files, in small letters.
        quarantine: Takes an entry for each file whose name cannot be stored.
        leave_out: Folders that are not searched, under whatever name they are met. One that
            holds ``root`` only keeps links from leading out of it.

        others: Takes the paths of all other files by their ending, but for texts.

    Returns:
        Paths relative to ``root`` with forward slashes, sorted; caption files by stem.
    """
    media: list[str] = []
    captions: dict[str, list[str]] = defaultdict(list)
    beside = (*CAPTION_SUFFIXES, *UNREAD_SUFFIXES)
    wanted = None if others is not None else (*suffixes, *beside)
    for path in find_files(root, wanted, leave_out):
        suffix = os.path.splitext(path)[1].lower()
        if others is not None and suffix not in (*suffixes, *beside):
            if suffix not in TEXT_SUFFIXES:
                others.setdefault(suffix, []).append(path)
            continue
        if not paths.is_utf8(path):
            reason = "the file name is not valid UTF-8; rename the file"
            quarantine.append({"file": paths.shown(path), "reason": reason})
            continue
        stem = os.path.splitext(path)[0]
        if suffix in beside:
            captions[stem].append(path)
            shorter, tag = os.path.splitext(stem)
            if tag:  # name.en.vtt
                captions[shorter].append(path)
        else:
            media.append(path)
    return sorted(media), captions


def find_files(
    root: str | os.PathLike[str],
    suffixes: Sequence[str] | None,
    leave_out: Sequence[str | os.PathLike[str]] = (),
) -> Iterator[str]:
    """Paths of the files below a folder, as :func:`scan` looks for them, in any encoding.

    Args:
        root: Folder; links are followed, hidden files and folders and system folders left out.
        suffixes: Endings, in small letters; None for every file.
        leave_out: See :func:`scan`.

    Yields:
        Paths relative to ``root`` with forward slashes.
    """
    root = os.fspath(root)
    real_root = os.path.realpath(root)
    closed = [os.path.realpath(folder) for folder in leave_out]
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        left_out = any(
            _is_below(real, other)
            and not (_is_below(real_root, other) and _is_below(real, real_root))
            for other in closed
        )
        if real in seen or left_out:  # a link that leads back up is seen
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
        inside = pathlib.PurePath(os.path.relpath(folder, root))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and (suffixes is None or suffix in suffixes):
                yield (inside / name).as_posix()


def not_looked_at(others: dict[str, list[str]], kind: str) -> list[tuple[str, str]]:
    """The files of each ending that no list knows: the first of them, and a line.

    Args:
        others: Paths by ending, from :func:`scan`.
        kind: What was looked for: ``video``, ``audio`` or ``image``.
    """
    notes = []
    for suffix, files in sorted(others.items()):
        note = f"not used: {suffix or 'no ending'} is none of the endings of {kind} files"
        for media, known in MEDIA_SUFFIXES.items():
            if suffix in known:
                note += f" (prepare --media={media} takes it)"
                break
        if len(files) > 1:
            named = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
            note += f"; {count_of(len(files), 'file')}: {named}"
        notes.append((paths.shown(files[0]), paths.shown(note)))
    return notes


def _is_below(path: str, folder: str) -> bool:
    """Whether a real path is a real folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
