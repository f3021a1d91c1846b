"""Configurations of the video and audio Transformers; a part of ``vatt_tf.models.config.vatt``."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import gin

from vatt_tf.data.schema import MEL_SCALINGS, WAVEFORM_SCALINGS, ClipSpec
from vatt_tf.models.config.fields import (
    added_later,
    as_sizes,
    check_choice,
    check_flag,
    check_positive,
    check_rate,
    fail,
    set_field,
)
from vatt_tf.models.config.sizes import SizeFields, check_transformer


def _check_drop_token(name: str, rate: float, tokens: int) -> None:
    check_rate(name, rate)
    kept = int((1.0 - rate) * tokens + 1e-6)  # As vatt_tf.layers.dropout.kept_tokens.
    if rate > 0 and not 1 <= kept < tokens:
        fail(name, rate, f"a share that drops some, not all of the {tokens} tokens, or 0")


@gin.configurable("video_tower")
@dataclasses.dataclass(frozen=True)
class VideoTowerConfig(SizeFields):
    """The video tower.

    Attributes:
        size: Named size: tiny, small, base, medium, large or xlarge.
        frames: Frames of a clip; sets the size of the temporal position table.
        image_size: (height, width) of a frame in pixels; sets the spatial position tables.
        patch: Patch (frames, height, width).
        drop_token_rate: Share of the patches that DropToken drops in training; 0 switches it off.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added (released code: always 0.1).
        num_layers: Overrides the size's number of blocks.
        d_model: Overrides the size's token width.
        num_heads: Overrides the size's number of heads.
        d_ff: Overrides the size's MLP width.
        d_kv: Overrides the size's head width.
        pre_projection: Dense + GELU behind the patch embedding, as in the agnostic model.
        post_projection: Width of a Dense + GELU on the outputs, as in the agnostic model; None for
            none.
    """

    size: str = "base"
    frames: int = 32
    image_size: tuple[int, int] = (224, 224)
    patch: tuple[int, int, int] = (4, 16, 16)
    drop_token_rate: float = 0.5
    dropout_rate: float = 0.1
    position_dropout_rate: float = 0.1
    num_layers: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    d_kv: int | None = None
    pre_projection: bool = False
    post_projection: int | None = None

    def __post_init__(self) -> None:
        name = "video_tower"
        check_positive(f"{name}.frames", self.frames)
        if isinstance(self.image_size, int):
            set_field(self, "image_size", (self.image_size, self.image_size))
        set_field(self, "image_size", as_sizes(f"{name}.image_size", self.image_size, 2))
        set_field(self, "patch", as_sizes(f"{name}.patch", self.patch, 3))
        if self.frames < self.patch[0]:
            fail(f"{name}.frames", self.frames, f"at least one patch of {self.patch[0]} frames")
        if self.image_size[0] < self.patch[1] or self.image_size[1] < self.patch[2]:
            fail(f"{name}.image_size", self.image_size, f"at least one patch of {self.patch[1:]}")
        check_transformer(self, name)
        check_rate(f"{name}.position_dropout_rate", self.position_dropout_rate)
        _check_drop_token(f"{name}.drop_token_rate", self.drop_token_rate, self.tokens)
        check_flag(f"{name}.pre_projection", self.pre_projection)
        if self.post_projection is not None:
            check_positive(f"{name}.post_projection", self.post_projection)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip."""
        return (self.frames, *self.image_size, 3)

    @property
    def tokens(self) -> int:
        """Patches of a clip, without AGG."""
        return math.prod(
            size // patch
            for size, patch in zip((self.frames, *self.image_size), self.patch, strict=True)
        )


