"""The modality-agnostic backbone: towers around one Transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import gin
import keras
from keras import ops

from vatt_tf.encoders.base import TransformerEncoder
from vatt_tf.encoders.sizes import TokenSequence, TransformerTowerConfig, check_transformer
from vatt_tf.encoders.text import check_words, text_features, text_shapes, word_mask, word_table
from vatt_tf.encoders.tower import register, tower_from_dict
from vatt_tf.fields import check_positive, check_rate, made_from
from vatt_tf.layers.transformer.blocks import Transformer


@gin.configurable("agnostic_tower")
@dataclasses.dataclass(frozen=True)
class AgnosticTowerConfig(TransformerTowerConfig):
    """The Transformer that all modalities of the agnostic model share.

    Attributes:
        size: Named size: tiny, small, base, medium, large or xlarge.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added (released code: always 0.1).
        post_projection: Width of the features.
        num_layers: Overrides the size's number of blocks.
        d_model: Overrides the size's token width.
        num_heads: Overrides the size's number of heads.
        d_ff: Overrides the size's MLP width.
        d_kv: Overrides the size's head width.
    """

    size: str = "medium"
    dropout_rate: float = 0.1
    position_dropout_rate: float = 0.1
    post_projection: int = 1024
    num_layers: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    d_kv: int | None = None

    # Name of the configurable, for messages.
    name: ClassVar[str] = "agnostic_tower"

    def __post_init__(self) -> None:
        check_transformer(self, self.name)
        check_rate(f"{self.name}.position_dropout_rate", self.position_dropout_rate)
        check_positive(f"{self.name}.post_projection", self.post_projection)


@register("agnostic_text_tower", "text", kinds=(None,))
@dataclasses.dataclass(frozen=True)
class AgnosticTextConfig(AgnosticTowerConfig):
    """The text side of an agnostic model as a tower of its own, with its own Transformer.

    Attributes:
        vocab_size: Words of the vocabulary; id 0 is padding.
        embedding_dim: Width of a word vector.
        max_tokens: Tokens of a caption; sets the size of the position table.
        trainable_words: Whether the word table is trained.
    """

    # Word vectors become tokens by it.
    pre_projection: ClassVar[bool] = True  # type: ignore[misc]

    vocab_size: int = 65_536
    embedding_dim: int = 300
    max_tokens: int = 16
    trainable_words: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self, self.name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one caption."""
        return (self.max_tokens,)

    @property
    def clip_fields(self) -> dict[str, Any]:
        """The fields of a ``ClipSpec`` that the tower decides."""
        return {"tokens": self.max_tokens}

    @property
    def sequence(self) -> TokenSequence:
        """Words of a caption."""
        return TokenSequence(self.max_tokens, self.max_tokens, width=self.embedding_dim)

    def build(self, **kwargs: Any) -> AbsoluteTextEncoder:
        """The encoder, without variables yet."""
        return AbsoluteTextEncoder(self, **kwargs)


@keras.saving.register_keras_serializable("vatt_tf")
class AbsoluteTextEncoder(TransformerEncoder):
    """Text side of the agnostic model: learned absolute positions, no T5 parts.

    Source: docs/reference.md, Agnostic model.

    Args:
        config: The tower's configuration.
        transformer: A Transformer to share, see :class:`vatt_tf.encoders.base.TransformerEncoder`.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: Integer [B, L], L static.
        training: Switches dropout on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, L, d].
    """

    config_class = AgnosticTextConfig

    def __init__(self, config: AgnosticTextConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.word_embedding = word_table(config, self.dtype_policy)
        self._set_positions(("temporal",), (config.max_tokens,))

    def build(self, input_shape: Any) -> None:
        self.word_embedding.build(input_shape)
        self._build_from_tokens(input_shape[0], input_shape[1], self.config.embedding_dim)

    def call(
        self, inputs: Any, training: bool = False, pooled_only: bool = False
    ) -> dict[str, Any]:
        ids = ops.cast(inputs, "int32")
        tokens = self._encode(
            self.word_embedding(ids),
            (ids.shape[1],),
            attention_mask=word_mask(ids),
            training=training,
            pooled_only=pooled_only,
        )
        return text_features(tokens, pooled_only)

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return text_shapes(input_shape, self.output_dim)


@keras.saving.register_keras_serializable("vatt_tf")
class AgnosticEncoder(keras.layers.Layer):
    """Video, audio and text towers that share one Transformer (VATT, section 3.2).

    Shared is the Transformer with its final norm only; embedding, pre-projection, positions, AGG
    and post-projection belong to the modality. The towers are the ordinary encoder classes, so one
    of them, fine-tuned alone, is the same class with its own Transformer. See
    docs/reference.md, Agnostic model.

    Args:
        config: The shared Transformer.
        towers: Configurations by modality, each as a tower of its own with the sizes of ``config``.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: Dict with any of ``video``, ``audio``, ``text``.
        training: Switches dropout and DropToken on.

    Returns:
        Dict from modality to the dict of its encoder.
    """

    def __init__(
        self, config: AgnosticTowerConfig, towers: Mapping[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.transformer = Transformer(
            **config.transformer_size().arguments(),
            dropout_rate=config.dropout_rate,
            dtype=self.dtype_policy,
            name="transformer",
        )
        self._modalities = tuple(towers)
        # Named attributes: TensorFlow checkpoints silently skip layers kept in dicts.
        for modality, tower in towers.items():
            shared = {"transformer": self.transformer, "dtype": self.dtype_policy}
            setattr(self, modality, tower.build(**shared, name=modality))

    @property
    def towers(self) -> dict[str, keras.layers.Layer]:
        """The encoders by modality."""
        return {modality: getattr(self, modality) for modality in self._modalities}

    def build(self, input_shape: Any = None) -> None:
        # Built here and not by the first tower, so that its variables bear the shared name. Its
        # variables do not depend on the number of tokens.
        self.transformer.build((None, None, self.config.transformer_size().d_model))
        for tower in self.towers.values():
            tower.build((None, *tower.config.input_shape))

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return {
            modality: tower(inputs[modality], training=training)
            for modality, tower in self.towers.items()
            if modality in inputs
        }

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> dict[str, Any]:
        return {
            modality: getattr(self, modality).compute_output_shape(shape)
            for modality, shape in input_shape.items()
        }

    def get_config(self) -> dict[str, Any]:
        towers = {modality: tower.config.to_dict() for modality, tower in self.towers.items()}
        return {**super().get_config(), "config": self.config.to_dict(), "towers": towers}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AgnosticEncoder:
        shared = made_from(AgnosticTowerConfig, config["config"], cls.__name__)
        towers = {
            modality: tower_from_dict(modality, values, modality)
            for modality, values in config["towers"].items()
        }
        return cls(**{**config, "config": shared, "towers": towers})
