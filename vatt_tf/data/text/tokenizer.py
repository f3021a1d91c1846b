"""Tokenizers that run inside the graph: words, WordPiece, SentencePiece.

Source: docs/reference.md, Tokenizers and word vectors.

All of them map strings of any shape to int32 tokens, cropped or padded to ``max_tokens`` with id
0, and can be saved inside a SavedModel. Bytes that are not UTF-8 become spaces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import tensorflow as tf

from vatt_tf import paths
from vatt_tf.atomic import write_bytes
from vatt_tf.data.schema import TOKENIZER_FILES
from vatt_tf.data.text.known_words import TOKENS, UNKNOWN, split_known, split_words
from vatt_tf.data.text.stop_words import STOP_WORDS
from vatt_tf.data.text.vocabulary import (
    WORD_SPECIALS,
    build_vocabulary,
    normalise_words,
    read_words,
)
from vatt_tf.data.text.word_vectors import load_word_vectors
from vatt_tf.errors import UserError
from vatt_tf.registry import Registry

__all__ = [
    "ContentWordTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "build_vocabulary",
    "load_tokenizer",
    "load_word_vectors",
]

_WORDPIECE_PAD, _WORDPIECE_UNKNOWN = "[PAD]", "[UNK]"


# Kinds of tokenizers: ``train.tokenizer`` chooses one, ``model.json`` names it.
TOKENIZERS: Registry[type[Tokenizer]] = Registry("tokenizer kind")


class Tokenizer(tf.Module):
    """Base: strings of any shape -> int32 ``[..., max_tokens]``.

    Attributes:
        kind: Name in the registry, e.g. ``"word"``.
        file_name: Name of its file in the folder of a data set or a model.
        needs_file: Whether a new run reads a vocabulary; a model's own file is always there.
        vocab_size: Number of ids.
        max_tokens: Tokens of a caption.
    """

    kind = ""
    file_name = ""
    needs_file = True

    def __init__(self, vocab_size: int, max_tokens: int) -> None:
        super().__init__()
        if max_tokens < 1:
            raise UserError(f"max_tokens is {max_tokens}; expected at least 1")
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens

    def __call__(self, strings: tf.Tensor) -> tf.Tensor:
        """Tokenizes.

        Args:
            strings: String tensor of any shape.

        Returns:
            int32 ``[..., max_tokens]``; 0 is padding.
        """
        strings = tf.convert_to_tensor(strings, tf.string)
        tokens = self._tokens(_valid(tf.reshape(strings, [-1])))[:, : self.max_tokens]
        tokens = tokens.to_tensor(default_value=0, shape=[None, self.max_tokens])
        shape = tf.concat([tf.shape(strings), [self.max_tokens]], 0)
        tokens = tf.reshape(tf.cast(tokens, tf.int32), shape)
        return tf.ensure_shape(tokens, strings.shape.concatenate([self.max_tokens]))

    def count_tokens(self, strings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Counts the tokens of strings before they are cropped.

        Args:
            strings: String ``[n]``.

        Returns:
            int32 ``[n]``: ``tokens``, and ``unknown``, those that the vocabulary does not have.
        """
        ids = self._tokens(_valid(strings))
        missing = tf.reduce_sum(tf.cast(ids == self.unknown_id, tf.int32), axis=1)
        return {TOKENS: tf.cast(ids.row_lengths(), tf.int32), UNKNOWN: missing}

    def split_known(self, text: str) -> tuple[list[str], list[str]]:
        """Words of a text that the vocabulary has, and those that become the unknown id.

        Args:
            text: A string that is valid UTF-8.

        Returns:
            See :func:`vatt_tf.data.text.known_words.split_known`.
        """
        words = split_words(text)
        return split_known(words, self.count_tokens(tf.constant(words, tf.string)))

    @property
    def unknown_id(self) -> int:
        """Id of what the vocabulary does not have."""
        raise NotImplementedError

    def _tokens(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Ragged ids ``[n, tokens]`` of valid UTF-8 strings ``[n]``."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str, max_tokens: int) -> Tokenizer:
        """Reads the file that :meth:`save` or ``prepare`` has written.

        Raises:
            UserError: When it is no such file.
        """
        raise NotImplementedError

    def content(self) -> bytes:
        """The bytes of its file."""
        raise NotImplementedError

    def save(self, folder: str | os.PathLike) -> str:
        """Writes its file into a folder; returns the file's name."""
        write_bytes(os.path.join(folder, self.file_name), self.content())
        return self.file_name


def _valid(strings: tf.Tensor) -> tf.Tensor:
    """Strings with spaces in the place of bytes that are not UTF-8."""
    return tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", replacement_char=32)


@TOKENIZERS.register("word")
class WordTokenizer(Tokenizer):
    """The paper's: lower case, punctuation deleted, split at white space, looked up.

    Args:
        words: The vocabulary in order of id: ``<pad>`` first, ``<unk>`` anywhere.
        max_tokens: Tokens of a caption.
    """

    kind = "word"
    file_name = TOKENIZER_FILES["word"]

    def __init__(self, words: Sequence[str], max_tokens: int = 16) -> None:
        super().__init__(len(words), max_tokens)
        self._words = tuple(words)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(self._words), tf.range(len(words), dtype=tf.int64)
            ),
            default_value=self._words.index("<unk>"),
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary in order of id."""
        return self._words

    @property
    def unknown_id(self) -> int:
        """See the base class."""
        return self._words.index("<unk>")

    def _tokens(self, strings: tf.Tensor) -> tf.RaggedTensor:
        words = normalise_words(strings)
        return words.with_values(self._table.lookup(words.values))

    @classmethod
    def load(cls, path: str, max_tokens: int) -> Tokenizer:
        """See the base class."""
        words = read_words(path, required=WORD_SPECIALS, first="<pad>", lower=True)
        return cls(words, max_tokens)

    def content(self) -> bytes:
        """See the base class."""
        return ("\n".join(self._words) + "\n").encode()


@TOKENIZERS.register("content_words")
class ContentWordTokenizer(WordTokenizer):
    """:class:`WordTokenizer` that leaves stop words out, as MMV and MIL-NCE do.

    A caption of stop words alone becomes padding.
    """

    kind = "content_words"

    def __init__(self, words: Sequence[str], max_tokens: int = 16) -> None:
        super().__init__(words, max_tokens)
        stop_words = tf.constant(sorted(STOP_WORDS))
        self._stop_words = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(stop_words, tf.ones_like(stop_words, tf.int64)),
            default_value=0,
        )

    def _tokens(self, strings: tf.Tensor) -> tf.RaggedTensor:
        words = normalise_words(strings)
        content = self._stop_words.lookup(words.values) == 0
        kept = tf.ragged.boolean_mask(words, words.with_values(content))
        return kept.with_values(self._table.lookup(kept.values))


@TOKENIZERS.register("wordpiece")
class WordPieceTokenizer(Tokenizer):
    """BERT's: lower case, accents stripped, longest pieces first.

    Args:
        pieces: The vocabulary in order of id: ``[PAD]`` first, ``[UNK]`` anywhere.
        max_tokens: Tokens of a caption.
    """

    kind = "wordpiece"
    file_name = TOKENIZER_FILES["wordpiece"]

    def __init__(self, pieces: Sequence[str], max_tokens: int = 16) -> None:
        import tensorflow_text as text

        super().__init__(len(pieces), max_tokens)
        self._pieces = tuple(pieces)
        self._tokenizer = text.FastBertTokenizer(
            vocab=list(pieces),
            token_out_type=tf.int32,
            unknown_token=_WORDPIECE_UNKNOWN,
            lower_case_nfd_strip_accents=True,
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary in order of id."""
        return self._pieces

    @property
    def unknown_id(self) -> int:
        """See the base class."""
        return self._pieces.index(_WORDPIECE_UNKNOWN)

    def _tokens(self, strings: tf.Tensor) -> tf.RaggedTensor:
        return self._tokenizer.tokenize(strings)

    @classmethod
    def load(cls, path: str, max_tokens: int) -> Tokenizer:
        """See the base class."""
        pieces = read_words(path, required=(_WORDPIECE_UNKNOWN,), first=_WORDPIECE_PAD)
        return cls(pieces, max_tokens)

    def content(self) -> bytes:
        """See the base class."""
        return ("\n".join(self._pieces) + "\n").encode()