@gin.configurable("audio_tower")
@dataclasses.dataclass(frozen=True)
class AudioTowerConfig(SizeFields):
    """The audio tower.

    Attributes:
        size: Named size: tiny, small, base, medium, large or xlarge.
        input: ``"waveform"`` or ``"log_mel"``.
        samples: Samples of a clip (waveform); sets the size of the position table.
        mel_frames: Time steps of the spectrogram (log_mel).
        mel_bins: Mel bands of the spectrogram (log_mel).
        mel_scaling: ``"min_max"``: each spectrogram to [0, 1], as in the released code;
            ``"fixed"``: all by the same numbers, so that loud and soft stay apart (log_mel).
        waveform_scaling: ``"none"``: samples in [-1, 1] as they are, as in the released code;
            ``"deviation"``: each clip is divided by its standard deviation (waveform).
        patch: Samples of a patch (waveform, 128 by default), or (time steps, mel bands) (log_mel,
            (16, 5) by default).
        drop_token_rate: Share of the patches that DropToken drops in training; 0 switches it off.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added (released code: always 0.1).
        use_bias: Whether the Transformer's projections have biases; None: yes for waveforms, no
            for log_mel, as in the released code.
        num_layers: Overrides the size's number of blocks.
        d_model: Overrides the size's token width.
        num_heads: Overrides the size's number of heads.
        d_ff: Overrides the size's MLP width.
        d_kv: Overrides the size's head width.
        pre_projection: Dense + GELU behind the patch embedding, as in the agnostic model.
        post_projection: Width of a Dense + GELU on the outputs, as in the agnostic model; None for
            none.
    """

    size: str = "base"
    input: str = "waveform"
    samples: int = 153_600
    mel_frames: int = 150
    mel_bins: int = 80
    mel_scaling: str = added_later("min_max")
    waveform_scaling: str = added_later("none")
    patch: int | tuple[int, int] | None = None
    drop_token_rate: float = 0.5
    dropout_rate: float = 0.1
    position_dropout_rate: float = 0.1
    use_bias: bool | None = None
    num_layers: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    d_kv: int | None = None
    pre_projection: bool = False
    post_projection: int | None = None

    def __post_init__(self) -> None:
        name = "audio_tower"
        check_choice(f"{name}.input", self.input, ("waveform", "log_mel"))
        check_choice(f"{name}.mel_scaling", self.mel_scaling, MEL_SCALINGS)
        check_choice(f"{name}.waveform_scaling", self.waveform_scaling, WAVEFORM_SCALINGS)
        for field in ("samples", "mel_frames", "mel_bins"):
            check_positive(f"{name}.{field}", getattr(self, field))
        patch: Any = self.patch
        if self.input == "waveform":
            patch = 128 if patch is None else patch
            check_positive(f"{name}.patch", patch)
            if self.samples < patch:
                fail(f"{name}.samples", self.samples, f"at least one patch of {patch} samples")
        else:
            patch = as_sizes(f"{name}.patch", (16, 5) if patch is None else patch, 2)
            if self.mel_frames < patch[0] or self.mel_bins < patch[1]:
                fail(
                    f"{name}.mel_frames, {name}.mel_bins",
                    (self.mel_frames, self.mel_bins),
                    f"at least one patch of {patch}",
                )
        set_field(self, "patch", patch)
        if self.use_bias is not None:
            check_flag(f"{name}.use_bias", self.use_bias)
        check_transformer(self, name)
        check_rate(f"{name}.position_dropout_rate", self.position_dropout_rate)
        _check_drop_token(f"{name}.drop_token_rate", self.drop_token_rate, self.tokens)
        check_flag(f"{name}.pre_projection", self.pre_projection)
        if self.post_projection is not None:
            check_positive(f"{name}.post_projection", self.post_projection)

    @property
    def clip_fields(self) -> dict[str, Any]:
        """The fields of a ``ClipSpec`` that the tower decides."""
        if self.input == "waveform":
            scaling = self.waveform_scaling
            return {"audio": "waveform", "samples": self.samples, "waveform_scaling": scaling}
        samples = self.mel_frames * ClipSpec.stft_step
        return {
            "audio": "log_mel",
            "samples": samples,
            "mel_bins": self.mel_bins,
            "mel_scaling": self.mel_scaling,
        }

    @property
    def has_bias(self) -> bool:
        """``use_bias`` with its default filled in."""
        return self.input == "waveform" if self.use_bias is None else self.use_bias

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip."""
        if self.input == "waveform":
            return (self.samples, 1)
        return (self.mel_frames, self.mel_bins, 1)

    @property
    def tokens(self) -> int:
        """Patches of a clip, without AGG."""
        patch: Any = (self.patch,) if isinstance(self.patch, int) else self.patch
        return math.prod(
            size // length for size, length in zip(self.input_shape[:-1], patch, strict=True)
        )
