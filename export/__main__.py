"""Writes a trained model as versioned SavedModels for TensorFlow Serving and Keras apps.

Usage::

    python -m vatt_tf.export --run_dir=RUN --out=MODELS
    python -m vatt_tf.export --run_dir=WEIGHTS --out=MODELS --models=video,text --version=7

Writes MODELS/<model>/<version>/ for the towers video, audio and text, or for a fine-tuned
classifier, and prints their signatures. Every signature is compared with the trained model first;
a difference of more than 1e-5 fails the export and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import sys

from vatt_tf import cli, keras_imports, paths

MODELS = ("video", "audio", "text", "classifier")


def _models(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(MODELS)} with commas between, found {text!r}"
        )
    return names


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.export``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.export",
        description=__doc__,
    )
    add = parser.add_argument
    add(
        "--run_dir",
        "--weights",
        type=cli.path,
        required=True,
        help="run directory (its newest checkpoint) or weights folder",
    )
    add("--out", type=cli.path, required=True, help="folder of the models; made if need be")
    add("--version", type=cli.positive, help="version number (default: newest + 1)")
    add("--models", type=_models, help="which models, e.g. video,text (default: all)")
    cli.add_module_flag(parser)
    cli.add_quiet_flag(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = build_parser().parse_args(argv)
    cli.before_tensorflow()

    def command() -> int:
        keras_imports.import_lean("keras")
        from vatt_tf.export import servables, versions, writer
        from vatt_tf.wording import wrapped

        written = writer.export_models(
            args.run_dir, args.out, version=args.version, models=args.models
        )
        for folder in written.values() if not args.quiet else ():
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            print(f"{folder} ({size / 1e6:.1f} MB)\n{versions.signature_table(folder)}")
        source = paths.expand(args.run_dir)
        reason = servables.missing_text(source)
        if reason and args.models is None:
            print(f"note: no model for text: {reason}", file=sys.stderr)
        if note := servables.uncalibrated(source):
            print(wrapped(f"note: {note}"), file=sys.stderr)
        return 0

    return cli.run(
        command,
        "versions are written whole or not at all: run the same command again",
    )


if __name__ == "__main__":
    sys.exit(main())