@TOKENIZERS.register("sentencepiece")
class SentencePieceTokenizer(Tokenizer):
    """SentencePiece with a trained model.

    Args:
        model: The serialized model; its padding id must be 0.
        max_tokens: Tokens of a caption.
    """

    kind = "sentencepiece"
    file_name = TOKENIZER_FILES["sentencepiece"]

    def __init__(self, model: bytes, max_tokens: int = 16) -> None:
        import sentencepiece
        import tensorflow_text as text

        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        if processor.pad_id() != 0:
            raise UserError(
                f"the SentencePiece model has padding id {processor.pad_id()}; expected 0 (train "
                "it with --pad_id=0 --unk_id=1 --bos_id=2 --eos_id=3)"
            )
        super().__init__(processor.get_piece_size(), max_tokens)
        self._model, self._unknown_id = model, processor.unk_id()
        self._tokenizer = text.SentencepieceTokenizer(model=model, out_type=tf.int32)

    @property
    def unknown_id(self) -> int:
        """See the base class."""
        return self._unknown_id

    def _tokens(self, strings: tf.Tensor) -> tf.RaggedTensor:
        return self._tokenizer.tokenize(strings)

    @classmethod
    def load(cls, path: str, max_tokens: int) -> Tokenizer:
        """See the base class."""
        with tf.io.gfile.GFile(path, "rb") as file:
            model = file.read()
        try:
            return cls(model, max_tokens)
        except (RuntimeError, OSError) as error:
            raise UserError(f"{path} is no SentencePiece model: {error}") from error

    def content(self) -> bytes:
        """See the base class."""
        return self._model


