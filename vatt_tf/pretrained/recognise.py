"""Configuration of a released VATT checkpoint, from names and shapes of its variables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from vatt_tf.encoders.agnostic import AgnosticTowerConfig
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.sizes import SIZES
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.pretrained.official_names import (
    BASE,
    CLASSIFIER,
    FINETUNE,
    HEAD,
    PATCH,
    UNIFIED,
)
from vatt_tf.wording import count_of

Shapes = Mapping[str, tuple[int, ...]]

_D_KV = 64  # Width of a head in every published model; no shape holds it.
# Dropout in front of the released classifiers (docs/reference.md, Fine-tuning).
_HEAD_DROPOUT = {"video": 0.5, "audio": 0.0}
_AGNOSTIC_HEAD_DROPOUT = 0.2


@dataclasses.dataclass(frozen=True)
class Recognised:
    """Model of a checkpoint.

    Attributes:
        kind: ``"specific"``, ``"agnostic"`` or ``"classifier"``.
        facts: gin name -> value of everything that the shapes determine, e.g.
            ``"video_tower.num_layers": 24``.
        tables: gin name -> value of input sizes, which determine the position tables only; another
            value in the configuration means that the tables are interpolated.
        modality: Modality of a classifier, else "".
        num_classes: Classes of a classifier, else 0.
    """

    kind: str
    facts: dict[str, Any]
    tables: dict[str, Any]
    modality: str = ""
    num_classes: int = 0

    def describe(self) -> str:
        """One line with kind and sizes of the model."""
        sizes = ", ".join(
            f"{tower.removesuffix('_tower')} {_size_name(self.facts, tower)}"
            for tower in ("agnostic_tower", "video_tower", "audio_tower", "text_tower")
            if f"{tower}.num_layers" in self.facts
        )
        if self.kind == "classifier":
            return (
                f"fine-tuned {self.modality} classifier with "
                f"{count_of(self.num_classes, 'class', 'classes')} ({sizes})"
            )
        return f"pre-trained modality-{self.kind} VATT ({sizes})"

    def config(self, given: VattConfig | None) -> VattConfig | ClassifierConfig:
        """The configuration of our model.

        Args:
            given: The user's configuration, or None to take everything from the shapes.

        Raises:
            UserError: If the given one does not fit; lists every difference.
        """
        model = self._inferred() if given is None else given
        if given is not None:
            self._check(given)
        if self.kind != "classifier":
            return model
        tower: Any = model.tower(self.modality)
        agnostic = tower.pre_projection
        return ClassifierConfig(
            modality=self.modality,
            tower=tower,
            num_classes=self.num_classes,
            multi_label=self.modality == "audio",
            dropout_rate=_AGNOSTIC_HEAD_DROPOUT if agnostic else _HEAD_DROPOUT[self.modality],
        )

    def _check(self, given: VattConfig) -> None:
        wanted = _facts_of(given, self.kind, self.modality)
        differences = [
            f"{name} is {wanted.get(name)!r} in the configuration, {value!r} in the checkpoint"
            for name, value in self.facts.items()
            if wanted.get(name) != value
        ]
        if differences:
            raise UserError(
                f"the checkpoint is a {self.describe()}, which the configuration does not "
                f"describe: {'; '.join(differences)}. Give the --gin_file of that model, or none"
            )

    def _inferred(self) -> VattConfig:
        """Infers a configuration from names and shapes alone."""
        parts: dict[str, dict[str, Any]] = {}
        for name, value in {**self.facts, **self.tables}.items():
            part, field = name.split(".")
            parts.setdefault(part, {})[field] = value
        for part, fields in parts.items():
            inner = fields.pop("heads_width", None)
            if inner is None:
                continue
            if inner % _D_KV:
                raise UserError(
                    f"{part}: the attention heads are {inner} wide together, which is no multiple "
                    f"of {_D_KV} as in every published model: give a --gin_file with "
                    f"{part}.num_heads and {part}.d_kv"
                )
            fields |= {"num_heads": inner // _D_KV, "d_kv": _D_KV}
        made = {
            "kind": parts.get("vatt", {}).get("kind", "specific"),
            "video": VideoTowerConfig(**parts.get("video_tower", {})),
            "audio": AudioTowerConfig(**parts.get("audio_tower", {})),
            "text": TextTowerConfig(**parts.get("text_tower", {})),
            "agnostic": AgnosticTowerConfig(**parts.get("agnostic_tower", {})),
            "head": HeadConfig(**parts.get("common_space", {})),
        }
        return VattConfig(**made)


def recognise(shapes: Shapes, source: str) -> Recognised:
    """Recognises the model of a checkpoint.

    Args:
        shapes: Shape of every variable by its key.
        source: Name of the checkpoint, for messages.

    Raises:
        UserError: If it is not one of the released code's.
    """
    try:
        if any(key.startswith(f"{UNIFIED}/") for key in shapes):
            return _agnostic(shapes)
        if any(key.startswith(f"{BASE}/") for key in shapes):
            return _specific(shapes)
        if f"{CLASSIFIER}/kernel" in shapes:
            return _classifier(shapes)
    except KeyError as error:
        raise UserError(
            f"{source}: the variable {error.args[0]} is not in the checkpoint"
        ) from error
    if any(key.startswith("model/vatt.S") for key in shapes):
        raise UserError(
            f"{source}: a checkpoint of vatt_tf itself; give its run directory to the command that "
            "is to use it (--run_dir), no conversion is needed"
        )
    names = [key for key in shapes if ".OPTIMIZER_SLOT" not in key][:3]
    raise UserError(
        f"{source}: not a checkpoint of the released VATT code; its variables are called "
        f"{', '.join(names)} ..., expected names below {BASE} or {FINETUNE}"
    )


def _specific(shapes: Shapes) -> Recognised:
    backbone = {name: f"{BASE}/{name}_backbone" for name in ("vid", "aud", "txt")}
    audio = f"{backbone['aud']}/_base"
    video_facts, video_tables = _video(shapes, f"{backbone['vid']}/_base")
    audio_facts, audio_tables = _audio(shapes, audio)
    facts = {**video_facts, **audio_facts, **_text(shapes, backbone["txt"]), **_head(shapes)}
    return Recognised("specific", {"vatt.kind": "specific", **facts}, video_tables | audio_tables)


def _agnostic(shapes: Shapes) -> Recognised:
    raw, positions = f"{UNIFIED}/raw_to_embeddings", f"{UNIFIED}/pos_embedding_lookup"
    facts = {
        "vatt.kind": "agnostic",
        **_transformer(shapes, "agnostic_tower", f"{UNIFIED}/tx", "mha"),
        "agnostic_tower.d_model": shapes[f"{UNIFIED}/vid_agg_embedding"][0],
        "agnostic_tower.post_projection": shapes[f"{UNIFIED}/post_proj/video/kernel"][1],
        "video_tower.patch": shapes[f"{raw}/video/kernel"][:3],
        "audio_tower.input": "waveform",
        "audio_tower.patch": shapes[f"{raw}/audio/kernel"][0],
        **_words(shapes[f"{raw}/text/embeddings"]),
        **_head(shapes),
    }
    tables = {
        **_video_size(shapes, f"{positions}/video", facts["video_tower.patch"]),
        "audio_tower.samples": facts["audio_tower.patch"] * _rows(shapes, f"{positions}/audio"),
        "text_tower.max_tokens": _rows(shapes, f"{positions}/text"),
    }
    return Recognised("agnostic", facts, tables)


def _classifier(shapes: Shapes) -> Recognised:
    classes = shapes[f"{CLASSIFIER}/kernel"][1]
    if f"{FINETUNE}/{PATCH['video']}/kernel" in shapes:
        modality, (facts, tables) = "video", _video(shapes, FINETUNE)
    else:
        modality, (facts, tables) = "audio", _audio(shapes, FINETUNE)
    return Recognised("classifier", facts, tables, modality, classes)


def _video(shapes: Shapes, prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    patch = shapes[f"{prefix}/{PATCH['video']}/kernel"][:3]
    facts = {**_tower(shapes, "video_tower", prefix), "video_tower.patch": patch}
    return facts, _video_size(shapes, f"{prefix}/pos_embedding_lookup", patch)


def _audio(shapes: Shapes, prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    positions = f"{prefix}/pos_embedding_lookup"
    facts = _tower(shapes, "audio_tower", prefix)
    spectrogram = f"{prefix}/{PATCH['log_mel']}/kernel"
    facts["audio_tower.use_bias"] = f"{prefix}/tx/layers/0/mha/q/bias" in shapes
    if spectrogram in shapes:
        patch = shapes[spectrogram][:2]
        facts |= {"audio_tower.input": "log_mel", "audio_tower.patch": patch}
        return facts, {
            "audio_tower.mel_frames": patch[0] * _rows(shapes, positions),
            "audio_tower.mel_bins": patch[1] * _rows(shapes, positions, "spectoral"),
        }
    samples = shapes[f"{prefix}/{PATCH['waveform']}/kernel"][0]
    facts |= {"audio_tower.input": "waveform", "audio_tower.patch": samples}
    return facts, {"audio_tower.samples": samples * _rows(shapes, positions)}


def _text(shapes: Shapes, prefix: str) -> dict[str, Any]:
    attention = "self_attention/attention"
    return {
        "text_tower.kind": "t5",
        **_transformer(shapes, "text_tower", f"{prefix}/base_lm", attention),
        "text_tower.d_model": shapes[f"{prefix}/pre_proj/kernel"][1],
        **_words(shapes[f"{prefix}/embedding/embeddings"]),
    }


def _words(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"text_tower.vocab_size": shape[0], "text_tower.embedding_dim": shape[1]}


def _head(shapes: Shapes) -> dict[str, Any]:
    return {
        "common_space.kind": "fac",
        "common_space.va_dim": shapes[f"{HEAD}/aud_to_va/kernel"][1],
        "common_space.vt_dim": shapes[f"{HEAD}/txt_to_vat/kernel"][1],
    }


def _tower(shapes: Shapes, name: str, prefix: str) -> dict[str, Any]:
    post = shapes.get(f"{prefix}/post_proj/kernel")
    return {
        **_transformer(shapes, name, f"{prefix}/tx", "mha"),
        f"{name}.d_model": shapes[f"{prefix}/agg_embedding"][0],
        f"{name}.pre_projection": f"{prefix}/pre_proj/kernel" in shapes,
        f"{name}.post_projection": None if post is None else post[1],
    }


def _transformer(shapes: Shapes, name: str, prefix: str, attention: str) -> dict[str, Any]:
    pattern = re.compile(re.escape(prefix) + r"/layers/(\d+)/")
    layers = {match.group(1) for key in shapes if (match := pattern.match(key))}
    return {
        f"{name}.num_layers": len(layers),
        f"{name}.heads_width": shapes[f"{prefix}/layers/0/{attention}/q/kernel"][1],
        f"{name}.d_ff": shapes[f"{prefix}/layers/0/feed_forward/mlp/wi/kernel"][1],
    }


def _rows(shapes: Shapes, positions: str, axis: str = "temporal") -> int:
    return shapes[f"{positions}/{axis}_position_embeddings/embeddings"][0]


def _video_size(shapes: Shapes, positions: str, patch: tuple[int, ...]) -> dict[str, Any]:
    axes = ("temporal", "vertical", "horizontal")
    sizes = [_rows(shapes, positions, axis) * size for axis, size in zip(axes, patch, strict=True)]
    return {"video_tower.frames": sizes[0], "video_tower.image_size": tuple(sizes[1:])}


def _facts_of(config: VattConfig, kind: str, modality: str) -> dict[str, Any]:
    """The ``facts`` of a checkpoint of this configuration."""
    if kind == "classifier":
        return _tower_facts(f"{modality}_tower", config.tower(modality))
    facts = {
        "vatt.kind": config.kind,
        **_plain_facts("common_space", config.head),
        **_plain_facts("video_tower", config.video),
        **_plain_facts("audio_tower", config.audio),
        **_plain_facts("text_tower", config.text),
    }
    if config.kind == "agnostic":
        return facts | _tower_facts("agnostic_tower", config.agnostic)
    for name in ("video", "audio", "text"):
        facts |= _tower_facts(f"{name}_tower", getattr(config, name))
    return facts


def _plain_facts(name: str, part: Any) -> dict[str, Any]:
    return {f"{name}.{field.name}": getattr(part, field.name) for field in dataclasses.fields(part)}


def _tower_facts(name: str, tower: Any) -> dict[str, Any]:
    size = tower.transformer_size()
    facts = _plain_facts(name, tower) | {
        f"{name}.num_layers": size.num_layers,
        f"{name}.d_model": size.d_model,
        f"{name}.heads_width": size.num_heads * size.d_kv,
        f"{name}.d_ff": size.d_ff,
    }
    if isinstance(tower, AudioTowerConfig):
        facts[f"{name}.use_bias"] = tower.has_bias
    return facts


def _size_name(facts: Mapping[str, Any], tower: str) -> str:
    """Name of a size, or layers x width where no named size has these."""
    found = (facts[f"{tower}.num_layers"], facts[f"{tower}.d_model"], facts[f"{tower}.d_ff"])
    for name, size in SIZES.items():
        if found == (size.num_layers, size.d_model, size.d_ff):
            return name
    return f"{found[0]} layers of {found[1]}"
