"""Turns a folder of videos into shards: ``python -m vatt_tf.prepare --videos=DIR --out=SHARDS``.

The folder is searched, cut into clips and written as TFRecord shards in DMVR's format, with a
manifest.json and the vocabulary of the train captions. Runs in parallel processes or as an Apache
Beam pipeline; can be interrupted and started again. See docs/preparing_data.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vatt_tf import cli, paths
from vatt_tf.atomic import read_json, write_json
from vatt_tf.data.datasets import DATASETS, Layout, definition
from vatt_tf.data.lists.manifest import read_rows
from vatt_tf.data.media.scan import MEDIA_SUFFIXES
from vatt_tf.data.prepare import manifest as manifests
from vatt_tf.data.prepare import planning, shards
from vatt_tf.data.prepare.caption_vocabulary import MAX_WORDS, TOKENIZERS, write_tokenizers
from vatt_tf.data.prepare.folder import ShardsFolder
from vatt_tf.data.prepare.learnable import refuse_unlearnable
from vatt_tf.data.prepare.plan import CUTS, Plan, PlanError, Settings
from vatt_tf.data.prepare.runners import local
from vatt_tf.data.prepare.runners.progress import Progress
from vatt_tf.data.shards.clip_table import ACCOUNTS, shared_contents, write_inventory
from vatt_tf.data.shards.identity import DataIdentity
from vatt_tf.data.shards.lock import only_job
from vatt_tf.data.transcripts.store import Recogniser, attach_transcripts, transcript_names
from vatt_tf.errors import UserError
from vatt_tf.wording import wrapped


def prepare(
    videos: str | os.PathLike,
    out: str | os.PathLike,
    settings: Settings | None = None,
    *,
    manifest: str | os.PathLike | None = None,
    layout: Layout | None = None,
    captions_dir: str | os.PathLike | None = None,
    transcribe: str | os.PathLike | Recogniser | None = None,
    tokenizers: Sequence[str] = ("word",),
    max_words: int = MAX_WORDS,
    jobs: int = 1,
    runner: str = "local",
    beam_options: Sequence[str] = (),
    quiet: bool = True,
    replace: bool = False,
    say: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Makes the shards of a folder of videos.

    Args:
        videos: Folder, searched recursively.
        out: Shards folder; finished shards in it are kept.
        settings: Settings that determine the content of the shards.
        manifest: CSV ``path,start,end,label,caption,split``; only the videos it names are used.
        layout: Clips and classes of a data set (``datasets.definition(name).layout(...)``), in
            place of a manifest CSV.
        captions_dir: Folder of the caption files when they do not lie beside the videos.
        transcribe: Whisper model (see ``whisper.Whisper``) or recogniser that gives captions to
            videos without; None takes the transcripts of an earlier call.
        tokenizers: Vocabularies to build from the train captions.
        max_words: Largest vocabulary.
        jobs: Parallel processes; 1 works in this process.
        runner: ``local`` or ``beam``.
        beam_options: Beam's own flags.
        quiet: Shows no progress bar.
        replace: Remove the shards of another data set that ``out`` holds, and nothing else.
        say: Called with each note for the user, one line.

    Returns:
        The content of manifest.json.

    Raises:
        UserError: Nothing to do, another data set or other settings than before, files of others
            under the names that are needed, disk full, no usable video.
    """
    videos, out = paths.expand(videos), paths.expand(out)
    manifest, captions_dir = paths.expand_all((manifest, captions_dir))
    settings = settings or Settings()
    if runner not in ("local", "beam"):
        raise PlanError(f"--runner={runner}: expected local or beam")
    unknown = sorted(set(tokenizers) - set(TOKENIZERS))
    if unknown:
        raise PlanError(f"--tokenizers: '{unknown[0]}' is none of {', '.join(TOKENIZERS)}")
    if layout is not None and manifest is not None:
        raise PlanError("--dataset has its own splits and labels: leave --manifest out")
    if jobs < 1:
        raise PlanError(f"--jobs={jobs}: expected 1 or more")
    recogniser = _recogniser(transcribe, settings)
    if layout is not None and layout.captions is not None:
        if recogniser is not None:
            raise PlanError(f"--dataset={layout.name} has its captions: leave --transcribe out")
        recogniser = layout.captions
    rows = layout.rows if layout is not None else None
    if manifest is not None:
        rows = read_rows(manifest)
    labels = layout.labels if layout is not None else None
    plan = planning.make_plan(videos, settings, rows, captions_dir, labels, leave_out=(out,))
    if layout is None or layout.captions is None:  # else the captions are still to come
        refuse_unlearnable(videos, plan, settings)
    out = pathlib.Path(out)
    identity = _identity(videos, plan, settings, layout)
    transcripts = transcript_names(plan, recogniser)
    for note in ShardsFolder(out).check(plan, identity, tokenizers, replace, transcripts):
        say(note)
    with only_job(out, "prepare", out / ACCOUNTS, PlanError, without_locks=say):
        folder = ShardsFolder(out)
        before = read_json(out / "manifest.json")
        folder.begin(plan, identity, tokenizers, replace, transcripts)
        spoken = attach_transcripts(folder, plan, recogniser, jobs=jobs, quiet=quiet, say=say)
        accounts = {}
        for shard in plan.shards:
            account = shards.finished_shard(shard, settings, out)
            if account is not None:
                accounts[shard.name] = _without_clips(account)
        todo = [shard for shard in plan.shards if shard.name not in accounts]
        if todo:
            folder.remove_summary()
        with Progress(plan.shards, todo, quiet) as progress:
            if runner == "beam":
                from vatt_tf.data.prepare.runners import beam

                results = beam.build_shards(todo, settings, out, beam_options)
            else:
                results = local.build_shards(todo, settings, out, jobs, progress)
            for account in results:
                accounts[account["file"]] = _without_clips(account)
        write_inventory(out, [(shard.name, shard.split) for shard in plan.shards])
        written = write_tokenizers(folder, plan, accounts, tokenizers, max_words, jobs, say)
        content = manifests.content_of(plan, settings, accounts, written)
        content["warnings"] += [
            {"file": table, "warning": note}
            for table, note in shared_contents(out, list(content["splits"]))
        ]
        content["identity"] = identity.to_dict()
        if spoken:
            content["transcripts"] = spoken
        if layout is not None:
            content["dataset"] = {"name": layout.name, "fold": layout.fold}
        write_json(out / "manifest.json", content)
    for note in manifests.changes(before, plan):
        say(note)
    if not any(split["records"] for split in content["splits"].values()):
        reasons = "; ".join(f"{q['file']}: {q['reason']}" for q in content["quarantine"][:3])
        raise UserError(
            f"{videos}: none of the {plan.videos or len(content['quarantine'])} videos could be "
            f"used ({reasons}{'; ...' if len(content['quarantine']) > 3 else ''}); all reasons are "
            f"in {out / 'manifest.json'}"
        )
    return content


