"""What lies in a folder: media files by their endings, and the caption files beside them."""

from __future__ import annotations

import os
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from vatt_tf.data.captions import CAPTION_SUFFIXES

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
) -> tuple[list[str], dict[str, list[str]]]:
    """Media files below a folder, and its caption files by the stems they may belong to.

    Args:
        root: Folder; links are followed, hidden files and folders and system folders left out.
        suffixes: Endings of the media files, in small letters.
        quarantine: Takes an entry for each file whose name cannot be stored.
        leave_out: Folders that are not searched, under whatever name they are met. One that
            holds ``root`` only keeps links from leading out of it.

    Returns:
        Paths relative to ``root`` with forward slashes, sorted; caption files by stem.
    """
    root = os.fspath(root)
    real_root = os.path.realpath(root)
    closed = [os.path.realpath(folder) for folder in leave_out]
    media: list[str] = []
    captions: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or any(
            _is_below(real, folder)
            and not (_is_below(real_root, folder) and _is_below(real, real_root))
            for folder in closed
        ):  # a link that leads back up, or a folder to leave out
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
        inside = pathlib.PurePath(os.path.relpath(folder, root))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or suffix not in (*suffixes, *CAPTION_SUFFIXES):
                continue
            path = (inside / name).as_posix()
            try:
                path.encode("utf-8")
            except UnicodeEncodeError:
                shown = path.encode("utf-8", "backslashreplace").decode()
                reason = "the file name is not valid UTF-8; rename the file"
                quarantine.append({"file": shown, "reason": reason})
                continue
            if suffix in CAPTION_SUFFIXES:
                stem = path[: -len(suffix)]
                captions[stem].append(path)
                shorter, tag = os.path.splitext(stem)
                if tag:  # name.en.vtt
                    captions[shorter].append(path)
            else:
                media.append(path)
    return sorted(media), captions


def _is_below(path: str, folder: str) -> bool:
    """Whether a real path is a real folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
