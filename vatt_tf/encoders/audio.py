"""The audio towers: Transformers over raw waveforms and over log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from vatt_tf.encoders.base import PatchEncoder


@keras.saving.register_keras_serializable("vatt_tf")
class WaveformEncoder(PatchEncoder):
    """Raw waveform to features (docs/reference.md, Towers).

    Args:
        samples: Configured samples of a clip (they set the size of the position table).
        patch: Samples of a patch.
        d_model: Width of a token.
        drop_token_rate: Share of the patches dropped in training.
        **kwargs: See :class:`vatt_tf.encoders.base.TransformerEncoder`.

    Call arguments:
        inputs: [B, samples, 1], float in [-1, 1].
        training: Switches dropout and DropToken on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, t, d].
    """

    def __init__(
        self,
        samples: int = 153_600,
        patch: int = 128,
        d_model: int = 768,
        drop_token_rate: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_size=(samples,),
            patch=(patch,),
            axes=("temporal",),
            channels=1,
            drop_token_rate=drop_token_rate,
            d_model=d_model,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            "samples": self.input_size[0],
            "patch": self.patch[0],
            "drop_token_rate": self.drop_token_rate,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("vatt_tf")
class SpectrogramEncoder(PatchEncoder):
    """Log-mel spectrogram to features (VATT, A.5; docs/reference.md, Positions).

    The released code flattens the patches time-major, but hands them positions that are numbered
    mel-major: token n gets ``E_time[n mod T] + E_mel[n div T]``. Its weights are trained that way,
    so this is kept. DropToken, which the released spectrogram tower lacks, is available.

    Args:
        frames: Configured time steps of the spectrogram.
        mel_bins: Configured mel bands.
        patch: Patch (time steps, mel bands).
        d_model: Width of a token.
        drop_token_rate: Share of the patches dropped in training.
        use_bias: Whether the Transformer's projections have biases (released: no).
        **kwargs: See :class:`vatt_tf.encoders.base.TransformerEncoder`.

    Call arguments:
        inputs: [B, frames, mel_bins, 1], float.
        training: Switches dropout and DropToken on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, t, mel, d].
    """

    def __init__(
        self,
        frames: int = 150,
        mel_bins: int = 80,
        patch: Sequence[int] = (16, 5),
        d_model: int = 768,
        drop_token_rate: float = 0.5,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_size=(frames, mel_bins),
            patch=patch,
            axes=("temporal", "spectral"),
            channels=1,
            drop_token_rate=drop_token_rate,
            d_model=d_model,
            use_bias=use_bias,
            **kwargs,
        )

    def _position_order(self, per_axis: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(per_axis)[::-1]  # The quirk described above.

    def get_config(self) -> dict[str, Any]:
        config = {
            "frames": self.input_size[0],
            "mel_bins": self.input_size[1],
            "patch": self.patch,
            "drop_token_rate": self.drop_token_rate,
        }
        return {**super().get_config(), **config}