def _recogniser(
    transcribe: str | os.PathLike | Recogniser | None, settings: Settings
) -> Recogniser | None:
    """Loads Whisper by the name of a model.

    Raises:
        UserError: It is not installed, there is no such model, or images are prepared.
    """
    if transcribe is not None and settings.media == "image":
        raise PlanError("--transcribe is for --media=video and --media=audio: images have no sound")
    if not isinstance(transcribe, str | os.PathLike):
        return transcribe
    from vatt_tf.data.transcripts.whisper import Whisper

    return Whisper(transcribe)


def _identity(
    videos: str | os.PathLike, plan: Plan, settings: Settings, layout: Layout | None
) -> DataIdentity:
    files = ((video.file, video.size) for shard in plan.shards for video in shard.videos)
    dataset = "" if layout is None else f"{layout.name}{f' {layout.fold}' if layout.fold else ''}"
    root = os.path.realpath(videos)
    return DataIdentity.from_files(root, files, settings.as_dict(), plan.columns, dataset)


def _without_clips(account: dict[str, Any]) -> dict[str, Any]:
    """Copy of an account without its list of clips, which may be long and stays on disk."""
    return {name: value for name, value in account.items() if name != "clips"}


def _flags() -> argparse.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.prepare",
        description="Turns a folder of videos into shards for training and evaluation.",
        epilog="Flags after -- go to Apache Beam (--runner=beam).",
    )
    add = parser.add_argument
    add(
        "--videos",
        type=cli.path,
        metavar="DIR",
        help="folder of the media files, searched recursively",
    )
    add("--out", type=cli.path, metavar="DIR", help="shards folder to make or to go on with")
    add("--sample", action="store_true", help="first make the sample videos in OUT/videos")
    add("--manifest", type=cli.path, metavar="CSV", help="path,start,end,label,caption,split")
    add("--dataset", metavar="NAME", help="a public data set with its official files and splits")
    add(
        "--annotations",
        type=cli.path,
        metavar="DIR",
        help="its official files (default: in the videos folder)",
    )
    add("--fold", type=int, metavar="N", help="its fold or official split number (1)")
    add("--list_datasets", action="store_true", help="list the values of --dataset, then end")
    add("--media", choices=MEDIA_SUFFIXES, help="video (default), audio or image files")
    add(
        "--captions_dir",
        type=cli.path,
        metavar="DIR",
        help="caption files (default: beside the videos)",
    )
    add(
        "--transcribe",
        type=cli.path,
        metavar="MODEL",
        help="captions for videos without: a CTranslate2 Whisper folder, or tiny, base, small, ...",
    )
    add("--language", help="preferred captions: name.LANGUAGE.vtt")
    add("--frame_rate", type=float, help="stored frames per second")
    add("--short_side", type=int, help="stored size, never enlarged")
    add("--jpeg_quality", type=int, help="1 to 95")
    add("--sample_rate", type=int, help="samples per second; 0: none")
    add("--cut", choices=CUTS, help="how videos are cut into clips")
    add("--clip_seconds", type=float, help="clip length (10; least length with --cut=captions: 5)")
    add("--min_clip_seconds", type=float, help="shortest rest")
    add("--max_clip_seconds", type=float, help="longest clip")
    add("--val_fraction", type=float, help="held out, without CSV")
    add("--num_shards", type=int, help="of each split; 0: by size")
    add("--tokenizers", default="word", help=f"comma list of {','.join(TOKENIZERS)}, or empty")
    add("--max_words", type=cli.positive, default=MAX_WORDS, help="largest vocabulary")
    add("--jobs", type=cli.positive, default=os.cpu_count() or 1, help="parallel processes")
    add("--runner", default="local", choices=("local", "beam"))
    cli.add_quiet_flag(parser)
    add(
        "--dry_run",
        action="store_true",
        help="print files, hours, gigabytes and time from a probe of some files; write nothing",
    )
    add(
        "--replace",
        action="store_true",
        help="remove the shards of another data set that --out holds (and nothing else)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    beam_options: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, beam_options = arguments[:at], arguments[at + 1 :]
    flags = _flags().parse_args(arguments)
    if flags.list_datasets:
        _print_datasets()
        return 0
    cli.accept_any_output()
    cli.before_tensorflow()  # Vocabularies are built with it.
    try:
        if beam_options and flags.runner != "beam":
            raise PlanError(f"flags after -- are for --runner=beam: {' '.join(beam_options)}")
        if not flags.out:
            raise PlanError("--out=DIR is missing: the shards folder to make or to go on with")
        videos, manifest, layout = flags.videos, flags.manifest, None
        settings = _settings(flags)
        if flags.sample and flags.dry_run:
            raise PlanError("--dry_run is for --videos=DIR: leave --sample out")
        if flags.sample:
            if videos or manifest or flags.dataset:
                raise PlanError(
                    "--sample makes its own videos: leave --videos and --manifest out (and "
                    "--dataset)"
                )
            from vatt_tf.data.prepare.sample_videos import make_sample_videos

            videos = os.path.join(flags.out, "videos")
            ShardsFolder(flags.out).claim_sample()
            manifest = make_sample_videos(videos, jobs=flags.jobs, quiet=flags.quiet)
        elif not videos:
            raise PlanError("--videos=DIR is missing (or --sample, to make a set of videos)")
        if flags.dataset:
            known = definition(flags.dataset)
            layout = known.layout(videos, flags.annotations, flags.fold, settings.media)
        elif flags.annotations or flags.fold is not None:
            raise PlanError("--annotations and --fold are for --dataset=NAME")
        if flags.dry_run:
            _print_volume(flags, videos, settings, manifest, layout)
            return 0
        content = prepare(
            videos,
            flags.out,
            settings,
            manifest=manifest,
            layout=layout,
            captions_dir=flags.captions_dir,
            transcribe=flags.transcribe,
            tokenizers=[name for name in flags.tokenizers.split(",") if name],
            max_words=flags.max_words,
            jobs=flags.jobs,
            runner=flags.runner,
            beam_options=beam_options,
            quiet=flags.quiet,
            replace=flags.replace,
            say=lambda note: print(f"note: {note}", file=sys.stderr),
        )
    except UserError as error:
        print(f"error: {paths.shown(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:  # e.g. the disk is full while the manifest is written
        print(f"error: {error}; finished shards are kept", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished shards are kept: run the same command again", file=sys.stderr)
        return 130
    lines = () if flags.quiet else manifests.summary(content, flags.out)
    for line in (*lines, *manifests.notes(content, flags.out)):
        print(line)
    return 0


def _print_volume(
    flags: argparse.Namespace,
    videos: str,
    settings: Settings,
    manifest: str | None,
    layout: Layout | None,
) -> None:
    """Prints the estimate of ``--dry_run``."""
    from vatt_tf.data.prepare.volume import describe_plan

    rows = layout.rows if layout is not None else None
    if manifest is not None:
        rows = read_rows(manifest)
    labels = layout.labels if layout is not None else None
    out = (flags.out,)
    plan = planning.make_plan(videos, settings, rows, flags.captions_dir, labels, leave_out=out)
    print(paths.shown(describe_plan(plan, settings, flags.jobs)))


def _settings(flags: argparse.Namespace) -> Settings:
    """Settings from the flags, else those that the data set recommends, else defaults."""
    values: dict[str, Any] = {}
    if flags.dataset:
        known = definition(flags.dataset)
        values = {"media": known.media, **known.settings}
    given = {field.name: getattr(flags, field.name) for field in dataclasses.fields(Settings)}
    values |= {name: value for name, value in given.items() if value is not None}
    if values.get("cut") == "captions":
        # Least clip around a caption in the HowTo100M recipe (docs/reference.md, Captions).
        values.setdefault("clip_seconds", 5.0)
    return Settings(**values)


def _print_datasets() -> None:
    for name, known in DATASETS.items():
        settings = {"media": known.media, **known.settings}
        print(wrapped(f"{name}: {known.needs}"))
        print(wrapped(f"  splits: {known.protocol}"))
        print("  " + " ".join(f"--{setting}={value}" for setting, value in settings.items()))


if __name__ == "__main__":
    sys.exit(main())
