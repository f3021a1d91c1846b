"""Configuration of one of MMV's released nets, from the shapes of its arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vatt_tf.encoders.audio_resnet import AudioResNetTowerConfig
from vatt_tf.encoders.s3d import S3DTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.tsm_resnet import TSMResNetTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.pretrained import official_mmv_names as names

# Video net and its width -> name of the released file.
RELEASED = {
    ("s3d", 1.0): "mmv_s3d",
    ("tsm_resnet", 1.0): "mmv_tsm_resnet_x1",
    ("tsm_resnet", 2.0): "mmv_tsm_resnet_x2",
}
_STEM_WIDTH = 64  # Channels of the first convolution at width 1, in all three nets.


@dataclasses.dataclass(frozen=True)
class RecognisedMMV:
    """Model of a file.

    Attributes:
        config: Its configuration, all from the shapes; clips of the size of MMV's training.
    """

    config: VattConfig

    def describe(self) -> str:
        """One line with the name of the net."""
        video: Any = self.config.video
        kind = {"s3d": "S3D-G", "tsm_resnet": "TSM-ResNet"}[video.kind]
        name = RELEASED.get((video.kind, video.width), f"width {video.width:g}")
        return f"pre-trained MMV with {kind} ({name}), {video.output_dim} video features"

    def check(self, given: VattConfig) -> None:
        """Compares with a given configuration, which may have other clips.

        Raises:
            UserError: If it does not fit; lists every difference.
        """
        wanted, found = _facts(given), _facts(self.config)
        differences = [
            f"{name} is {wanted[name]!r} in the configuration, {value!r} in the file"
            for name, value in found.items()
            if wanted.get(name, value) != value
        ]
        if differences:
            raise UserError(
                f"the file is a {self.describe()}, which the configuration does not describe: "
                f"{'; '.join(differences)}. Give the --gin_file of that model, or none"
            )


def _facts(config: VattConfig) -> dict[str, Any]:
    """Values of a configuration that shapes determine: gin name -> value."""
    facts: dict[str, Any] = {
        "vatt.kind": config.kind,
        "vatt.modalities": config.modalities,
        "common_space.kind": config.head.kind,
        "common_space.va_dim": config.head.va_dim,
        "common_space.vat_dim": config.head.vat_dim,
        "text_tower.kind": config.text.kind,
        "text_tower.vocab_size": config.text.vocab_size,
        "text_tower.embedding_dim": config.text.embedding_dim,
        "text_tower.d_model": config.text.output_dim,
    }
    for part in ("video", "audio"):
        tower = getattr(config, part)
        name = tower.name
        facts[f"vatt.{part}"] = f"@{name}()"
        for field in ("width", "blocks", "space_to_depth", "deflated", "shift"):
            if hasattr(tower, field):
                facts[f"{name}.{field}"] = getattr(tower, field)
    return facts


def recognise_mmv(shapes: Mapping[str, tuple[int, ...]], source: str) -> RecognisedMMV:
    """Recognises the net of a file.

    Args:
        shapes: Shape of every array by its name below the model's module.
        source: Name of the file, for messages.

    Raises:
        UserError: If a needed array is missing.
    """
    try:
        return RecognisedMMV(
            VattConfig(
                video=_video(shapes),
                audio=AudioResNetTowerConfig(**_residual(shapes, "audio")),
                text=_text(shapes),
                head=HeadConfig(
                    kind="mmv_fac",
                    va_dim=shapes[f"{names.head_module('audio_to_va')}/w"][-1],
                    vat_dim=shapes[f"{names.head_module('text_to_vat')}/w"][-1],
                ),
            )
        )
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except KeyError as error:
        raise UserError(f"{source}: {error.args[0]} is not in the file") from error
    except (IndexError, ValueError) as error:
        raise UserError(f"{source}: an array has too few axes ({error})") from error


def _video(shapes: Mapping[str, tuple[int, ...]]) -> S3DTowerConfig | TSMResNetTowerConfig:
    if not any(key.startswith(f"{names.S3D}/") for key in shapes):
        return TSMResNetTowerConfig(**_residual(shapes, "video"))
    *_, inputs, channels = shapes[f"{names.s3d_module('conv_1a/conv')}/w"]
    return S3DTowerConfig(width=channels / _STEM_WIDTH, space_to_depth=inputs != 3)


def _residual(shapes: Mapping[str, tuple[int, ...]], modality: str) -> dict[str, Any]:
    module = names.tsm_module if modality == "video" else names.audio_module

    def blocks(unit: int) -> int:
        count = 0
        while f"{module(f'unit_{unit}_block_{count}/conv_0')}/w" in shapes:
            count += 1
        return count

    width = shapes[f"{module('stem')}/w"][-1] / _STEM_WIDTH
    return {"width": width, "blocks": tuple(blocks(unit) for unit in range(4))}


def _text(shapes: Mapping[str, tuple[int, ...]]) -> TextTowerConfig:
    words, width = shapes[f"{names.text_module('word_embedding')}/embeddings"]
    d_model = shapes[f"{names.text_module('projection')}/w"][-1]
    return TextTowerConfig(kind="linear", vocab_size=words, embedding_dim=width, d_model=d_model)
