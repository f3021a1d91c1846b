"""Converts a published VATT or MMV checkpoint into a weights folder that every command reads.

Usage::

    python -m vatt_tf.convert --checkpoint=vatt_lbs/ckpt-500000 --gin_file=models/lbs.gin --out=DIR
    python -m vatt_tf.convert --checkpoint=mmv_s3d.pkl --out=DIR

Prints the mapping of variables and writes DIR/model.weights.h5, DIR/model.json and
DIR/provenance.json. Nothing is left behind when the checkpoint does not fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from typing import Any

from vatt_tf import cli, keras_imports, paths
from vatt_tf.atomic import new_folder
from vatt_tf.errors import UserError
from vatt_tf.progress_bar import progress_bar
from vatt_tf.wording import count_of


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.convert``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.convert",
        description=__doc__,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=cli.path,
        required=True,
        help="prefix of the checkpoint (.../ckpt-500000), its .index or .data file, or its folder; "
        "or the pickle of an MMV net (mmv_s3d.pkl)",
    )
    add("--out", type=cli.path, required=True, help="folder to make")
    add(
        "--gin_file",
        type=cli.path,
        action="append",
        default=[],
        help="the model that it is expected to be, e.g. models/lbs.gin, checked against the "
        "checkpoint; another input size there interpolates the position tables (default: "
        "everything from the checkpoint's shapes)",
    )
    add(
        "--gin_bindings",
        "--gin_param",
        action="append",
        default=[],
        help='binding that overrides the files, repeatable: "video_tower.image_size=(320, 320)"',
    )
    add(
        "--vocabulary",
        type=cli.path,
        help="the words that it was trained with, one per line or `index word` lines",
    )
    add(
        "--word_vectors",
        type=cli.path,
        help="word2vec pickle or text of that vocabulary: checked against the word table",
    )
    cli.add_module_flag(parser)
    cli.add_quiet_flag(parser)
    add("--labels", type=cli.path, help="names of a classifier's classes, one per line")
    return parser


def convert(
    checkpoint: str,
    out: str,
    *,
    gin_files: list[str] | None = None,
    gin_bindings: list[str] | None = None,
    vocabulary: str | None = None,
    word_vectors: str | None = None,
    labels: str | None = None,
    quiet: bool = False,
) -> Any:
    """Converts a checkpoint.

    Args:
        checkpoint: Prefix, one of its files, or its folder; or a pickle of MMV's.
        out: Folder to make.
        gin_files: Files that describe the expected model; none takes it from the shapes.
        gin_bindings: Bindings that override them.
        vocabulary: Word list of the text tower.
        word_vectors: Word vectors to compare the word table with.
        labels: File with a classifier's class names.
        quiet: Prints nothing.

    Returns:
        :class:`vatt_tf.pretrained.official_vatt.Converted`.

    Raises:
        UserError: If the checkpoint, the configuration or a file does not fit.
    """
    checkpoint, out = paths.expand(checkpoint), paths.expand(out)
    vocabulary, word_vectors = paths.expand_all((vocabulary, word_vectors))
    labels = paths.expand_all(labels)
    if os.path.exists(out):
        raise UserError(f"--out={out}: exists already; choose another folder or remove it")
    keras_imports.import_lean("keras")
    source = _open_checkpoint(checkpoint)
    if not quiet:  # First, because building the model takes seconds.
        print(f"{checkpoint}: {count_of(len(source.shapes), 'array')}", flush=True)
    config = _read_config(gin_files or [], gin_bindings or [])
    from vatt_tf.models import io
    from vatt_tf.models.config.classifier import ClassifierConfig
    from vatt_tf.pretrained import report

    bar = _Bar(quiet)
    try:
        converted = _converted(source, config, bar)
    finally:
        bar.close()
    model = converted.model
    tokenizer: Any = None
    extra: dict[str, Any] = {}
    if isinstance(model.config, ClassifierConfig):
        for name, value in (("vocabulary", vocabulary), ("word_vectors", word_vectors)):
            if value is not None:
                raise UserError(f"--{name}: the checkpoint is a classifier without a text tower")
        extra["labels"] = _read_labels(labels, model.config.num_classes)
    else:
        if labels is not None:
            raise UserError("--labels: the checkpoint is no classifier")
        tokenizer = _read_words(model, vocabulary, word_vectors)
    step = source.step()
    with new_folder(out) as new:
        folder = str(new)
        # The released code takes every n-th stored sample.
        clip = dataclasses.replace(model.config.clip(), audio_resampling="strided")
        io.save_description(folder, model.config, clip, tokenizer, step=step, **extra)
        io.save_weights(folder, model)
        report.write_provenance(folder, source, converted, step)
    if not quiet:
        print(report.format_report(source, converted))
        _print_summary(out, converted, step, tokenizer, extra)
        print(f"licence: {source.licence}")
    return converted


def _open_checkpoint(path: str) -> Any:
    """Opens a checkpoint as ``MMVSource`` or ``SourceCheckpoint``."""
    from vatt_tf.pretrained.mmv_source import MMVSource, is_mmv_file

    if is_mmv_file(path):
        return MMVSource(path)
    from vatt_tf.pretrained.source import SourceCheckpoint

    return SourceCheckpoint(path)


def _converted(source: Any, config: Any, progress: Any) -> Any:
    """Converts a source to a model with its weights (``Converted``)."""
    from vatt_tf.pretrained.mmv_source import MMVSource

    if isinstance(source, MMVSource):
        from vatt_tf.pretrained.official_mmv import convert_mmv

        return convert_mmv(source, config, progress)
    from vatt_tf.pretrained.official_vatt import convert_official

    return convert_official(source, config, progress)


def _read_config(files: list[str], bindings: list[str]) -> Any:
    if not files:
        if bindings:
            raise UserError(
                "--gin_bindings without --gin_file: there is no configuration to change; add e.g. "
                "--gin_file=models/lbs.gin"
            )
        return None
    import gin

    from vatt_tf import config

    config.import_configurables()
    config.parse(files, bindings)
    return gin.get_configurable("vatt")()


def _read_words(model: Any, vocabulary: str | None, word_vectors: str | None) -> Any:
    """Loads the tokenizer of the given vocabulary and checks it against the word table."""
    if vocabulary is None:
        if word_vectors is not None:
            raise UserError("--word_vectors needs --vocabulary, whose words its rows follow")
        return None
    from vatt_tf.data.text.tokenizer import load_tokenizer

    text = model.config.text
    # MMV leaves stop words out.
    kind = "content_words" if model.config.head.kind.startswith("mmv") else "word"
    tokenizer = load_tokenizer(vocabulary, kind, text.max_tokens)
    if tokenizer.vocab_size != text.vocab_size:
        raise UserError(
            f"--vocabulary={vocabulary}: {count_of(tokenizer.vocab_size, 'word')}, the "
            "checkpoint was trained "
            f"with {text.vocab_size}: it is another vocabulary"
        )
    if word_vectors is not None:
        from vatt_tf.pretrained.words import check_word_vectors

        table = model.tower("text").word_embedding.embeddings
        check_word_vectors(word_vectors, tokenizer.words, table)
    return tokenizer


def _read_labels(path: str | None, classes: int) -> list[str] | None:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            labels = [line.strip() for line in file.read().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels={path}: cannot be read ({error})") from error
    if len(labels) != classes or not all(labels) or len(set(labels)) != classes:
        raise UserError(
            f"--labels={path}: {len(set(labels) - {''})} different names in "
            f"{count_of(len(labels), 'line')}, "
            f"expected one for each of the {classes} classes"
        )
    return labels


class _Bar:
    """Progress bar over the variables, drawn from the first one on."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = progress_bar("converting", total, "variables", quiet=self._quiet)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _print_summary(
    out: str, converted: Any, step: int, tokenizer: Any, extra: dict[str, Any]
) -> None:
    print(f"\n{converted.description}, step {step}\nwritten: {out}")
    is_classifier = "labels" in extra
    if is_classifier and extra["labels"] is None:
        print("the classes have no names; give --labels=FILE to have them")
    if not is_classifier and tokenizer is None:
        print(
            "no vocabulary was given: video and audio work, text does not; give --vocabulary=FILE "
            "(the word list that the checkpoint was trained with) to have it"
        )


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = build_parser().parse_args(argv)
    cli.before_tensorflow()

    def command() -> int:
        convert(
            args.checkpoint,
            args.out,
            gin_files=args.gin_file,
            gin_bindings=args.gin_bindings,
            vocabulary=args.vocabulary,
            word_vectors=args.word_vectors,
            labels=args.labels,
            quiet=args.quiet,
        )
        return 0

    return cli.run(
        command,
        f"{args.out} is written whole or not at all: run the same command again",
    )


if __name__ == "__main__":
    sys.exit(main())
