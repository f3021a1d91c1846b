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
from vatt_tf.data import media

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--run_dir", default="runs/quickstart", help="run directory or weights folder")
parser.add_argument("--videos", required=True, help="folder of video files")
parser.add_argument("--query", default="a red circle moves left", help="words to search for")
parser.add_argument("--show", type=int, default=3, help="results per query")
args = parser.parse_args()


def best(scores: np.ndarray, paths: list[pathlib.Path]) -> None:
    """Prints the files with the highest cosines."""
    for i in np.argsort(-scores)[: args.show]:
        print(f"  {scores[i]:.3f}  {paths[i].name}")


# %% Load the model. Its spaces say what can be compared with what.
embedder = vatt_tf.load(args.run_dir)
print("spaces:", embedder.spaces)

# %% Embed the videos once: in the space shared with text and in the one shared with audio.
endings = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg"}
videos = sorted(p for p in pathlib.Path(args.videos).rglob("*") if p.suffix.lower() in endings)
if not videos:
    raise SystemExit(f"no video in {args.videos}")
for_text = embedder.embed_video(videos, space="text")
for_audio = embedder.embed_video(videos, space="audio")

# %% Words -> videos.
print(f"query: {args.query}")
best(embedder.similarity(embedder.embed_text(args.query), for_text), videos)

# %% Sound -> videos: which videos look like the sound of the first one that has any?
with_sound = next((path for path in videos if media.probe(path).has_audio), None)
if with_sound is not None:
    print(f"sound of {with_sound.name}:")
    best(embedder.similarity(embedder.embed_audio(with_sound), for_audio), videos)

# %% Video -> videos, by example.
print(f"like {videos[0].name}:")
best(embedder.similarity(for_text[0], for_text), videos)

# %% Frames in memory work as well: uint8 RGB at the model's frame rate (or give frame_rate=).
frames = np.zeros((embedder.clip.frames, 64, 64, 3), np.uint8)
print("a black clip:")
best(embedder.similarity(embedder.embed_video(frames), for_text), videos)
