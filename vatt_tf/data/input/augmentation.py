"""Random changes to a training clip: what they are, and the frames of a clip under them."""

from __future__ import annotations

import dataclasses

import gin
import numpy as np
import tensorflow as tf

from vatt_tf.data.input import audio_ops, video_ops
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError, is_number, value_text

CROPS = ("inception", "vgg", "random", "center")


@gin.configurable("augmentation")
@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes to training clips (VATT, A.2.1; docs/reference.md, Frames).

    Attributes:
        crop: ``"inception"`` (paper), ``"vgg"`` (scale jitter and random crop, the released
            code's default), ``"random"`` (largest box of the clip's aspect ratio at a random
            place) or ``"center"``.
        min_area: Smallest share of the frame that an Inception box has.
        max_area: Largest share.
        min_aspect: Smallest width over height of an Inception box.
        max_aspect: Largest width over height.
        min_covered: Share of the frame that an Inception box covers in any case.
        scale_jitter: VGG: height and width are stretched by factors within 1 -+ this.
        scale_jitter_probability: VGG: share of the clips that are stretched.
        flip_probability: Share of the clips that are mirrored; 0 where left and right matter.
        colour_probability: Share of the clips whose colours are changed.
        brightness: Largest brightness change (frames in [0, 1]).
        saturation: Saturation factor within 1 -+ this.
        contrast: Contrast factor within 1 -+ this.
        hue: Largest hue rotation in turns.
        audio_noise: Standard deviation of the noise relative to the clip's largest sample.
        audio_roll_probability: Share of the sounds that begin at a random place and go on with
            their beginning after their end; only where no video has to stay in step.
        time_mask: Two spans of up to this share of the sound are set to 0.
        band_mask: Two spans of up to this share of the mel bands are set to 0 (log-mel).

    Raises:
        UserError: If a field has a value out of its range.
    """

    crop: str = "inception"
    min_area: float = 0.08
    max_area: float = 1.0
    min_aspect: float = 0.5
    max_aspect: float = 2.0
    min_covered: float = 0.1
    scale_jitter: float = 0.2
    scale_jitter_probability: float = 0.8
    flip_probability: float = 0.5
    colour_probability: float = 0.8
    brightness: float = 32 / 255
    saturation: float = 0.4
    contrast: float = 0.4
    hue: float = 0.2
    audio_noise: float = 0.01
    audio_roll_probability: float = 0.0
    time_mask: float = 0.0
    band_mask: float = 0.0

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise UserError(
                f"augmentation.crop is {value_text(self.crop)}; expected one of {', '.join(CROPS)}"
            )
        # Name of the field -> largest value.
        limits = {"max_aspect": np.inf, "min_aspect": np.inf, "audio_noise": np.inf, "hue": 0.5}
        for field in dataclasses.fields(self):
            value, limit = getattr(self, field.name), limits.get(field.name, 1.0)
            if field.name == "crop":
                continue
            if not is_number(value) or not 0 <= value <= limit:
                raise UserError(
                    f"augmentation.{field.name} is {value_text(value)}; expected a number from 0 "
                    f"to {limit}"
                )
        for low, high in (("min_area", "max_area"), ("min_aspect", "max_aspect")):
            if not 0 < getattr(self, low) <= getattr(self, high):
                raise UserError(
                    f"augmentation.{low} is {getattr(self, low)!r}; expected more than 0 and at "
                    f"most {high} ({getattr(self, high)!r})"
                )


def augmented_sound(
    waveform: tf.Tensor, augmentation: Augmentation, key: tf.Tensor, roll: bool
) -> tf.Tensor:
    """Rolls the samples of one clip and adds noise.

    Args:
        waveform: float32 ``[samples]``.
        augmentation: What is done.
        key: int64 ``[2]`` seed.
        roll: Whether the sound may be rolled.
    """
    choice_key, roll_key = tf.unstack(tf.random.split(key, 2, alg="philox"))
    if roll and augmentation.audio_roll_probability:
        chosen = tf.random.stateless_uniform([], choice_key, alg="philox")
        waveform = tf.cond(
            chosen < augmentation.audio_roll_probability,
            lambda: audio_ops.rolled(waveform, roll_key),
            lambda: waveform,
        )
    if augmentation.audio_noise:
        waveform = audio_ops.add_noise(waveform, key, augmentation.audio_noise)
    return waveform


def masked_sound(sound: tf.Tensor, augmentation: Augmentation, key: tf.Tensor) -> tf.Tensor:
    """Masks one clip as the tower reads it: ``[samples]`` or the spectrogram ``[frames, bands]``.

    The spectrogram is masked, not its waveform: silence there would move the smallest value, and
    with it all that is scaled by it, away from what the tower reads at test time.
    """
    time_key, band_key = tf.unstack(tf.random.split(key, 2, alg="philox"))
    if augmentation.time_mask:
        sound = audio_ops.masked(sound, time_key, augmentation.time_mask)
    if augmentation.band_mask and sound.shape.rank == 2:
        sound = tf.transpose(
            audio_ops.masked(tf.transpose(sound), band_key, augmentation.band_mask)
        )
    return sound


def augmented_frames(
    encoded: tf.Tensor, spec: ClipSpec, augmentation: Augmentation, key: tf.Tensor
) -> tf.Tensor:
    """Decodes, crops, flips and recolours the frames of one clip.

    Args:
        encoded: JPEG strings ``[n]`` of equal size.
        spec: Gives height and width.
        augmentation: What is done.
        key: int64 ``[2]`` seed.

    Returns:
        uint8 ``[n, height, width, 3]``.
    """
    target = (spec.height, spec.width)
    size = video_ops.frame_size(encoded[0])
    crop_key, choice_key, colour_key = tf.unstack(tf.random.split(key, 3, alg="philox"))
    if augmentation.crop == "inception":
        box = video_ops.inception_box(
            size,
            crop_key,
            area=(augmentation.min_area, augmentation.max_area),
            aspect=(augmentation.min_aspect, augmentation.max_aspect),
            min_covered=augmentation.min_covered,
        )
    elif augmentation.crop == "vgg":
        box = video_ops.vgg_box(
            size,
            target,
            crop_key,
            jitter=augmentation.scale_jitter,
            probability=augmentation.scale_jitter_probability,
        )
    elif augmentation.crop == "random":
        place = tf.random.stateless_uniform([2], crop_key, alg="philox")
        box = video_ops.fitting_box(size, target, place)
    else:
        box = video_ops.fitting_box(size, target)
    choice = tf.random.stateless_uniform([2], choice_key, alg="philox")
    flip = choice[0] < augmentation.flip_probability
    recolour = choice[1] < augmentation.colour_probability

    def jittered(frame: tf.Tensor) -> tf.Tensor:
        return video_ops.colour_jitter(
            frame,
            colour_key,
            brightness=augmentation.brightness,
            saturation=augmentation.saturation,
            contrast=augmentation.contrast,
            hue=augmentation.hue,
        )

    def change(frame: tf.Tensor) -> tf.Tensor:
        if augmentation.flip_probability:
            frame = tf.cond(flip, lambda: tf.reverse(frame, [1]), lambda: frame)
        if augmentation.colour_probability:
            frame = tf.cond(recolour, lambda: jittered(frame), lambda: frame)
        return frame

    return video_ops.decode_clip(encoded, size, box, target, change)
