"""Turns a trained video network into an image network.

Usage::

    python -m vatt_tf.deflate --run_dir=runs/mmv --images=photos --out=runs/mmv_image

Kernels are summed over time, shifts over time switched off; then the scales and offsets of
BatchNorm are fitted so that an image gives the features of the video network for a static clip of
it. The images need no labels; a tenth of them is held out to measure by. DIR/ is a
weights folder like any other: evaluated, fine-tuned, exported and served by the same commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from vatt_tf import cli, keras_imports
from vatt_tf.atomic import new_folder, write_json
from vatt_tf.errors import UserError
from vatt_tf.paths import shown
from vatt_tf.progress_bar import progress_bar
from vatt_tf.wording import count_of

_FEWEST_IMAGES = 8


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.deflate``."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.deflate", description=__doc__)
    add = flags.add_argument
    add(
        "--run_dir",
        type=cli.path,
        required=True,
        help="run directory or weights folder of the video network",
    )
    add("--images", type=cli.path, required=True, help="folder of images, read with its subfolders")
    add("--out", type=cli.path, required=True, help="folder to make")
    add("--steps", type=cli.whole, default=1000, help="0 for naive deflation (default: 1000)")
    add("--batch_size", type=cli.positive, default=16, help="images of a step (default: 16)")
    add("--learning_rate", type=cli.above_zero, default=0.005, help="first one (default: 0.005)")
    add("--timed_batch", type=cli.positive, default=16, help="images when timed (default: 16)")
    add("--most_images", type=cli.positive, default=4096, help="how many are read (default: 4096)")
    add("--seed", type=cli.whole, default=0, help="of the choice and order of the images")
    cli.add_module_flag(flags)
    cli.add_quiet_flag(flags)
    return flags


def deflate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command; returns the content of ``deflation.json``.

    Raises:
        UserError: If run, images or output folder cannot be used.
    """
    if os.path.exists(arguments.out):
        raise UserError(f"--out={arguments.out}: exists already; choose another folder")
    paths, left_out = _image_files(arguments.images)
    import dataclasses

    keras_imports.import_lean("keras")
    from vatt_tf.data.schema import ClipSpec
    from vatt_tf.models import io
    from vatt_tf.models.deflation import deflate as deflated
    from vatt_tf.training.tasks import deflation

    description = io.read_description(arguments.run_dir)
    clip = ClipSpec.from_dict(description["clip"])
    model = io.load_model(arguments.run_dir)
    image_model = deflated(model)
    video, tower = model.towers["video"], image_model.towers["video"]

    images, damaged = _read(_chosen(paths, arguments), (clip.height, clip.width), arguments.quiet)
    damaged = [shown(line) for line in (*left_out, *damaged)]
    for line in damaged[:5]:
        print(f"left out: {line}", file=sys.stderr)
    if len(images) < _FEWEST_IMAGES:
        raise UserError(
            f"--images={arguments.images}: {count_of(len(images), 'image')} could be read, "
            "expected at least "
            f"{_FEWEST_IMAGES}{'; ' + damaged[0] if damaged else ''}"
        )
    held_out = max(len(images) // 10, 2)
    targets = deflation.still_features(video, images, clip.frames)
    bar = progress_bar("fitting", arguments.steps, "steps", quiet=arguments.quiet)

    def on_step(step: int, loss: float) -> None:
        bar.set_postfix_str(f"L1 {loss:.4f}", refresh=False)
        bar.update(step - bar.n)

    with bar:
        fit = deflation.fit(
            tower,
            images,
            targets,
            held_out=held_out,
            steps=arguments.steps,
            batch_size=min(arguments.batch_size, len(images) - held_out),
            learning_rate=arguments.learning_rate,
            seed=arguments.seed,
            on_step=on_step,
        )
    networks = {"inflated": (video, clip.frames), "deflated": (tower, 1)}
    batch = min(arguments.timed_batch, len(images))
    result = {
        "batch_size": batch,
        "from": os.path.abspath(arguments.run_dir),
        "images": len(images),
        "held_out": held_out,
        "damaged": damaged,
        "fitted": len(fit.losses) > 0,
        "l1": {"naive": fit.naive, "learned": fit.learned, "scale": fit.scale},
        "seconds_per_image": deflation.seconds_per_image(networks, images, batch),
        "seconds_alone": deflation.seconds_per_image(networks, images, 1),
    }
    extra = {name: description[name] for name in ("step", "labels") if name in description}
    with new_folder(arguments.out) as new:
        folder = str(new)
        tokenizer = io.read_tokenizer(arguments.run_dir)
        image_clip = dataclasses.replace(clip, frames=1)
        io.save_description(folder, image_model.config, image_clip, tokenizer, **extra)
        io.save_weights(folder, image_model)
        write_json(new / "deflation.json", {**result, "losses": fit.losses})
    return result


def _image_files(folder: str) -> tuple[list[str], list[str]]:
    """Image files of a folder, and a line about each one whose name cannot be read."""
    from vatt_tf.data.media.scan import MEDIA_SUFFIXES, scan

    if not os.path.isdir(folder):
        raise UserError(f"--images={folder}: no such folder")
    quarantine: list[dict[str, Any]] = []
    found, _ = scan(folder, MEDIA_SUFFIXES["image"], quarantine)
    if not found:
        raise UserError(f"--images={folder}: no images ({', '.join(MEDIA_SUFFIXES['image'])})")
    lines = [f"{entry['file']}: {entry['reason']}" for entry in quarantine]
    return [os.path.join(folder, name) for name in found], lines


def _chosen(paths: list[str], arguments: argparse.Namespace) -> list[str]:
    """Samples images in an order independent of their names."""
    import numpy as np

    order = np.random.default_rng(arguments.seed).permutation(len(paths))
    return [paths[number] for number in order[: arguments.most_images]]


def _read(paths: list[str], size: tuple[int, int], quiet: bool) -> tuple[Any, list[str]]:
    """Reads images, centre-cropped as in evaluation: uint8 [N, H, W, 3], and unread files."""
    import numpy as np
    import tensorflow as tf

    from vatt_tf.data.input import video_ops
    from vatt_tf.data.media.readers import read_image
    from vatt_tf.data.media.tracks.container import MediaError

    images, damaged = [], []
    bar = progress_bar("reading", len(paths), "images", quiet=quiet)
    for path in paths:
        bar.update()
        try:
            pixels = tf.constant(read_image(path, min(size) * 2))
        except MediaError as error:
            damaged.append(str(error))
            continue
        top, left, height, width = video_ops.fitting_box(tf.shape(pixels)[:2], size).numpy()
        box = pixels[tf.newaxis, top : top + height, left : left + width]
        images.append(video_ops.to_uint8(video_ops.resize(box, size))[0].numpy())
    bar.close()
    return np.stack(images) if images else np.zeros((0, *size, 3), np.uint8), damaged


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    cli.before_tensorflow()

    def command() -> int:
        result = deflate(arguments)
        if not arguments.quiet:
            _print(arguments.out, result)
        return 0

    return cli.run(
        command,
        f"{arguments.out} is written whole or not at all: run the same command again",
    )


def _print(out: str, result: dict[str, Any]) -> None:
    distance, seconds, alone = (result[k] for k in ("l1", "seconds_per_image", "seconds_alone"))
    print(f"{out}: {count_of(result['images'], 'image')}, {result['held_out']} of them held out")
    print("| network | L1 distance to the video network | seconds an image |")
    print("|---|---|---|")
    print(f"| video network, image repeated | 0 | {seconds['inflated']:.4f} |")
    print(f"| naive deflation | {distance['naive']:.4f} | {seconds['deflated']:.4f} |")
    if result["fitted"]:
        print(f"| learned deflation | {distance['learned']:.4f} | {seconds['deflated']:.4f} |")
    else:
        print("nothing was fitted: the network has no BatchNorm, or --steps=0")
    print(
        f"(features are {distance['scale']:.4f} on average; "
        f"{seconds['inflated'] / seconds['deflated']:.1f} times faster with "
        f"{count_of(result['batch_size'], 'image')} at a time, "
        f"{alone['inflated'] / alone['deflated']:.1f} times faster one at a time)"
    )


if __name__ == "__main__":
    sys.exit(main())
