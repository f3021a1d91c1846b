"""Retrieval on held-out clips during training."""

from __future__ import annotations

import dataclasses
from typing import Any

import orbit

from vatt_tf.data.input.pipeline import EVALUATION_SPLITS, evaluation_dataset
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.evaluation.collect.embeddings import embed_dataset, embedding_function
from vatt_tf.evaluation.source import find_source
from vatt_tf.evaluation.tasks.retrieval import retrieval_metrics
from vatt_tf.training.cluster.preemption import Preemption


class RetrievalEvaluator(orbit.AbstractEvaluator):
    """Embeds the clips of ``eval_data`` (one centre window) and ranks them.

    Args:
        model: The model that is being trained.
        eval_data: Shards, see ``vatt_tf.evaluate --data``.
        clip: Shape of a clip.
        tokenizer: The run's tokenizer.
        batch_size: Clips embedded at a time.
    """

    def __init__(
        self, model: Any, eval_data: str, clip: ClipSpec, tokenizer: Any, batch_size: int = 16
    ) -> None:
        self._model = model
        self._embed = embedding_function(model)  # compiled once for all evaluations
        self._source = find_source(eval_data)
        # One caption a clip is the protocol; its neighbours are for training.
        clip = dataclasses.replace(clip, texts=1)
        self._dataset = evaluation_dataset(
            self._source.data_source(), clip, tokenizer, batch_size=batch_size
        )

    def evaluate(self, num_steps: Any) -> dict[str, float]:
        """Evaluates all clips, whatever ``num_steps`` is: recall depends on the pool's size."""
        with read_errors(self._source.path, splits=EVALUATION_SPLITS):
            embeddings = embed_dataset(self._model, self._dataset, embed=self._embed)
        results = retrieval_metrics(embeddings)
        return {
            f"{direction}/{name}": float(value)
            for direction, values in results.items()
            if isinstance(values, dict) and "_to_" in direction
            for name, value in values.items()
            if isinstance(value, (int, float))
        }


class InterruptibleEvaluator(orbit.AbstractEvaluator):
    """Evaluator that a signal ends at once; the evaluation is repeated after resuming."""

    def __init__(self, evaluator: orbit.AbstractEvaluator, preemption: Preemption) -> None:
        self._evaluator, self._preemption = evaluator, preemption

    def evaluate(self, num_steps: Any) -> Any:
        """See ``orbit.AbstractEvaluator``."""
        with self._preemption.between_steps(False):
            return self._evaluator.evaluate(num_steps)
