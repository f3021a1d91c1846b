"""The folder that ``prepare`` writes: which data set it holds, which of its files are ours."""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from vatt_tf.atomic import read_json, write_json
from vatt_tf.data.lists.manifest import MANIFEST_FORMAT
from vatt_tf.data.prepare.plan import Plan, PlanError, Settings
from vatt_tf.data.schema import TOKENIZER_FILES
from vatt_tf.data.shards import clip_table
from vatt_tf.data.shards.clip_table import ACCOUNTS, account_path
from vatt_tf.data.shards.identity import DataIdentity
from vatt_tf.errors import UserError
from vatt_tf.output_folder import OutputFolder, listed

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
TRANSCRIPTS = "transcripts"
_SETTINGS, _IDENTITY = f"{ACCOUNTS}/settings.json", f"{ACCOUNTS}/identity.json"


class ShardsFolder:
    """A shards folder, to be made or to be gone on with.

    Args:
        out: The folder.

    Raises:
        UserError: It is a file, or a list in it is damaged.
    """

    def __init__(self, out: str | os.PathLike) -> None:
        self.path = pathlib.Path(out)
        self._files = OutputFolder(out, "prepare")
        known = bool(self._files)
        # Only this command makes a folder of this name; a lock may be all that it holds.
        self._files.adopt([f"{ACCOUNTS}/"])
        if not known:
            self._files.adopt(_earlier_files(self.path))

    def __contains__(self, name: str) -> bool:
        """Whether the command has listed a file."""
        return name in self._files

    def check(
        self,
        plan: Plan,
        identity: DataIdentity,
        kinds: Sequence[str],
        replace: bool,
        transcripts: Sequence[str] = (),
    ) -> list[str]:
        """Refuses what would mix or overwrite; changes nothing.

        Args:
            plan: The shards that are wanted.
            identity: Of the data set that they are made of.
            kinds: Tokenizers to build.
            replace: Whether another data set may take the place of the one that is here.
            transcripts: Transcripts to make.

        Returns:
            Notes for the user.

        Raises:
            PlanError: The folder holds shards of another data set or of other settings, or files
                that this command did not write under the names that it needs.
        """
        reasons, notes = self._compare(identity)
        if reasons and not replace:
            raise PlanError(f"{reasons}. Nothing was changed: {_options(self.path)}")
        try:
            self._files.check([*_needed(plan, kinds), *transcripts])
        except UserError as error:
            raise PlanError(str(error)) from error
        self._check_strangers(plan)
        return ["the data set that was here before is replaced"] if reasons else notes

    def begin(
        self,
        plan: Plan,
        identity: DataIdentity,
        kinds: Sequence[str],
        replace: bool,
        transcripts: Sequence[str] = (),
    ) -> None:
        """Lists the files that are going to be written and removes ours that have no use any more.

        Transcripts that are wanted again stay: each knows the video that it was made of.

        Raises:
            PlanError: As :meth:`check`.
        """
        self.check(plan, identity, kinds, replace, transcripts)
        reasons, _ = self._compare(identity)
        if reasons:
            stay = set(transcripts)
            gone = [n for n in self._files.names if not _is_sample(n) and n not in stay]
            self._files.remove(gone)
        needed, hidden = _needed(plan, kinds), _hidden(plan)
        self._files.adopt(hidden)  # nobody else writes in there
        self._files.claim([*needed, *hidden, *transcripts])
        write_json(self.path / _SETTINGS, dict(identity.settings))
        write_json(self.path / _IDENTITY, identity.to_dict())
        self._files.remove_temporary()
        wanted = {*needed, *hidden}
        self._files.remove(
            [name for name in self._files.names if _is_of_a_shard(name) and name not in wanted]
        )

    def remove_summary(self) -> None:
        """Removes manifest and clip tables, which speak of other shards than are coming."""
        tables = [n for n in self._files.names if n.startswith(f"{clip_table.INVENTORY}/")]
        for name in (MANIFEST, *tables):
            if name in self._files and not name.endswith("/"):
                (self.path / name).unlink(missing_ok=True)

    def remove_tokenizers(self) -> None:
        """Removes the vocabularies of an earlier time, for a set without train captions."""
        self._files.remove([n for n in self._files.names if n.startswith(f"{TOKENIZER}/")])

    def claim_sample(self) -> None:
        """Lists the sample videos (``videos/...``) before they are made.

        Raises:
            UserError: Other files have these names.
        """
        from vatt_tf.data.prepare.sample_videos import sample_files, sample_table  # brings PyAV

        names = [f"videos/{name}" for name in sample_files()]
        table = self.path / "videos" / "manifest.csv"
        if "videos/" not in self._files and table.is_file():
            if table.read_text(encoding="utf-8", errors="replace") == sample_table():
                self._files.adopt(names)
        self._files.claim(names)

    def _check_strangers(self, plan: Plan) -> None:
        """Shards of others in the folder of a split would be read as a part of it."""
        for split in {shard.split for shard in plan.shards}:
            folder = self.path / split
            found = [
                f"{split}/{path.name}"
                for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
                if path.name.endswith(".tfrecord") and f"{split}/{path.name}" not in self._files
            ]
            if found:
                raise PlanError(
                    f"--out={self.path}: holds the shards {listed(found)}, which this command did "
                    f"not make; training would read them as a part of {split}. Move them away, or "
                    "give another --out"
                )

    def _compare(self, identity: DataIdentity) -> tuple[str, list[str]]:
        """Why the folder holds another data set ("" if it does not), and notes for the user."""
        stored = read_json(self.path / _SETTINGS)
        if isinstance(stored, dict):  # an older version may not have had every setting
            before = Settings().as_dict() | stored
            names = [name for name, value in identity.settings.items() if before[name] != value]
            changes = [f"--{n}={before[n]} (now {identity.settings[n]})" for n in names]
            if changes:
                made = f"--out={self.path} holds shards made with other settings"
                return f"{made}: {', '.join(changes)}", []
        known = DataIdentity.from_dict(read_json(self.path / _IDENTITY))
        if known is None:
            note = (
                f"{self.path} was made before data sets had an identity: it is taken for the same "
                "data set as now"
            )
            return "", [note] if isinstance(stored, dict) else []
        differences = known.differences(identity)
        if differences:
            return (
                f"--out={self.path} holds another data set: it was made of {known}, now "
                f"{identity} is given: {'; '.join(differences)}"
            ), []
        return "", _changes(known, identity)


