"""Vocabularies of a prepared folder, built from the captions of its train shards."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vatt_tf.atomic import read_json, write_json
from vatt_tf.data.prepare.folder import ShardsFolder
from vatt_tf.data.prepare.plan import Plan
from vatt_tf.data.prepare.runners import workers as parallel
from vatt_tf.data.shards.clip_table import ACCOUNTS, account_path
from vatt_tf.data.text.scripts import fraction_without_blanks

TOKENIZERS = ("word", "wordpiece", "sentencepiece")
MAX_WORDS = 65_536
# So many captions show in which script they are written.
_SAMPLE = 10_000
_MOST_WITHOUT_BLANKS = 0.5


class _TrainCaptions:
    """Every caption of the train videos, read from the accounts one shard at a time."""

    def __init__(self, out: pathlib.Path, names: list[str]):
        self._out, self._names = out, names

    def __iter__(self) -> Iterator[str]:
        for name in self._names:
            account = read_json(account_path(self._out, name)) or {}
            yield from account.get("captions", ())


def build_tokenizers(
    out: pathlib.Path,
    names: list[str],
    kinds: Sequence[str],
    max_words: int,
    report: Callable[..., None] | None = None,
) -> dict[str, str]:
    """Builds the vocabularies of the train captions; kind -> file in the shards folder."""
    from vatt_tf.data.text.tokenizer import build_vocabulary

    folder = out / "tokenizer"
    folder.mkdir(exist_ok=True)
    files = build_vocabulary(_TrainCaptions(out, names), folder, tuple(kinds), max_words)
    return {kind: f"tokenizer/{pathlib.Path(file).name}" for kind, file in files.items()}


def write_tokenizers(
    folder: ShardsFolder,
    plan: Plan,
    accounts: dict[str, dict[str, Any]],
    kinds: Sequence[str],
    max_words: int,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Builds the vocabularies unless they are there already.

    Args:
        folder: The shards folder.
        plan: Its shards.
        accounts: Of the finished shards, by name.
        kinds: Any of ``TOKENIZERS``.
        max_words: Largest number of entries.
        jobs: 1 works in this process.
        say: Takes notes for the user, a line each.

    Returns:
        File in the shards folder by kind.

    Raises:
        UserError: There is no word in the captions, or ``max_words`` is too small.
    """
    out = folder.path
    names = [shard.name for shard in plan.shards if shard.split == "train"]
    made_from = [[accounts[name]["sha256"] for name in names], sorted(kinds), max_words]
    if not kinds or not any(accounts[name]["captions"] for name in names):
        folder.remove_tokenizers()
        return {}
    if "sentencepiece" not in kinds:
        _tell_which_tokenizer(_TrainCaptions(out, names), kinds, say)
    path = out / ACCOUNTS / "tokenizers.json"
    before = read_json(path)
    if isinstance(before, dict) and before.get("made_from") == made_from:
        if all((out / file).is_file() for file in before["files"].values()):
            return before["files"]
    if isinstance(before, dict) and before["made_from"][1:] != made_from[1:]:
        say(
            f"the vocabularies are made anew: at most {max_words} entries of {', '.join(kinds)}, "
            "as asked for now; runs keep theirs"
        )
    task = (out, names, tuple(kinds), max_words)
    if jobs == 1:
        files = build_tokenizers(*task)
    else:  # a worker has TensorFlow already
        ((_, files),) = parallel.run_tasks(build_tokenizers, [task], 1)
    write_json(path, {"made_from": made_from, "files": files})
    return files


def _tell_which_tokenizer(
    captions: _TrainCaptions, kinds: Sequence[str], say: Callable[[str], None]
) -> None:
    """A note where a vocabulary of words would take each sentence for one word."""
    fraction = fraction_without_blanks(itertools.islice(captions, _SAMPLE))
    if fraction > _MOST_WITHOUT_BLANKS:
        say(
            f"{100 * fraction:.0f} % of the captions' letters are of a script without blanks "
            f"between words, which a vocabulary of kind {' or '.join(kinds)} cannot split: give "
            "--tokenizers=sentencepiece here and train.tokenizer='sentencepiece' in training"
        )
