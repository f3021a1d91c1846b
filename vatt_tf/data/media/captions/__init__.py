"""Captions with their times from side-car files: SubRip, WebVTT, ASR JSON, GRID alignments.

What can be mended without guessing the meaning is mended (reversed times are swapped, negative
starts become 0, text that is not UTF-8 is read as Windows-1252); what cannot be understood is left
out and named with file and line; a file that holds nothing readable raises ``CaptionError``. No
TensorFlow here.
"""

from vatt_tf.data.media.captions.caption import (
    MOST_SECONDS,
    Caption,
    CaptionError,
    Timeline,
    clean,
    parse_time,
)
from vatt_tf.data.media.captions.reading import (
    CAPTION_SUFFIXES,
    UNREAD_SUFFIXES,
    pick_caption_file,
    read_captions,
)
from vatt_tf.data.media.captions.words import group_words, join_words

__all__ = [
    "CAPTION_SUFFIXES",
    "MOST_SECONDS",
    "UNREAD_SUFFIXES",
    "Caption",
    "CaptionError",
    "Timeline",
    "clean",
    "group_words",
    "join_words",
    "parse_time",
    "pick_caption_file",
    "read_captions",
]