def _options(out: pathlib.Path) -> str:
    return (
        f"give another folder (--out=DIR), or --replace to remove the shards in {out} and prepare "
        "the new ones in their place"
    )


def _changes(known: DataIdentity, now: DataIdentity) -> list[str]:
    """What was added and what has gone, in a line."""
    gone = known.files - round(known.still_there(now) * known.files)
    more = now.files - (known.files - gone)
    notes = []
    if more or gone:
        notes.append(f"the same data set as before; new or changed files: {more}, gone: {gone}")
    if known.root != now.root:
        notes.append(f"its files have moved from {known.root} to {now.root}")
    return notes


def _needed(plan: Plan, kinds: Sequence[str]) -> list[str]:
    """Everything that is going to be written, but for what lies in the hidden folder."""
    splits = dict.fromkeys(shard.split for shard in plan.shards)
    return [
        MANIFEST,
        *(shard.name for shard in plan.shards),
        *(f"{clip_table.INVENTORY}/{split}.csv" for split in splits),
        *(f"{TOKENIZER}/{TOKENIZER_FILES[kind]}" for kind in kinds),
    ]


def _hidden(plan: Plan) -> list[str]:
    accounts = (account_path("", shard.name).as_posix() for shard in plan.shards)
    return [_SETTINGS, _IDENTITY, f"{ACCOUNTS}/tokenizers.json", *accounts]


def _is_of_a_shard(name: str) -> bool:
    """Whether a file belongs to one shard or one split, which may go."""
    folder, _, file = name.partition("/")
    if folder == ACCOUNTS:
        return "-of-" in file
    return file.endswith(".tfrecord") or (folder == clip_table.INVENTORY and file.endswith(".csv"))


def _is_sample(name: str) -> bool:
    return name.startswith("videos/")


def _earlier_files(out: pathlib.Path) -> Iterator[str]:
    """Files of a version that made no lists, as far as they can be told from others."""
    books = out / ACCOUNTS
    for path in books.glob("*.json") if books.is_dir() else ():
        content = read_json(path)
        if not isinstance(content, dict):
            continue
        if isinstance(content.get("file"), str) and "fingerprint" in content:
            yield from (content["file"], f"{ACCOUNTS}/{path.name}")
        elif path.name == "tokenizers.json":
            yield from _strings(content.get("files"))
    content = read_json(out / MANIFEST)
    if isinstance(content, dict) and content.get("format") == MANIFEST_FORMAT:
        splits = content.get("splits")
        if isinstance(splits, dict) and "settings" in content and "quarantine" in content:
            yield MANIFEST
            yield from _strings(content.get("tokenizers"))
            for split in splits.values():
                for shard in split.get("shards", ()):
                    yield shard["file"]
    folder = out / clip_table.INVENTORY
    for path in folder.glob("*.csv") if folder.is_dir() else ():
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            if tuple(next(csv.reader(file), ())) == clip_table.COLUMNS:
                yield f"{clip_table.INVENTORY}/{path.name}"


def _strings(values: Any) -> list[str]:
    return [v for v in values.values() if isinstance(v, str)] if isinstance(values, dict) else []
