"""Vocabularies: word lists, WordPiece and SentencePiece models built from captions."""

from __future__ import annotations

import collections
import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from vatt_tf.atomic import write_bytes
from vatt_tf.data.schema import TOKENIZER_FILES as FILE_NAMES
from vatt_tf.errors import UserError

WORD_SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_BATCH = 8192
# SentencePiece trains on a fixed random sample of at most this many captions.
_SENTENCES = 2_000_000
_INDEX_AND_WORD = re.compile(r"(\d+)[ \t]+(\S+)")


def normalise_words(strings: tf.Tensor) -> tf.RaggedTensor:
    """Splits captions into words: punctuation deleted, lower case, split at white space.

    Args:
        strings: Valid UTF-8, string ``[n]``.

    Returns:
        Ragged strings ``[n, words]``.
    """
    strings = tf.strings.regex_replace(strings, "[[:punct:]]", "")
    return tf.strings.split(tf.strings.lower(strings, encoding="utf-8"))


def build_vocabulary(
    captions: Iterable[str | bytes],
    folder: str | os.PathLike,
    kinds: Sequence[str] = ("word",),
    max_size: int = 65_536,
) -> dict[str, str]:
    """Builds the vocabularies of a set of captions; the same captions give the same files.

    Args:
        captions: Captions, read once; need not fit in memory.
        folder: Where the files go.
        kinds: Any of ``"word"``, ``"wordpiece"``, ``"sentencepiece"``.
        max_size: Largest number of entries, special ones included.

    Returns:
        File name in the folder for each kind.

    Raises:
        UserError: If a kind is unknown, there is no word at all, or ``max_size`` is too small.
    """
    unknown = [kind for kind in kinds if kind not in FILE_NAMES]
    if unknown or not kinds:
        raise UserError(
            f"tokenizer kind {', '.join(unknown) or '(none)'}; expected any of "
            f"{', '.join(FILE_NAMES)}"
        )
    os.makedirs(folder, exist_ok=True)
    counts: collections.Counter[bytes] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        # The trainers read a file: one caption a line.
        corpus = os.path.join(scratch, "captions.txt")
        with open(corpus, "wb") as lines:
            for batch in _batches(captions):
                counts.update(normalise_words(batch).values.numpy().tolist())
                if set(kinds) != {"word"}:
                    flat = tf.strings.regex_replace(batch, r"[\r\n\x00]+", " ").numpy()
                    lines.writelines(line + b"\n" for line in flat)
        if not counts:
            raise UserError("no captions: a tokenizer needs some words to be built from")
        builders = {"word": _word_list, "wordpiece": _wordpieces, "sentencepiece": _sentencepieces}
        for kind in kinds:
            content = builders[kind](corpus, counts, max_size)
            write_bytes(os.path.join(folder, FILE_NAMES[kind]), content)
    return {kind: FILE_NAMES[kind] for kind in kinds}


def _batches(captions: Iterable[str | bytes]) -> Iterator[tf.Tensor]:
    """Captions as tensors of valid UTF-8."""
    iterator = iter(captions)
    while batch := list(itertools.islice(iterator, _BATCH)):
        # Captions read from broken files may hold lone surrogates, which have no UTF-8 form.
        raw = [c if isinstance(c, bytes) else c.encode("utf-8", "replace") for c in batch]
        yield tf.strings.unicode_transcode(tf.constant(raw), "UTF-8", "UTF-8", replacement_char=32)


def _word_list(corpus: str, counts: collections.Counter[bytes], max_size: int) -> bytes:
    """Special words, then words by falling count, then by alphabet."""
    room = max_size - len(WORD_SPECIALS)
    if room < 1:
        raise UserError(f"a word vocabulary of {max_size} has no room for words")
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [word for word, _ in by_count[:room]]
    return b"\n".join([*(w.encode() for w in WORD_SPECIALS), *words]) + b"\n"


def _wordpieces(corpus: str, counts: collections.Counter[bytes], max_size: int) -> bytes:
    """Trains WordPiece with tensorflow-text's tool."""
    from tensorflow_text.tools.wordpiece_vocab import bert_vocab_from_dataset as tool

    pieces = tool.bert_vocab_from_dataset(
        tf.data.TextLineDataset(corpus).batch(_BATCH),
        vocab_size=max_size,
        reserved_tokens=list(WORDPIECE_SPECIALS),
        bert_tokenizer_params={"lower_case": True},
        learn_params={},
    )
    # The tool meets the size only roughly; its list ends with the rarest pieces.
    if len(pieces) > max_size:
        letters = len(WORDPIECE_SPECIALS) + sum(len(p.removeprefix("##")) == 1 for p in pieces)
        if letters > max_size:
            raise UserError(
                f"a WordPiece vocabulary of {max_size} has no room for its {letters} letters"
            )
        pieces = pieces[:max_size]
    return ("\n".join(pieces) + "\n").encode()


def _sentencepieces(corpus: str, counts: collections.Counter[bytes], max_size: int) -> bytes:
    """Trains a SentencePiece unigram model; lower case, padding id 0."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.set_random_generator_seed(0)
    try:
        sentencepiece.SentencePieceTrainer.train(
            # Not `input=corpus`: the model would hold the name of the temporary file.
            sentence_iterator=_lines(corpus),
            model_writer=model,
            vocab_size=max_size,
            # Few captions have fewer pieces than asked for: that is no error.
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf",
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            input_sentence_size=_SENTENCES,
            # Sums of several threads would differ from run to run.
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(f"SentencePiece cannot build {max_size} pieces: {error}") from error
    return model.getvalue()


def _lines(path: str) -> Iterator[str]:
    """Captions of the file that :func:`build_vocabulary` wrote."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def read_words(path: str, *, required: Sequence[str], first: str, lower: bool = False) -> list[str]:
    """Reads a vocabulary: one entry a line, or ``index word`` lines as in the official file.

    Args:
        path: The file.
        required: Entries that must be there.
        first: The entry that must have id 0 (padding).
        lower: Whether upper case is an error (it could never be found).

    Returns:
        Entries in order of id.

    Raises:
        UserError: With file and line, if the file is no such vocabulary.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = file.read().decode("utf-8").split("\n")
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the vocabulary {path}: {error}") from error
    lines = [line.rstrip("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    pairs = [p for line in lines if (p := _INDEX_AND_WORD.fullmatch(line))]
    if pairs and len(pairs) == len(lines):
        indexed = sorted((int(p.group(1)), p.group(2)) for p in pairs)
        if [i for i, _ in indexed] != list(range(len(indexed))):
            raise UserError(f"{path}: the indices are not 0 to {len(indexed) - 1}, each once")
        lines = [word for _, word in indexed]
    seen: dict[str, int] = {}
    for number, word in enumerate(lines, 1):
        if not word.strip():
            raise UserError(f"{path} line {number}: empty; expected one entry a line")
        if word in seen:
            raise UserError(f"{path} line {number}: {word!r} is also in line {seen[word]}")
        if lower and word != word.lower():
            raise UserError(f"{path} line {number}: {word!r} is not in lower case")
        seen[word] = number
    missing = [word for word in required if word not in seen]
    if missing:
        raise UserError(f"{path}: the entries {', '.join(missing)} are missing")
    if lines[0] != first:
        raise UserError(
            f"{path}: the first entry is {lines[0]!r}; expected {first} (id 0 is padding)"
        )
    return lines
