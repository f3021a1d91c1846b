"""Embeds every clip of a folder of videos into an index that can be searched.

Usage::

    python -m vatt_tf.embed --videos=DIR --out=INDEX --run_dir=RUN
    python -m vatt_tf.embed --videos=DIR --out=INDEX --server=localhost:8500

Start it again to go on after an interruption, or after videos have been added, changed or removed:
what is finished is not embedded again. Files that cannot be used are listed in INDEX/manifest.json.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

from vatt_tf import cli, paths
from vatt_tf.errors import UserError
from vatt_tf.progress_bar import progress_bar
from vatt_tf.wording import count_of

# Seconds between two writes of the manifest of a running job.
MANIFEST_SECONDS = 30.0


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.embed``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.embed",
        description=__doc__,
    )
    add = parser.add_argument
    add(
        "--videos",
        type=cli.path,
        required=True,
        help="folder of videos, searched with its sub-folders",
    )
    add(
        "--out",
        type=cli.path,
        required=True,
        help="folder of the index; it is made, or gone on with",
    )
    add(
        "--run_dir",
        type=cli.path,
        help="run directory (its newest checkpoint) or weights folder to embed with",
    )
    add("--models", type=cli.path, help="folder of exported models to embed with")
    add("--server", help="host:port of a server that has exported models to embed with")
    cli.add_tls_flags(parser)
    add(
        "--clip_seconds",
        type=cli.above_zero,
        help="length of a clip (default: what the model reads)",
    )
    add("--stride_seconds", type=cli.above_zero, help="from clip to clip (default: --clip_seconds)")
    add(
        "--transcripts",
        type=cli.path,
        metavar="DIR",
        help="folder of transcripts that `prepare --transcribe` keeps (OUT/transcripts): their "
        "words are searched where a video has no captions",
    )
    add("--batch_size", type=cli.positive, default=8, help="clips embedded at once (default: 8)")
    add(
        "--dry_run",
        action="store_true",
        help="print files, hours, gigabytes and time from a probe of some files; write nothing",
    )
    cli.add_module_flag(parser)
    cli.add_quiet_flag(parser)
    add(
        "--replace",
        action="store_true",
        help="make a new index in the place of one of another model, other settings or videos",
    )
    return parser


def embed(
    videos: str | os.PathLike,
    out: str | os.PathLike,
    *,
    run_dir: str | None = None,
    models: str | None = None,
    server: str | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    clip_seconds: float | None = None,
    stride_seconds: float | None = None,
    transcripts: str | os.PathLike | None = None,
    batch_size: int = 8,
    replace: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Embeds a folder of videos; see the module.

    Args:
        videos: Folder of videos.
        out: Folder of the index.
        run_dir: Run directory or weights folder; or
        models: folder of exported models; or
        server: ``host:port``: one of the three.
        tls_ca: PEM file of the server's authority, for an encrypted one.
        tls_cert: PEM file of a certificate to show to the server.
        tls_key: PEM file of its key.
        clip_seconds: Length of a clip; the model's own by default. Several windows of the model
            are averaged for a longer one.
        stride_seconds: From the start of a clip to that of the next; ``clip_seconds`` by default.
        transcripts: Folder of the transcripts that ``prepare --transcribe`` keeps; the index
            remembers it.
        batch_size: Clips embedded at once.
        replace: Make a new index in the place of one that was made differently.
        quiet: Prints no progress bar and no summary.
        dry_run: Print how much work it is, from a probe of some files; write nothing.

    Returns:
        The manifest of the index; empty for a dry run.

    Raises:
        UserError: If the videos, the model or the index cannot be used.
    """
    from vatt_tf.search_index import embedding, folder, nearest
    from vatt_tf.search_index.models import Source, open_model
    from vatt_tf.search_index.text import index as texts
    from vatt_tf.search_index.text import sidecars

    source = Source.from_flags(
        {"run_dir": run_dir, "models": models, "server": server}, (tls_ca, tls_cert, tls_key)
    )
    if source is None:
        raise UserError("no model to embed with: give --run_dir, --models or --server")
    videos, out = paths.expand(videos), paths.expand(out)
    found = embedding.find_videos(videos, leave_out=(out,))
    if transcripts is not None:
        transcripts = os.path.abspath(paths.expand(transcripts))
    beside = sidecars.Sidecars(videos, (out,), transcripts)
    beside.check_transcripts(video.name for video in found)
    model = open_model(source, batch_size)
    own = model.clip.frames / model.clip.frame_rate
    length = own if clip_seconds is None else clip_seconds
    stride = length if stride_seconds is None else stride_seconds
    settings = {
        "videos": str(pathlib.Path(videos).resolve()),
        "clip_seconds": length,
        "stride_seconds": stride,
    }
    if dry_run:
        print(paths.shown(_describe(found, model, length, stride, batch_size)))
        return {}

    def say(note: str) -> None:
        if not quiet:
            print(f"note: {paths.shown(note)}")

    with folder.create_or_resume(
        out,
        model=model.describe(),
        settings=settings,
        spaces=model.video_spaces,
        files={video.name: video.size for video in found},
        replace=replace,
        say=say,
    ) as index:
        waiting = embedding.waiting_videos(index, found)
        beside.remember(index.manifest, say)
        index.manifest["warnings"] = embedding.other_files(videos, leave_out=(out,))

        def save() -> Any:
            index.save_manifest()
            return texts.update_texts(index.path, index.entries.values(), beside, say)

        if not quiet:
            print(
                f"{paths.shown(videos)}: {count_of(len(found), 'video')}, "
                f"{len(found) - len(waiting)} of them finished"
            )
        # Of videos that an earlier version embedded, or whose captions have changed.
        save()
        with _Progress(save, waiting, quiet) as progress:
            embedding.embed_windows(
                index,
                model,
                embedding.read_windows(waiting, model.clip, length, stride),
                batch_size=batch_size,
                on_progress=progress,
            )
        clips = index.clips()
        for space in index.spaces:
            nearest.update_faiss(index, space, clips)
        covered = save()
    if not quiet:
        _print_summary(index.manifest, out, covered)
    return index.manifest