def load_tokenizer(
    path: str | os.PathLike,
    kind: str | None = None,
    max_tokens: int = 16,
    vocab_size: int | None = None,
) -> Tokenizer:
    """Reads a tokenizer from its file.

    Args:
        path: Vocabulary file (one entry a line, or ``index word`` lines), SentencePiece model, or
            a folder that holds one.
        kind: ``"word"``, ``"content_words"`` (words without stop words), ``"wordpiece"`` or
            ``"sentencepiece"``; None: from the file.
        max_tokens: Tokens of a caption.
        vocab_size: Ids that the model has room for; a larger vocabulary is an error.

    Raises:
        UserError: If there is no such file, or it is no such vocabulary.
    """
    path = os.fspath(paths.expand(path))
    if kind is not None:
        TOKENIZERS.check(kind)
        if not TOKENIZERS[kind].needs_file:
            return TOKENIZERS[kind].load(path, max_tokens)
    if tf.io.gfile.isdir(path):
        path = _file_in(path, kind)
    if not tf.io.gfile.exists(path):
        raise UserError(f"no tokenizer file at {path}")
    tokenizer = TOKENIZERS[kind or _kind_of(path)].load(path, max_tokens)
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{path} has {tokenizer.vocab_size} entries, but the model has room for {vocab_size}: "
            "set the text tower's vocab_size or build a smaller vocabulary"
        )
    return tokenizer


def _file_in(folder: str, kind: str | None) -> str:
    """The tokenizer file of a folder."""
    kinds = (TOKENIZERS[kind],) if kind else TOKENIZERS.values()
    names = list(dict.fromkeys(tokenizer.file_name for tokenizer in kinds))
    found = [n for n in names if tf.io.gfile.exists(os.path.join(folder, n))]
    if len(found) != 1:
        raise UserError(
            f"{folder} holds {' and '.join(found) or 'no tokenizer file'} (looked for "
            f"{', '.join(names)}): name the file or the kind"
        )
    return os.path.join(folder, found[0])


def _kind_of(path: str) -> str:
    """Guesses the kind of a vocabulary from its name, then from its entries."""
    for tokenizer in TOKENIZERS.values():
        if os.path.basename(path) == tokenizer.file_name:
            return tokenizer.kind
    if path.endswith(".model"):
        return "sentencepiece"
    with tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(1 << 16)
    for kind, token in (("wordpiece", _WORDPIECE_UNKNOWN), ("word", "<unk>")):
        if re.search(rf"(^|\s){re.escape(token)}\s".encode(), head):
            return kind
    raise UserError(f"{path}: cannot tell which kind of tokenizer it is: give the kind")
