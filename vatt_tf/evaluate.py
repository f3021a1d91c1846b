"""Evaluates a trained model without any training on labels: retrieval, zero-shot classes.

Usage::

    python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS --task=retrieval
    python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS/test --task=zero_shot --prompts=FILE

Prints the numbers beside chance with their protocol, merges them into RUN/results.json and, with
--report, writes RUN/report.html.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from typing import Any

from vatt_tf import cli
from vatt_tf.errors import UserError

TASKS = ("retrieval", "zero_shot")
# Clips whose frames are kept for the report; the pictures stay a few MB in memory.
STRIP_FRAMES = 5


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.evaluate``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.evaluate",
        description=__doc__,
    )
    add = parser.add_argument
    add("--run_dir", required=True, help="run directory (its newest checkpoint) or weights folder")
    add(
        "--data",
        required=True,
        help="folder written by vatt_tf.prepare (its val split, else test), the folder of one "
        "split in it, or any folder or glob of record files",
    )
    add("--task", default="retrieval", choices=TASKS, help="what to measure (default: retrieval)")
    add(
        "--prompts",
        help="zero_shot: JSON {label: [prompt, ...]}, or lines `label<TAB>prompt`, or one class "
        "name a line (default: the label names of the data)",
    )
    add("--windows", type=cli.positive, default=4, help="windows averaged per clip (default: 4)")
    add("--batch_size", type=cli.positive, default=8, help="clips per batch (default: 8)")
    add("--limit", type=cli.positive, help="evaluate the first LIMIT clips only")
    add("--report", action="store_true", help="also write RUN/report.html")
    return parser


def evaluate(
    run_dir: str,
    data: str,
    task: str = "retrieval",
    *,
    prompts: str | None = None,
    windows: int = 4,
    batch_size: int = 8,
    limit: int | None = None,
    report: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluates a run, prints and stores the numbers.

    Args:
        run_dir: Run directory or weights folder.
        data: See :func:`vatt_tf.evaluation.source.find_source`.
        task: ``"retrieval"`` or ``"zero_shot"``.
        prompts: Prompts file of the zero-shot task.
        windows: Windows averaged per clip, linearly spaced over it (facts A.2, A.7).
        batch_size: Clips per batch; changes speed and memory, not the numbers.
        limit: Evaluate that many clips, the first ones in file order.
        report: Write report.html.
        quiet: No progress bar and no table.

    Returns:
        The block that was put under ``task`` in results.json.

    Raises:
        UserError: If the run, the data or the prompts cannot be used.
    """
    from vatt_tf.evaluation import embeddings as embeddings_lib
    from vatt_tf.evaluation import retrieval, source, zero_shot

    if task not in TASKS:
        raise UserError(f"--task={task}: expected one of {', '.join(TASKS)}")
    if prompts is not None and task != "zero_shot":
        raise UserError(f"--prompts belongs to --task=zero_shot, the task is {task}")
    folder = pathlib.Path(run_dir)
    if not folder.is_dir():
        raise UserError(f"--run_dir={run_dir}: no such folder; train one with vatt_tf.train")
    # Mistakes in the small files show before the model is loaded.
    read_results(folder / "results.json")
    found = source.find_source(data)
    classes = zero_shot.read_prompts(prompts) if prompts is not None else None
    if classes is not None and found.labels:
        zero_shot.match_labels(classes, found.labels)

    model, tokenizer, dataset = _load(run_dir, found, windows, batch_size)
    from vatt_tf.data.pipeline import EVALUATION_SPLITS
    from vatt_tf.data.read_errors import read_errors

    started = time.time()
    bar = None if quiet else _progress_bar(found.records, limit)
    with read_errors(found.path, splits=EVALUATION_SPLITS):
        collected = embeddings_lib.embed_dataset(
            model,
            dataset,
            limit=limit,
            strip_frames=STRIP_FRAMES if report else 0,
            progress=None if bar is None else lambda done: bar.update(done - bar.n),
        )
    if bar is not None:
        bar.close()
    if task == "retrieval":
        block, table = retrieval.retrieval_metrics(collected), retrieval.format_retrieval
    else:
        block = zero_shot.zero_shot_metrics(
            collected, model, tokenizer, labels=found.labels, prompts=classes
        )
        table = zero_shot.format_zero_shot
    block = {
        "task": task,
        "data": data,
        "split": found.split,
        "step": embeddings_lib.run_step(folder),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 1),
        **({"limit": limit} if limit else {}),
        **block,
    }
    merge_results(folder / "results.json", task, block)
    if not quiet:
        print(f"{task} on {found.path} ({len(collected)} clips), step {block['step']}\n")
        print(table(block))
        print(f"\nwritten: {folder / 'results.json'}")
    if report:
        from vatt_tf.evaluation.report import write_report

        path = write_report(folder, collected)
        if not quiet:
            print(f"written: {path}")
    return block


def _load(run_dir: str, found: Any, windows: int, batch_size: int) -> tuple[Any, Any, Any]:
    """Loads the model and opens the records with the clip shape that the model reads."""
    import dataclasses

    from vatt_tf.data import pipeline
    from vatt_tf.models import io

    model, clip, tokenizer = io.load_pretrained(run_dir)
    # One caption a clip is the protocol (facts D); the neighbours are for training.
    clip = dataclasses.replace(clip, texts=1)
    dataset = pipeline.evaluation_dataset(
        found.data_source(), clip, tokenizer, batch_size=batch_size, windows=windows
    )
    return model, tokenizer, dataset


def _progress_bar(records: int | None, limit: int | None) -> Any:
    import tqdm

    total = min(x for x in (records, limit) if x) if (records or limit) else None
    return tqdm.tqdm(
        total=total,
        unit=" clips",
        desc="embedding",
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
        dynamic_ncols=True,
    )


def read_results(path: pathlib.Path) -> dict[str, Any]:
    """Reads results.json; empty when there is none.

    Raises:
        UserError: If the file is there and is not a JSON object.
    """
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); move it away") from error
    if not isinstance(results, dict):
        raise UserError(f"{path}: expected a JSON object, found a {type(results).__name__}")
    return results


def merge_results(path: pathlib.Path, task: str, block: dict[str, Any]) -> None:
    """Puts ``block`` under ``task`` in results.json; the block it replaces moves to "history".

    The file is written to a temporary name and renamed. An unreadable results.json is an error: it
    may hold numbers that took days.

    Raises:
        UserError: If the file is there and is not a JSON object.
    """
    results = read_results(path)
    if task in results:
        results.setdefault("history", []).append(results[task])
    results[task] = block
    # The newest blocks first, the history last.
    history = results.pop("history", None)
    if history:
        results["history"] = history
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n", "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = build_parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def command() -> int:
        evaluate(
            args.run_dir,
            args.data,
            args.task,
            prompts=args.prompts,
            windows=args.windows,
            batch_size=args.batch_size,
            limit=args.limit,
            report=args.report,
        )
        return 0

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
