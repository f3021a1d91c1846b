"""Searches an index of clips by words, by a sound or by an example.

Usage::

    python -m vatt_tf.search --index=INDEX a red circle moves left
    python -m vatt_tf.search --index=INDEX --audio=FILE --top=20 --html=found.html
    python -m vatt_tf.search --index=INDEX --words_only ein Hund
    python -m vatt_tf.search --index=INDEX -- -5 degrees

Words are looked up in captions and file names too; clips that hold all of them come first. All
behind -- is words. The query goes through the model that the index was made with; --run_dir,
--models and --server name its place when it has moved, and --videos the place of the videos.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from vatt_tf import cli
from vatt_tf.output_folder import check_replaceable
from vatt_tf.search_index.hits import Found, Hit, clock
from vatt_tf.search_index.listing import as_json, format_found
from vatt_tf.search_index.query import search

__all__ = ["Found", "Hit", "build_parser", "clock", "format_found", "main", "search"]


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.search``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.search",
        description=__doc__,
    )
    add = parser.add_argument
    add("text", nargs="*", help="words to look for")
    add("--index", type=cli.path, required=True, help="folder written by vatt_tf.embed")
    add("--audio", type=cli.path, help="sound (or video) file: clips that look like its sound")
    add("--video", type=cli.path, help="video file: clips like it")
    add("--words_only", action="store_true", help="search captions and file names, without a model")
    add("--top", type=cli.positive, default=10, help="moments shown (default: 10)")
    add("--per_video", type=cli.positive, metavar="N", help="at most N moments of a video")
    add("--run_dir", type=cli.path, help="run directory or weights folder of the index's model")
    add("--models", type=cli.path, help="exported models of the index's model")
    add("--server", help="host:port of a server that has the index's model")
    cli.add_tls_flags(parser)
    add("--videos", type=cli.path, help="folder of the videos, when it has moved")
    add("--exact", action="store_true", help="compare with every clip of a large index")
    add("--html", type=cli.path, metavar="FILE", help="also write a page with frames of the clips")
    add("--json", action="store_true", help="print one JSON object")
    cli.add_module_flag(parser)
    cli.add_quiet_flag(parser, "print the hits and the notes only")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)
    # Words may stand on both sides of a flag.
    args = vars(build_parser().parse_intermixed_args(argv[:end]))
    args["text"] += argv[end + 1 :]
    cli.before_tensorflow()
    page, json_wanted, quiet = args.pop("html"), args.pop("json"), args.pop("quiet")
    args["text"] = " ".join(args["text"]) if args["text"] else None

    def command() -> int:
        if page:
            check_replaceable(page, "--html")
        found = search(**args)
        print(as_json(found) if json_wanted else format_found(found, quiet))
        if page:
            from vatt_tf.search_index.report import write_page

            write_page(pathlib.Path(page), found)
            if not quiet:
                # With --json, standard output has the object alone.
                print(f"\nwritten: {page}", file=sys.stderr if json_wanted else sys.stdout)
        return 0

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
