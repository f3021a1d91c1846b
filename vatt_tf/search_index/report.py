"""HTML page of search results: frames of the clips beside their times and scores."""

from __future__ import annotations

import base64
import html
import io
import pathlib

import numpy as np
from PIL import Image

from vatt_tf import paths
from vatt_tf.atomic import write_text
from vatt_tf.data import media
from vatt_tf.errors import UserError
from vatt_tf.output_folder import PAGE_MARK
from vatt_tf.search_index.hits import Found, Hit, clock
from vatt_tf.search_index.listing import calibration_line, format_score, percent, reason

FRAMES, HEIGHT = 5, 96

_STYLE = """
:root { --page: #f6f6f3; --card: #fff; --ink: #1b1b1a; --soft: #5f5e59; --line: #e6e5e0; }
@media (prefers-color-scheme: dark) {
  :root { --page: #141413; --card: #1d1d1b; --ink: #f2f1ec; --soft: #b6b4ab; --line: #31312e; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; }
p { color: var(--soft); margin: 4px 0 20px; overflow-wrap: anywhere; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 18px; margin: 0 0 12px; }
header { display: flex; gap: 12px; justify-content: space-between; flex-wrap: wrap; }
header span { color: var(--soft); font-variant-numeric: tabular-nums; }
b { overflow-wrap: anywhere; }
img { display: block; max-width: 100%; margin-top: 10px; border-radius: 6px; }
"""


def write_page(path: pathlib.Path, found: Found) -> None:
    """Writes one HTML file that needs nothing else (temporary name, then rename).

    A clip whose video is not there any more is listed with the reason in place of its frames.
    """
    clips = "".join(_clip(rank, hit, found.videos) for rank, hit in enumerate(found.hits, start=1))
    space = f"space {found.space}, " if found.space else ""
    unknown = [f"not in this model's vocabulary: {', '.join(found.unknown)}"] * bool(found.unknown)
    calibration = [line] if (line := calibration_line(found)) else []
    lines = [*unknown, *found.notes, *calibration]
    notes = "".join(f"<p>{_text(note)}</p>" for note in lines)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'{PAGE_MARK}<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(found.query)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{_text(found.query)}</h1><p>Best {len(found.hits)} moments of {found.clips} clips of "
        f"{_text(found.videos)}; {_text(space)}{_text(found.method)}.</p>{notes}"
        f"{clips}</main></body></html>\n"
    )
    try:
        write_text(path, page)
    except OSError as error:
        raise UserError(f"--html={path}: cannot be written: {error.strerror}") from error


def _text(text: str) -> str:
    return html.escape(paths.shown(text))


def _clip(rank: int, hit: Hit, videos: str) -> str:
    try:
        data = base64.b64encode(_strip(pathlib.Path(videos) / hit.file, hit)).decode()
        picture = f'<img alt="{FRAMES} frames of the clip" src="data:image/jpeg;base64,{data}">'
    except media.MediaError as error:
        picture = f"<p>{_text(str(error))}</p>"
    score = format_score(hit)
    if hit.true_higher is not None:
        true, random = percent(hit.true_higher), percent(hit.random_higher)
        score += f" (higher: {true} of true, {random} of random pairs)"
    return (
        f"<article><header><b>{rank}. {_text(hit.file)}</b><span>{clock(hit.start)} - "
        f"{clock(hit.end)} &nbsp; {_text(score)} &nbsp; {_text(reason(hit))}</span></header>"
        f"{picture}</article>"
    )


def _strip(path: pathlib.Path, hit: Hit) -> bytes:
    """JPEG of evenly spaced frames of a clip, side by side."""
    rate = FRAMES / (hit.end - hit.start)
    clip = media.read_clip(
        path, hit.start, hit.end, frame_rate=rate, short_side=HEIGHT, sample_rate=0
    )
    stream = io.BytesIO()
    Image.fromarray(np.concatenate(list(clip.frames), axis=1)).save(stream, "JPEG", quality=85)
    return stream.getvalue()
