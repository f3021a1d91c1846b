"""Configurations of training runs: common parameters, and those of pre-training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import gin

from vatt_tf import paths
from vatt_tf.data.input.pipeline import Augmentation, DataSource
from vatt_tf.data.schema import AUDIO_RESAMPLINGS, ClipSpec
from vatt_tf.errors import UserError, is_number, value_text
from vatt_tf.losses.objective import ObjectiveConfig
from vatt_tf.models import initial
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.graph_cost import has_batch_norm
from vatt_tf.training.monitoring.guards import GuardConfig
from vatt_tf.wording import count_of

PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Common parameters of all training runs.

    Attributes:
        model: The model's configuration.
        data: Sources of training clips, mixed by their weights.
        steps: Optimizer steps of the whole run.
        eval_data: Shards to evaluate on, or ``None``.
        batch_size: Clips of the whole batch, over all replicas; ``None`` for 8 a replica, which is
            the paper's 2048 on its 256 TPU cores.
        micro_batch_size: Clips that pass through the towers at a time (exact); at most this many
            activations are held in memory. ``None`` for the whole replica batch.
        seed: Seed of initial weights, data order, augmentation, dropout and DropToken.
        augmentation: Random changes to the clips.
        initial_weights: Run directory or weights folder to start from; ``None`` to start from
            scratch. The optimizer starts afresh.
        frame_rate: Frames per second of a clip (paper: 10; fine-tuning 12.5); ``None`` for that of
            the initial weights, 10 from scratch.
        sample_rate: Audio samples per second (paper: 48,000); ``None`` for that of the initial
            weights, 48,000 from scratch.
        audio_resampling: How sound that is stored at a multiple of ``sample_rate`` is read:
            ``"filtered"``, without the frequencies that the clip cannot hold, or ``"strided"``,
            every n-th sample alone, as the released code does; ``None`` for that of the initial
            weights, ``"filtered"`` from scratch.
        precision: ``"float32"`` or ``"mixed_bfloat16"``.
        jit_compile: Compile the towers with XLA.
        remat: Keep only the tokens between the Transformer blocks and compute the blocks once more
            in the backward pass: a fraction of the memory for one more forward pass, with the same
            results.
        gradient_clip_norm: Global norm to which the summed gradient is clipped, or ``None``.
        shuffle_window: How far a record may move from its place in the shards of a source; as many
            as the source has shuffle it completely. It costs no memory; a smaller one reads more
            sequentially. Runs from before had ``shuffle_buffer``, which is still read.
        log_every: Steps between lines of metrics.jsonl.
        checkpoint_every: Steps between checkpoints.
        checkpoint_minutes: Minutes after which a checkpoint is written between those; 0 for none.
        keep_checkpoints: Newest checkpoints that are kept, those by time among them.
        evaluate_every: Steps between evaluations on ``eval_data``; 0 for none. The best weights
            are kept in the folder ``best`` of the run directory.
        allow_shared_clips: Train although some clips of ``eval_data`` are training clips.
        max_damaged_share: Largest fraction of the records that may be corrupt: they are left out,
            listed in ``damaged_records.json``, and more of them end the run; 0: the first one does.
        data_service: Addresses of ``vatt_tf.data.service`` that read the clips; none: this process
            reads them.
        guards: Thresholds of the health checks.
    """

    # Name of the configurable, for messages.
    name: ClassVar[str]

    model: Any = gin.REQUIRED
    data: Sequence[DataSource] = gin.REQUIRED
    steps: int = gin.REQUIRED
    eval_data: str | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    seed: int = 0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    initial_weights: str | None = None
    frame_rate: float | None = None
    sample_rate: int | None = None
    audio_resampling: str | None = None
    precision: str = "float32"
    jit_compile: bool = False
    remat: bool = False
    gradient_clip_norm: float | None = None
    shuffle_window: int = 4096
    log_every: int = 10
    checkpoint_every: int = 500
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    evaluate_every: int = 0
    allow_shared_clips: bool = False
    max_damaged_share: float = 0.01
    data_service: Sequence[str] = ()
    guards: GuardConfig = dataclasses.field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        paths.expand_fields(self, "eval_data", "initial_weights")
        if isinstance(self.data, DataSource):
            object.__setattr__(self, "data", (self.data,))
        sources = self.data if isinstance(self.data, list | tuple) else ()
        if not sources or not all(isinstance(source, DataSource) for source in sources):
            self.fail("data", "[@data_source()] or several")
        for field in (
            "steps",
            "shuffle_window",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            self.check_whole(field, 1)
        for field in ("evaluate_every", "seed"):
            self.check_whole(field, 0)
        for field in ("batch_size", "micro_batch_size", "sample_rate"):
            if getattr(self, field) is not None:
                self.check_whole(field, 1)
        rate = self.frame_rate
        if rate is not None and (not is_number(rate) or not 0 < rate < math.inf):
            self.fail("frame_rate", "a number above 0, or None")
        if self.audio_resampling not in (None, *AUDIO_RESAMPLINGS):
            self.fail("audio_resampling", f"one of {', '.join(AUDIO_RESAMPLINGS)}, or None")
        if self.precision not in PRECISIONS:
            self.fail("precision", f"one of {', '.join(PRECISIONS)}")
        norm = self.gradient_clip_norm
        if norm is not None and not (is_number(norm) and norm > 0):
            self.fail("gradient_clip_norm", "None or a number above 0")
        share = self.max_damaged_share
        if not is_number(share) or not 0 <= share < 1:
            self.fail("max_damaged_share", "a number in [0, 1)")
        minutes = self.checkpoint_minutes
        if not is_number(minutes) or not minutes >= 0:
            self.fail("checkpoint_minutes", "0 or a number above it")
        if isinstance(self.data_service, str):
            object.__setattr__(self, "data_service", (self.data_service,))
        if self.evaluate_every and not self.eval_data:
            raise UserError(
                f"{self.name}.evaluate_every={self.evaluate_every} needs {self.name}.eval_data "
                "(EVAL_DATA)"
            )

    @property
    def model_config(self) -> Any:
        """Resolved configuration of the model."""
        return self.model

    @property
    def clip(self) -> ClipSpec:
        """Shape of the clips that the model reads.

        Raises:
            UserError: If the folder of the initial weights holds no model.
        """
        options = initial.clip_options(self.initial_weights, self.bound_clip_options)
        return dataclasses.replace(self.model_config.clip(), **options)

    @property
    def bound_clip_options(self) -> dict[str, Any]:
        """Those of ``initial.CLIP_OPTIONS`` that the run file binds."""
        names = (*initial.CLIP_OPTIONS, "caption_distance")
        values = {name: getattr(self, name, None) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def sizes(self, replicas: int) -> tuple[int, int]:
        """Sizes of the whole batch and of a micro-batch, in clips.

        Raises:
            UserError: If they do not divide evenly, or a tower's BatchNorm cannot be computed so.
        """
        batch = self.batch_size or 8 * replicas
        if batch % replicas:
            raise UserError(
                f"{self.name}.batch_size={batch} (macro BATCH_SIZE): expected a multiple of the "
                f"{replicas} replicas"
            )
        per_replica = batch // replicas
        micro = min(self.micro_batch_size or per_replica, per_replica)
        if per_replica % micro:
            raise UserError(
                f"{self.name}.micro_batch_size={micro} (macro MICRO_BATCH_SIZE): expected a "
                f"divisor of the {per_replica} clips of a replica"
            )
        if replicas > 1 and micro < per_replica and self._has_batch_norm_towers():
            # No collective operation is possible inside of the loop over micro-batches.
            raise UserError(
                f"{self.name}.micro_batch_size={micro} (macro MICRO_BATCH_SIZE): the BatchNorm of "
                f"convolutional towers averages over {count_of(replicas, 'replica')}, which it "
                "can over all "
                f"{count_of(per_replica, 'clip')} of each only; leave it out (None), or train on "
                "one replica"
            )
        return batch, micro

    def _has_batch_norm_towers(self) -> bool:
        return any(map(has_batch_norm, self.model_config.towers.values()))

    def check_whole(self, field: str, least: int) -> None:
        """Checks that a value is an integer of at least ``least``."""
        value = getattr(self, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fail(field, f"a whole number of at least {least}")

    def fail(self, field: str, expected: str) -> NoReturn:
        """Raises the error about a value under its gin name."""
        value = value_text(getattr(self, field))
        raise UserError(f"{self.name}.{field}={value}: expected {expected}")


@gin.configurable("train")
@dataclasses.dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A pre-training run; see :class:`RunConfig` for what every run has.

    ``initial_weights`` are those of the same kind of model, and their tokenizer is taken too.

    Attributes:
        objective: The losses.
        tokenizer: ``"word"``, ``"content_words"`` (words without stop words), ``"wordpiece"`` or
            ``"sentencepiece"``.
        tokenizer_file: Vocabulary or model file; ``None`` for the one beside the first source.
        word_vectors: word2vec or GloVe text file, ``.npy`` or ``.pkl``, for the word table;
            ``None`` to leave it at its random start.
        texts: Candidate captions of a clip (P of MIL-NCE; paper: 5).
        caption_distance: Seconds that the nearest caption may lie beside a clip, in training and
            evaluation; ``None`` for 0: a clip that no caption overlaps has none.
    """

    name: ClassVar[str] = "train"

    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    tokenizer: str = "word"
    tokenizer_file: str | None = None
    word_vectors: str | None = None
    texts: int = 5
    caption_distance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        paths.expand_fields(self, "tokenizer_file", "word_vectors")
        if not isinstance(self.model, VattConfig):
            self.fail("model", "@vatt()")
        if not isinstance(self.objective, ObjectiveConfig):
            self.fail("objective", "@contrastive_loss()")
        self.check_whole("texts", 1)
        distance = self.caption_distance
        if distance is not None and not (is_number(distance) and 0 <= distance < math.inf):
            self.fail("caption_distance", "0 or a number above it, or None")
        if self.batch_size == 1:
            # With one clip the loss has no negatives: it is 0 from the start.
            raise UserError(
                "train.batch_size=1 (macro BATCH_SIZE): the losses compare the clips of a batch; "
                "expected at least 2"
            )
        towers = self.model.towers.items()
        self.objective.check_widths({name: tower.output_dim for name, tower in towers})
        if self.initial_weights and self.word_vectors:
            raise UserError(
                "train.initial_weights and train.word_vectors: the weights hold a word table "
                "already; give one of the two"
            )

    @property
    def clip(self) -> ClipSpec:
        """Shape of the clips that the configured towers read."""
        return dataclasses.replace(super().clip, texts=self.texts)
