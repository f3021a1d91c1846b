"""Lists the commands of the package: ``python -m vatt_tf``."""

from __future__ import annotations

import difflib
import sys

# Module below vatt_tf -> what it does, in the order in which a user meets them.
COMMANDS = {
    "prepare": "turns a folder of videos into shards of clips",
    "train": "pre-trains or fine-tunes a model as a gin file describes it",
    "evaluate": "measures a run: retrieval, zero-shot classes, classification, probes",
    "convert": "converts a published VATT or MMV checkpoint into a weights folder",
    "deflate": "turns a trained video network into an image network",
    "export": "writes the towers or a classifier as SavedModels",
    "embed": "embeds a folder of videos into an index",
    "search": "searches an index by words, a sound or a video",
    "serving": "serves SavedModels over gRPC and REST",
    "serving.client": "asks a running server: embeddings and classes of texts and files",
    "serving.conformance": "checks a server against the promises of TensorFlow Serving",
    "serving.conformance.models": "writes the models for serving.conformance",
    "serving.fuzz": "sends malformed requests to a server",
    "data.service": "makes training clips on other machines than the trainer's",
    "benchmark": "measures a configuration on this machine: speed, memory, cost",
    "data.service_benchmark": "measures data services",
    "search_index.benchmark": "measures nearest-neighbour search",
    "serving.benchmark": "measures the server",
}


def listing() -> str:
    """Lists all commands, one per line."""
    width = max(map(len, COMMANDS))
    lines = [f"  python -m vatt_tf.{name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["vatt_tf: video-audio-text Transformers. The commands (--help lists their flags):", ""]
        + [*lines, "", "Where to begin: docs/search_my_videos.md"]
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the list; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(listing())
        return 0
    near = difflib.get_close_matches(argv[0].removeprefix("vatt_tf."), COMMANDS, n=1)
    fix = f"write python -m vatt_tf.{near[0]}" if near else "python -m vatt_tf lists the commands"
    print(f"error: {argv[0]}: commands are modules of their own; {fix}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
