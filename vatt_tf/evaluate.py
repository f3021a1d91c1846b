"""Evaluates models: classes, probes on frozen features, retrieval, zero-shot classes.

Usage::

    python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS --task=classify --views=kinetics
    python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS --task=probe --probe=logistic,svm
    python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS --task=retrieval
    python -m vatt_tf.evaluate --run_dir=RUN --data=SHARDS/test --task=zero_shot --prompts=FILE

Prints the numbers beside chance with their protocol, merges them into RUN/results.json and, with
--report, writes RUN/report.html. With several --run_dir each is evaluated, then all are compared.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from vatt_tf import cli, keras_imports, paths
from vatt_tf.errors import UserError
from vatt_tf.evaluation.job import BEST, CHECKPOINTS, TASKS, Evaluation, Job, Options
from vatt_tf.wording import count_of

Item = TypeVar("Item")


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.evaluate``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.evaluate",
        description=__doc__,
    )
    add = parser.add_argument
    add(
        "--run_dir",
        type=cli.path,
        required=True,
        action="append",
        help="run directory or weights folder; give it several times to compare runs",
    )
    add(
        "--data",
        type=cli.path,
        required=True,
        help="folder written by vatt_tf.prepare (its val split, else test; for a probe its test "
        "split, else val), the folder of one split in it, or any folder or glob of record files",
    )
    add("--task", default="retrieval", choices=TASKS, help="what to measure (default: retrieval)")
    add(
        "--checkpoint",
        default="newest",
        choices=CHECKPOINTS,
        help="weights of a run directory: its newest checkpoint (default) or RUN/best",
    )
    add("--views", help="protocol by name, e.g. kinetics (4 windows x 3 crops), see the docs")
    add("--windows", type=cli.positive, help="windows per clip (default: 4, or of the views)")
    add("--crops", type=cli.positive, help="classify, probe: 1 (centre) or 3 crops a window")
    add("--batch_size", type=cli.positive, default=8, help="clips per batch (default: 8)")
    add("--limit", type=cli.positive, help="evaluate the first LIMIT clips only")
    add(
        "--prompts",
        type=cli.path,
        help="zero_shot: JSON {label: [prompt, ...]}, or lines `label<TAB>prompt`, or one class "
        "name per line (default: the label names of the data)",
    )
    add(
        "--labels",
        type=cli.path,
        help="classify, probe: file with one class per line, where weights or data name none",
    )
    add(
        "--train_data",
        type=cli.path,
        help="probe: clips to fit on (default: the train split beside --data)",
    )
    add("--modality", help="probe: tower to probe, video, audio or text (default: the first)")
    add(
        "--probe",
        type=_list_of(str),
        help="probe: some of logistic,svm,low_rank,knn (default: logistic,svm)",
    )
    add("--shots", type=_list_of(cli.positive), help="probe: examples a class, e.g. 1,5,10")
    add(
        "--probe_steps",
        type=cli.positive,
        help="probe: steps of the low-rank classifier (default: 50000, as in the paper)",
    )
    cli.add_module_flag(parser)
    cli.add_quiet_flag(parser)
    add(
        "--random_baseline",
        action="store_const",
        const=True,
        help="retrieval: also evaluate the same towers at random weights (always done for a run "
        "without a text tower)",
    )
    add("--report", action="store_true", help="also write RUN/report.html")
    add(
        "--comparison",
        type=cli.path,
        help="several runs: also write the comparison to FILE.html or FILE.json",
    )
    return parser


def _list_of(item: Callable[[str], Item]) -> Callable[[str], tuple[Item, ...]]:
    """Type of a flag with items between commas, each of which comes once."""

    def read(text: str) -> tuple[Item, ...]:
        return tuple(dict.fromkeys(item(part.strip()) for part in text.split(",")))

    return read


def evaluate(
    run_dir: str,
    data: str,
    task: str = "retrieval",
    *,
    report: bool = False,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Evaluates a run, prints and stores the numbers.

    Args:
        run_dir: Run directory or weights folder.
        data: See :func:`vatt_tf.evaluation.source.find_source`.
        task: ``"classify"``, ``"probe"``, ``"retrieval"`` or ``"zero_shot"``.
        report: Write report.html.
        quiet: Prints no progress bar and no table.
        **options: Fields of :class:`vatt_tf.evaluation.job.Options`.

    Returns:
        The block that was put under ``task`` in results.json.

    Raises:
        UserError: If the run, the data or an option cannot be used.
    """
    found = _evaluate(Job(run_dir, data, task, Options(**options), report, quiet), report)
    return found.block


