"""What a clip is: the keys of a stored record and the shape of a clip that a model reads."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vatt_tf.errors import UserError

MODALITIES = ("video", "audio", "text")
# The modality whose common space is meant when the caller does not say.
DEFAULT_PARTNER = {"video": "text", "audio": "video", "text": "video"}


@dataclasses.dataclass(frozen=True)
class RecordKeys:
    """Names of the features in a ``tf.train.SequenceExample`` (defaults: DMVR's).

    ``image`` is a feature list with one JPEG per step, ``waveform`` a feature list with one step
    that holds the whole signal (a context feature of that name is read too); everything else is
    a context feature. Times are microseconds on the time line of the whole video. Language and
    confidence of a caption (0 to 1, NaN where one of several is unknown) are stored where a speech
    recogniser gave them; no other reader of DMVR's records looks for them.
    Source: docs/reference.md, Records.
    """

    image: str = "image/encoded"
    waveform: str = "WAVEFORM/feature/floats"
    caption: str = "caption/string"
    caption_start: str = "caption/start/timestamp"
    caption_end: str = "caption/end/timestamp"
    caption_language: str = "caption/language"
    caption_confidence: str = "caption/confidence"
    label_index: str = "clip/label/index"
    label_text: str = "clip/label/text"
    clip_start: str = "clip/start/timestamp"
    clip_end: str = "clip/end/timestamp"
    filename: str = "video/filename"
    frame_rate: str = "image/frame_rate"
    sample_rate: str = "WAVEFORM/sample_rate"


# Vocabulary and model files of the tokenizers by kind.
TOKENIZER_FILES = {
    "word": "words.txt",
    "wordpiece": "wordpiece.txt",
    "sentencepiece": "sentencepiece.model",
}

AUDIO_INPUTS = ("waveform", "log_mel", "none")
MEL_SCALINGS = ("min_max", "fixed")
WAVEFORM_SCALINGS = ("none", "deviation")
AUDIO_RESAMPLINGS = ("filtered", "strided")
# What a stored clip without the field was trained with.
OLDEST_CLIP = {"audio_resampling": "strided"}
ANY_DISTANCE = 1e9  # seconds


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """Shape of one clip as the towers read it.

    Attributes:
        frames: Video frames of a clip; 0 where no tower reads video.
        height: Frame height in pixels.
        width: Frame width in pixels.
        frame_rate: Frames per second of the clip (the stored rate may be higher).
        audio: ``"waveform"``, ``"log_mel"`` or ``"none"``.
        samples: Audio samples of a clip at ``sample_rate``.
        sample_rate: Samples per second.
        audio_resampling: How sound that is stored at a multiple of ``sample_rate`` is read:
            ``"filtered"`` takes out the frequencies that the clip cannot hold; ``"strided"`` takes
            every n-th sample alone, as the released code does, and hears them as others.
        mel_bins: Mel bands of the log-mel input (80-7600 Hz).
        mel_scaling: ``"min_max"`` or ``"fixed"``, see :func:`vatt_tf.data.input.audio_ops.log_mel`.
        waveform_scaling: ``"none"`` or ``"deviation"``, see ``audio_ops.audio_frontend``.
        stft_window: STFT window in samples (0.04267 s at 48 kHz).
        stft_step: STFT step in samples (0.02134 s at 48 kHz).
        texts: Candidate captions of a clip (P of MIL-NCE).
        caption_distance: Seconds that the nearest caption may lie beside the clip; 0: a clip that
            no caption overlaps has none.
        tokens: Tokens of a caption.

    Raises:
        UserError: If a field has a value that no clip can have.
    """

    frames: int = 32
    height: int = 224
    width: int = 224
    frame_rate: float = 10.0
    audio: str = "waveform"
    samples: int = 153_600
    sample_rate: int = 48_000
    audio_resampling: str = "filtered"
    mel_bins: int = 80
    mel_scaling: str = "min_max"
    waveform_scaling: str = "none"
    stft_window: int = 2048
    stft_step: int = 1024
    texts: int = 5
    tokens: int = 16
    caption_distance: float = 0.0

    def __post_init__(self) -> None:
        choices = {
            "audio": AUDIO_INPUTS,
            "audio_resampling": AUDIO_RESAMPLINGS,
            "mel_scaling": MEL_SCALINGS,
            "waveform_scaling": WAVEFORM_SCALINGS,
        }
        for name, allowed_words in choices.items():
            word = getattr(self, name)
            if word not in allowed_words:
                raise UserError(
                    f"ClipSpec.{name} is {word!r}; expected one of {', '.join(allowed_words)}"
                )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in choices:
                continue
            whole = field.name not in ("frame_rate", "caption_distance")
            allowed = int if whole else (int, float)
            zero = field.name in ("frames", "caption_distance")
            least = 0 if zero else 1 if whole else 1e-9
            if isinstance(value, bool) or not isinstance(value, allowed) or value < least:
                raise UserError(
                    f"ClipSpec.{field.name} is {value!r}; expected a positive "
                    f"{'whole number' if whole else 'number'}"
                )
        if not self.frames and self.audio == "none":
            raise UserError("ClipSpec: frames=0 and audio='none' leave nothing to read")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipSpec:
        """The clip that a ``model.json`` or an export describes.

        Raises:
            UserError: If a field has a value that no clip can have.
            TypeError: If a field is unknown.
        """
        return cls(**{**OLDEST_CLIP, **values})

    @property
    def seconds(self) -> float:
        """Length of the clip: that of its frames, of its sound where it has none."""
        return (self.frames / self.frame_rate) or (self.samples / self.sample_rate)

    @property
    def mel_frames(self) -> int:
        """Time steps of the log-mel input (the STFT pads the end)."""
        return -(-self.samples // self.stft_step)

    @property
    def audio_shape(self) -> tuple[int, int, int] | tuple[int, int]:
        """Shape of a clip's audio: ``[samples, 1]`` or ``[mel_frames, mel_bins, 1]``."""
        if self.audio == "log_mel":
            return (self.mel_frames, self.mel_bins, 1)
        return (self.samples, 1)


def join_labels(labels: Iterable[str]) -> str:
    """One cell of a table: ``dog|barking``; a ``|`` in a name is marked with a backslash."""
    return "|".join(re.sub(r"([\\|])", r"\\\1", label) for label in labels)


def split_labels(cell: str) -> tuple[str, ...]:
    """The labels of a cell that ``join_labels`` wrote."""
    parts = re.findall(r"(?:[^\\|]|\\.)+", cell)
    return tuple(re.sub(r"\\(.)", r"\1", part) for part in parts)