def _describe(videos: list[Any], model: Any, length: float, stride: float, batch_size: int) -> str:
    """Formats the output of ``--dry_run``; embeds a batch of clips to measure the time."""
    import itertools
    import time

    import numpy as np

    from vatt_tf.data.prepare import volume
    from vatt_tf.search_index.embedding import Window, read_windows

    measured = volume.length_of([(video.path, video.size) for video in videos])
    chosen = [videos[index] for index in volume.spread(len(videos), 3)]
    items = read_windows(chosen, model.clip, length, stride)
    began = time.perf_counter()
    clips = [i for i in itertools.islice(items, 2 * batch_size) if isinstance(i, Window)]
    clips = clips[:batch_size]
    reading = (time.perf_counter() - began) / max(len(clips), 1)
    embedding = 0.0
    if clips:
        windows = np.concatenate([clip.windows for clip in clips])
        model.embedder.embed_video(windows, windows=1, space="all")  # traces and warms up
        began = time.perf_counter()
        model.embedder.embed_video(windows, windows=1, space="all")
        embedding = (time.perf_counter() - began) / len(clips)
    floats = sum(space["dim"] for space in model.video_spaces.values())
    # Files are read ahead in a thread: the slower of the two sets the pace.
    return volume.describe_index(measured, length, stride, floats, max(reading, embedding))


class _Progress:
    """Progress bar over the bytes of the videos; saves manifest and texts from time to time.

    Args:
        save: Saves both.
        waiting: Videos to embed.
        quiet: Shows no bar.
    """

    def __init__(self, save: Callable[[], Any], waiting: list[Any], quiet: bool):
        import time

        self._save, self._clips, self._done = save, 0, 0
        self._clock = time.monotonic
        self._saved = self._clock()
        size = sum(video.size for video in waiting)
        self._bar = progress_bar("embedding", size, "B", quiet=quiet)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        self._save()

    def __call__(self, item: Any) -> None:
        if hasattr(item, "reason"):
            self._done += item.video.size
            position = float(self._done)
        else:
            self._clips += 1
            position = self._done + item.fraction * item.video.size
        self._bar.set_postfix_str(
            f"{count_of(self._clips, 'clip')}, {paths.shown(item.video.name)}", refresh=False
        )
        self._bar.update(position - self._bar.n)
        if self._clock() - self._saved > MANIFEST_SECONDS:
            self._save()
            self._saved = self._clock()


def _print_summary(manifest: dict[str, Any], out: str | os.PathLike, covered: Any | None) -> None:
    counts, spaces = manifest["counts"], manifest["spaces"]
    names = ", ".join(
        f"{name} (with {' and '.join(s['partners'])})" if s["partners"] else name
        for name, s in spaces.items()
    )
    partners = {partner for space in spaces.values() for partner in space["partners"]}
    print(
        f"{paths.shown(out)}: {count_of(counts['clips'], 'clip')} of "
        f"{count_of(counts['videos'], 'video')}, "
        f"{counts['seconds'] / 60:.1f} min, spaces {names}"
    )
    for item in manifest["quarantine"][:10]:
        print(paths.shown(f"  not used: {item['file']}: {item['reason']}"))
    more = len(manifest["quarantine"]) - 10
    if more > 0:
        print(f"  and {more} more, listed in {pathlib.Path(out) / 'manifest.json'}")
    if again := sum(bool(item.get("retry")) for item in manifest["quarantine"]):
        files = f"{count_of(again, 'file')} could not be read now"
        print(f"  {files}: the same command tries {'it' if again == 1 else 'them'} again")
    for item in manifest["warnings"][:10]:
        print(paths.shown(f"  warning: {item['file']}: {item['warning']}"))
    # By the modalities of the model, which may have no text tower.
    by_example = "--video=FILE" + (" (or --audio=FILE)" if "audio" in partners else "")
    query = "words" if "text" in partners else ""
    if covered is not None:
        what = "captions or transcripts" if manifest.get("transcripts") else "captions"
        print(f"  {what} of {covered.captions} of {covered.videos} videos are searched too")
        for problem in covered.problems[:10]:
            print(f"  captions: {problem}")
        if len(covered.problems) > 10:
            print(f"  and of {count_of(len(covered.problems) - 10, 'more caption file')}")
        query = (covered.example or query) if query else ""
    # A query that works as printed and has results.
    index = shlex.quote(f"--index={out}")
    asked = shlex.quote(query) if query else by_example
    print(paths.shown(f"search it: python -m vatt_tf.search {index} {asked}"))


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = build_parser().parse_args(argv)
    cli.before_tensorflow()

    def command() -> int:
        embed(**vars(args))
        return 0

    return cli.run(
        command,
        "finished videos are kept: the same command goes on from there",
    )


if __name__ == "__main__":
    sys.exit(main())
