"""Searches a folder of videos by words, by sound and by example, with a trained model.

Run it as a script, or cell by cell (``# %%``) in a notebook::

    python examples/embed_and_search.py --run_dir=runs/quickstart --videos=my_videos \
        --query="a red circle moves left"
"""

# %% What to search, and with what.
from __future__ import annotations

import argparse
import pathlib

import numpy as np

import vatt_tf
from vatt_tf import cli
from vatt_tf.data import media
from vatt_tf.errors import UserError
from vatt_tf.paths import shown
from vatt_tf.search_index.embedding import find_videos

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument(
    "--run_dir", type=cli.path, default="runs/quickstart", help="run directory or weights folder"
)
parser.add_argument("--videos", type=cli.path, required=True, help="folder of video files")
parser.add_argument("--query", default="a red circle moves left", help="words to search for")
parser.add_argument("--show", type=int, default=3, help="results per query")
args = parser.parse_args()


def best(scores: np.ndarray, paths: list[pathlib.Path]) -> None:
    """Prints the files with the highest cosines."""
    for i in np.argsort(-scores)[: args.show]:
        print(f"  {scores[i]:.3f}  {shown(paths[i].name)}")


# %% Load the model. Its spaces say what can be compared with what.
embedder = vatt_tf.load(args.run_dir)
print("spaces:", embedder.spaces)

# %% Embed the videos once: in the space shared with text and in the one shared with audio.
try:
    videos = [video.path for video in find_videos(args.videos)]
except UserError as error:
    raise SystemExit(f"error: {shown(str(error))}") from error
for_text = embedder.embed_video(videos, space="text")
for_audio = embedder.embed_video(videos, space="audio")

# %% Words -> videos.
print(f"query: {args.query}")
best(embedder.similarity(embedder.embed_text(args.query), for_text), videos)

# %% Sound -> videos: which videos look like the sound of the first one that has any?
with_sound = next((path for path in videos if media.probe(path).has_audio), None)
if with_sound is not None:
    print(f"sound of {shown(with_sound.name)}:")
    best(embedder.similarity(embedder.embed_audio(with_sound), for_audio), videos)

# %% Video -> videos, by example.
print(f"like {shown(videos[0].name)}:")
best(embedder.similarity(for_text[0], for_text), videos)

# %% Frames in memory work as well: uint8 RGB at the model's frame rate (or give frame_rate=).
frames = np.zeros((embedder.clip.frames, 64, 64, 3), np.uint8)
print("a black clip:")
best(embedder.similarity(embedder.embed_video(frames), for_text), videos)
