"""The audio towers: Transformers over raw waveforms and over log-mel spectrograms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from vatt_tf.data.schema import MEL_SCALINGS, WAVEFORM_SCALINGS, ClipSpec
from vatt_tf.encoders.base import PatchEncoder
from vatt_tf.encoders.sizes import (
    TokenSequence,
    TransformerTowerConfig,
    check_drop_token,
    check_projections,
    check_transformer,
    patch_sequence,
)
from vatt_tf.encoders.tower import register
from vatt_tf.fields import (
    added_later,
    as_sizes,
    check_choice,
    check_flag,
    check_positive,
    fail,
    set_field,
)


@register("audio_tower", "audio")
@dataclasses.dataclass(frozen=True)
class AudioTowerConfig(TransformerTowerConfig):
    """Configuration of the audio Transformers.

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
        check_projections(self, name)
        check_drop_token(self, name)

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
    def sequence(self) -> TokenSequence:
        """Patches of a clip."""
        return patch_sequence(self)

    def build(self, **kwargs: Any) -> WaveformEncoder | SpectrogramEncoder:
        """The encoder of the configured input, without variables yet."""
        encoder = WaveformEncoder if self.input == "waveform" else SpectrogramEncoder
        return encoder(self, **kwargs)


@keras.saving.register_keras_serializable("vatt_tf")
class WaveformEncoder(PatchEncoder):
    """Raw waveform to features (docs/reference.md, Towers).

    Args:
        config: The tower's configuration.
        transformer: A Transformer to share, see :class:`vatt_tf.encoders.base.TransformerEncoder`.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, samples, 1], float in [-1, 1].
        training: Switches dropout and DropToken on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, t, d].
    """

    config_class = AudioTowerConfig
    axes = ("temporal",)


@keras.saving.register_keras_serializable("vatt_tf")
class SpectrogramEncoder(PatchEncoder):
    """Log-mel spectrogram to features (VATT, A.5; docs/reference.md, Positions).

    The released code flattens the patches time-major, but hands them positions that are numbered
    mel-major: token n gets ``E_time[n mod T] + E_mel[n div T]``. Its weights are trained that way,
    so this is kept. DropToken, which the released spectrogram tower lacks, is available.

    Args:
        config: The tower's configuration.
        transformer: A Transformer to share, see :class:`vatt_tf.encoders.base.TransformerEncoder`.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, frames, mel_bins, 1], float.
        training: Switches dropout and DropToken on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, t, mel, d].
    """

    config_class = AudioTowerConfig
    axes = ("temporal", "spectral")

    def _position_order(self, per_axis: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(per_axis)[::-1]  # The quirk described above.
