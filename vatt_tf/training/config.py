"""The configuration of a pre-training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gin

from vatt_tf.data.pipeline import Augmentation, DataSource
from vatt_tf.data.schema import ClipSpec
from vatt_tf.errors import UserError
from vatt_tf.losses.objective import ObjectiveConfig
from vatt_tf.models.config import VattConfig

PRECISIONS = ("float32", "mixed_bfloat16")


@gin.configurable("train")
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a pre-training run.

    Attributes:
        model: Towers and head.
        data: Sources of training clips, mixed by their weights.
        steps: Optimizer steps of the whole run.
        eval_data: Shards to evaluate on, or ``None``.
        batch_size: Clips of the whole batch, over all replicas; ``None`` for 8 a replica, which is
            the paper's 2048 on its 256 TPU cores.
        micro_batch_size: Clips that pass through the towers at a time (two-pass step, exact); at
            most this many activations are held in memory. ``None`` for the whole replica batch.
        seed: Seed of initial weights, data order, augmentation, dropout and DropToken.
        objective: The losses.
        augmentation: Random changes to the clips.
        tokenizer: ``"word"``, ``"wordpiece"`` or ``"sentencepiece"``.
        tokenizer_file: Vocabulary or model file; ``None`` for the one beside the first source.
        word_vectors: word2vec or GloVe text file, ``.npy`` or ``.pkl``, for the word table;
            ``None`` to leave it at its random start.
        initial_weights: Run directory or weights folder of the same kind of model to start from,
            with its tokenizer; ``None`` to start from scratch. The optimizer starts afresh.
        texts: Candidate captions of a clip (P of MIL-NCE; paper: 5).
        frame_rate: Frames per second of a clip (paper: 10).
        sample_rate: Audio samples per second (paper: 48,000).
        precision: ``"float32"`` or ``"mixed_bfloat16"``.
        jit_compile: Compile the towers with XLA.
        gradient_clip_norm: Global norm of the summed gradient, or ``None`` (paper).
        shuffle_buffer: Records in the shuffle buffer of a source.
        log_every: Steps between lines of metrics.jsonl.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Checkpoints that are kept.
        evaluate_every: Steps between evaluations on ``eval_data``; 0 for none.
    """

    model: VattConfig = gin.REQUIRED
    data: Sequence[DataSource] = gin.REQUIRED
    steps: int = gin.REQUIRED
    eval_data: str | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    seed: int = 0
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    tokenizer: str = "word"
    tokenizer_file: str | None = None
    word_vectors: str | None = None
    initial_weights: str | None = None
    texts: int = 5
    frame_rate: float = 10.0
    sample_rate: int = 48_000
    precision: str = "float32"
    jit_compile: bool = False
    gradient_clip_norm: float | None = None
    shuffle_buffer: int = 4096
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, VattConfig):
            raise UserError(f"train.model={self.model!r}: expected @vatt()")
        if isinstance(self.data, DataSource):
            object.__setattr__(self, "data", (self.data,))
        if not self.data or not all(isinstance(source, DataSource) for source in self.data):
            raise UserError(f"train.data={self.data!r}: expected [@data_source()] or several")
        for name in ("steps", "log_every", "checkpoint_every", "keep_checkpoints", "texts"):
            _check_whole(name, getattr(self, name), 1)
        _check_whole("evaluate_every", self.evaluate_every, 0)
        _check_whole("seed", self.seed, 0)
        for name in ("batch_size", "micro_batch_size"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 1)
        if self.precision not in PRECISIONS:
            raise UserError(
                f"train.precision={self.precision!r}: expected one of {', '.join(PRECISIONS)}"
            )
        if self.gradient_clip_norm is not None and not self.gradient_clip_norm > 0:
            raise UserError(
                f"train.gradient_clip_norm={self.gradient_clip_norm!r}: expected None or a number "
                "above 0"
            )
        if self.initial_weights and self.word_vectors:
            raise UserError(
                "train.initial_weights and train.word_vectors: the weights hold a word table "
                "already; give one of the two"
            )
        if self.evaluate_every and not self.eval_data:
            raise UserError(
                f"train.evaluate_every={self.evaluate_every} needs train.eval_data (EVAL_DATA)"
            )

    @property
    def clip(self) -> ClipSpec:
        """Shape of the clips that the configured towers read."""
        return self.model.clip(self.frame_rate, self.sample_rate, self.texts)

    def sizes(self, replicas: int) -> tuple[int, int]:
        """Whole batch and micro-batch in clips.

        Raises:
            UserError: If they do not divide evenly.
        """
        batch = self.batch_size or 8 * replicas
        if batch % replicas:
            raise UserError(
                f"train.batch_size={batch} (macro BATCH_SIZE): expected a multiple of the "
                f"{replicas} replicas"
            )
        per_replica = batch // replicas
        micro = min(self.micro_batch_size or per_replica, per_replica)
        if per_replica % micro:
            raise UserError(
                f"train.micro_batch_size={micro} (macro MICRO_BATCH_SIZE): expected a divisor of "
                f"the {per_replica} clips of a replica"
            )
        return batch, micro


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"train.{name}={value!r}: expected a whole number of at least {least}")
