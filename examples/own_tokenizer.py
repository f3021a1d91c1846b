"""A tokenizer of one's own: the bytes of a caption, for which no vocabulary is needed.

In gin: ``import own_tokenizer`` and ``train.tokenizer = 'bytes'``.
"""

from __future__ import annotations

import tensorflow as tf

from vatt_tf.data.text.tokenizer import TOKENIZERS, Tokenizer


@TOKENIZERS.register("bytes")
class ByteTokenizer(Tokenizer):
    """UTF-8 bytes plus 1; 0 is padding.

    Args:
        max_tokens: Bytes of a caption.
    """

    kind = "bytes"
    file_name = "bytes.txt"
    needs_file = False

    def __init__(self, max_tokens: int = 16) -> None:
        super().__init__(vocab_size=257, max_tokens=max_tokens)

    @property
    def unknown_id(self) -> int:
        """No byte is unknown."""
        return -1

    def _tokens(self, strings: tf.Tensor) -> tf.RaggedTensor:
        split = tf.strings.bytes_split(strings)
        values = tf.io.decode_raw(split.values, tf.uint8)[:, 0]
        return split.with_values(tf.cast(values, tf.int32) + 1)

    @classmethod
    def load(cls, path: str, max_tokens: int) -> ByteTokenizer:
        """Reads no file: all byte tokenizers are the same."""
        return cls(max_tokens)

    def content(self) -> bytes:
        """A line that says so."""
        return b"ids are bytes plus 1\n"