def _evaluate(job: Job, report: bool) -> Evaluation:
    """Evaluates one run and stores the numbers; the evaluation then holds the whole block."""
    from vatt_tf.evaluation import results

    keras_imports.import_lean("keras")
    job.check()
    folder = pathlib.Path(job.run_dir)
    # First, so that mistakes in small files show before the model is loaded.
    results.read_results(folder / results.RESULTS)
    results.claim_files(folder, report)

    from vatt_tf.data.shards.contents import fingerprint
    from vatt_tf.evaluation.collect.embeddings import run_step
    from vatt_tf.evaluation.tasks import registry as tasks

    started = time.time()
    found = tasks.run(job)
    trained, evaluated = results.compared_data(folder, found.source)
    found.block = {
        "task": job.task,
        "data": job.data,
        "split": found.source.split,
        "step": run_step(job.weights),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 1),
        "trained_on": [each.summary() for each in trained],
        "evaluated_on": [each.summary() for each in evaluated],
        "content": fingerprint(found.source.path, ()),
        **({"checkpoint": BEST} if job.options.checkpoint == BEST else {}),
        **({"limit": job.options.limit} if job.options.limit else {}),
        **({"held_out": found.source.held_out} if found.source.held_out else {}),
        **found.block,
    }
    own = results.merge_results(folder / results.RESULTS, job.task, found.block)
    where = "" if own else f' (under "{results.LIMITED}": the full result of before stays)'
    scores = _calibrate(job, found)
    say = (lambda text: None) if job.quiet else print
    say(
        f"{job.task} on {found.source.path} ({count_of(found.block['clips'], 'clip')}), "
        f"step {found.block['step']}\n\n{found.table(found.block)}\n\n"
        f"{_sentences(job, found)}"
        f"{results.data_lines(trained, evaluated)}\n"
        f"{scores}"
        f"written: {folder / results.RESULTS}{where}"
    )
    if report:
        from vatt_tf.evaluation.report.page import write_report

        path = write_report(folder, found.embeddings, found.predictions, found.activations)
        say(f"written: {path}")
    return found


def _calibrate(job: Job, found: Evaluation) -> str:
    """Stores the calibration of cosines, if the task has one; returns a line about it."""
    if found.calibration is None:
        return ""
    from vatt_tf.evaluation import calibration
    from vatt_tf.wording import wrapped

    measured: dict[str, Any] = {"data": calibration.short_path(found.source.path)}
    for name in ("step", "time", "clips", "limit"):
        if name in found.block:
            measured[name] = found.block[name]
    line = calibration.store(job.weights, {**measured, **found.calibration}, found.source.split)
    return f"{wrapped(line)}\n"


def _sentences(job: Job, found: Evaluation) -> str:
    """Formats the verdict as a paragraph."""
    from vatt_tf.evaluation.report.verdict import verdict
    from vatt_tf.models.io import read_description
    from vatt_tf.wording import wrapped

    sentences = verdict({job.task: found.block}, read_description(job.weights))
    lines = [wrapped(sentence) for sentence in sentences]
    return "".join(f"{line}\n" for line in lines) + ("\n" if lines else "")


def compare(
    run_dirs: list[str],
    data: str,
    task: str = "retrieval",
    *,
    comparison: str | None = None,
    report: bool = False,
    quiet: bool = False,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Evaluates several runs on the same clips and prints their numbers as one table.

    Args:
        run_dirs: Run directories or weights folders.
        data: See :func:`evaluate`.
        task: See :func:`evaluate`.
        comparison: File (.html or .json) for the comparison, or None.
        report: Write report.html of each run.
        quiet: Prints no progress bar and no tables.
        **options: See :func:`evaluate`.

    Returns:
        Run directory -> block.

    Raises:
        UserError: As :func:`evaluate`; a run that comes twice.
    """
    from vatt_tf.evaluation.report import comparison as comparison_lib

    run_dirs = paths.expand_all(run_dirs)
    comparison = paths.expand_all(comparison)
    twice = sorted({run_dir for run_dir in run_dirs if run_dirs.count(run_dir) > 1})
    if twice:
        raise UserError(f"--run_dir={twice[0]}: given twice")
    if comparison is not None:
        comparison_lib.check_comparison(comparison, run_dirs)
    keep = report or (comparison or "").endswith(".html")
    jobs = [Job(run_dir, data, task, Options(**options), keep, quiet) for run_dir in run_dirs]
    for job in jobs:
        job.check()
    found = {}
    for job in jobs:
        if not quiet:
            print(f"{job.run_dir}:")
        found[job.run_dir] = _evaluate(job, report)
        if not quiet:
            print()
    blocks = {run_dir: one.block for run_dir, one in found.items()}
    if not quiet:
        print(comparison_lib.comparison_table(task, blocks))
    if comparison is not None:
        comparison_lib.write_comparison_file(comparison, task, found)
        if not quiet:
            print(f"\nwritten: {comparison}")
    return blocks


def main(argv: list[str] | None = None) -> int:
    """Entry point: parses the flags before TensorFlow is imported; returns the exit code."""
    args = vars(build_parser().parse_args(argv))
    cli.before_tensorflow()
    run_dirs, comparison = args.pop("run_dir"), args.pop("comparison")

    def command() -> int:
        if len(run_dirs) == 1 and comparison is None:
            evaluate(run_dirs[0], **args)
        else:
            compare(run_dirs, comparison=comparison, **args)
        return 0

    return cli.run(
        command,
        "finished evaluations are in results.json: run the same command again for the rest",
    )


if __name__ == "__main__":
    sys.exit(main())
