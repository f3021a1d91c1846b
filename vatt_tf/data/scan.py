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


def scan(
    root: str | os.PathLike[str], suffixes: Sequence[str], quarantine: list[dict[str, Any]]
) -> tuple[list[str], dict[str, list[str]]]:
    """Media files below a folder, and its caption files by the stems they may belong to.

    Args:
        root: Folder; links are followed, hidden files and folders left out.
        suffixes: Endings of the media files, in small letters.
        quarantine: Takes an entry for each file whose name cannot be stored.

    Returns:
        Paths relative to ``root`` with forward slashes, sorted; caption files by stem.
    """
    root = os.fspath(root)
    media: list[str] = []
    captions: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
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
