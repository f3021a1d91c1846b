"""The tasks of ``vatt_tf.evaluate``: load the model, read the clips, compute the block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from vatt_tf.data.shards.labels import read_labels
from vatt_tf.errors import UserError
from vatt_tf.evaluation import calibration
from vatt_tf.evaluation.collect import clustering, embeddings, predictions
from vatt_tf.evaluation.collect.activations import Activations, collect_activations
from vatt_tf.evaluation.job import Evaluation, Job
from vatt_tf.evaluation.source import EvaluationSource, find_source
from vatt_tf.evaluation.tasks import classification, retrieval, zero_shot
from vatt_tf.evaluation.tasks.probe_task import run_probe
from vatt_tf.evaluation.tasks.prompts import match_labels, read_prompts
from vatt_tf.evaluation.tasks.reading import minimal_clip_spec, open_records, reading
from vatt_tf.models import io
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import VATT, build_vatt
from vatt_tf.wording import count_of

# Clips whose frames are kept for the report; the pictures stay a few MB in memory.
STRIP_FRAMES = 5
# Clips of the report's maps (VATT, section 4.2.5).
MAPPED_CLIPS = 1000


def run(job: Job) -> Evaluation:
    """Runs a task.

    Raises:
        UserError: If the run, the data or the options cannot be used.
    """
    tasks = {
        "retrieval": _retrieval,
        "zero_shot": _zero_shot,
        "classify": _classify,
        "probe": run_probe,
    }
    return tasks[job.task](job)


def _retrieval(job: Job) -> Evaluation:
    found = find_source(job.data)
    model, _, dataset, collected = _embed(job, found)
    block = retrieval.retrieval_metrics(collected)
    activations = _activations(job, model, dataset)
    block["silhouette"] = _silhouettes(collected, activations)
    random = _random_baseline(job, found, model, dataset)
    if random is not None:
        block["random_weights"] = random
    return Evaluation(
        block,
        retrieval.format_retrieval,
        found,
        embeddings=collected,
        activations=activations,
        calibration={
            "model_hash": io.weights_hash(model),
            "windows": collected.windows,
            "spaces": calibration.measure(collected),
        },
    )


def _random_baseline(
    job: Job, found: EvaluationSource, model: Any, dataset: Any
) -> dict[str, Any] | None:
    """Retrieval metrics of the same towers at the random weights that the run started from.

    The difference is what the run has learned: towers at random weights already separate loud clips
    from quiet ones, and bright from dark. It is always measured for a model
    without a text tower, which has little else to compare with.
    """
    description = io.read_description(job.weights)
    without_words = "seed" in description and "text" not in model.towers
    if not (job.options.random_baseline or without_words):
        return None
    seed = description.get("seed", 0)
    untrained = at_random_weights(model.config, seed)
    with reading(job, found, "embedding at random weights") as progress:
        collected = embeddings.embed_dataset(
            untrained, dataset, limit=job.options.limit, progress=progress
        )
    return {"seed": seed, **retrieval.directions(retrieval.retrieval_metrics(collected))}


def at_random_weights(config: VattConfig, seed: int) -> VATT:
    """Builds the model with the initial weights of a run with this seed."""
    keras.utils.set_random_seed(seed)
    return build_vatt(config)


def _silhouettes(collected: Any, activations: Activations | None) -> dict[str, Any]:
    """Silhouettes by modality of each space, and of the features where widths are equal."""
    spaces = [(collected, space) for space in collected.spaces]
    if activations is not None:
        spaces += [(activations.clips, space) for space in activations.comparable]
    found = {space: clustering.modality_silhouette(clips, space) for clips, space in spaces}
    return {space: value for space, value in found.items() if value is not None}


def _zero_shot(job: Job) -> Evaluation:
    found = find_source(job.data)
    # First, so that mistakes in small files show before the model is loaded.
    prompts = job.options.prompts
    classes = None if prompts is None else read_prompts(prompts)
    if classes is not None and found.labels:
        match_labels(classes, found.labels)
    model, tokenizer, dataset, collected = _embed(job, found)
    block = zero_shot.zero_shot_metrics(
        collected, model, tokenizer, labels=found.labels, prompts=classes
    )
    activations = _activations(job, model, dataset)
    return Evaluation(
        block, zero_shot.format_zero_shot, found, embeddings=collected, activations=activations
    )


def _embed(job: Job, found: EvaluationSource) -> tuple[Any, Any, Any, Any]:
    _check_kind(job, ("vatt",), "towers and common spaces")
    model, clip, tokenizer = io.load_pretrained(job.weights)
    dataset = open_records(job, found, clip, tokenizer)
    with reading(job, found, "embedding") as progress:
        collected = embeddings.embed_dataset(
            model,
            dataset,
            limit=job.options.limit,
            strip_frames=STRIP_FRAMES if job.keep else 0,
            progress=progress,
        )
    return model, tokenizer, dataset, collected


def _classify(job: Job) -> Evaluation:
    found = find_source(job.data)
    _check_kind(job, io.CLASSIFIER_KINDS, "a classifier")
    views = job.views
    given = None if job.options.labels is None else read_labels(job.options.labels)
    loaded = io.load_classifier(job.weights)
    names = _class_names(job.weights, loaded, given)
    modalities = loaded.model.config.modalities
    clip = loaded.clip if job.keep else minimal_clip_spec(loaded.clip, modalities)
    dataset = open_records(job, found, clip, loaded.tokenizer, names)
    with reading(job, found, "classifying") as progress:
        answers = predictions.predict(
            loaded.model,
            dataset,
            names,
            limit=job.options.limit,
            strip_frames=STRIP_FRAMES if job.keep else 0,
            progress=progress,
        )
    block = classification.classification_block(answers)
    return Evaluation(
        {"protocol": views.protocol(job.options.views or "default"), **block},
        classification.format_classification,
        found,
        predictions=answers,
        activations=_activations(job, loaded.model, dataset),
    )


def _check_kind(job: Job, kinds: Sequence[str], expected: str) -> None:
    """Checks that the task applies to the model in the folder."""
    kind = io.read_description(job.weights).get("kind", "vatt")
    if kind not in kinds:
        fitting = (
            "classify or probe"
            if kind in io.CLASSIFIER_KINDS
            else ("retrieval, zero_shot or probe (fine-tune it for classes: docs/finetuning.md)")
        )
        raise UserError(
            f"{job.weights}: holds a model of kind {kind!r}, but --task={job.task} needs "
            f"{expected}; evaluate this model with --task={fitting}"
        )


def _activations(job: Job, model: Any, dataset: Any) -> Activations | None:
    if not job.keep:
        return None
    limit = min(MAPPED_CLIPS, job.options.limit or MAPPED_CLIPS)
    return collect_activations(model, dataset, limit=limit)


def _class_names(
    weights: str, loaded: io.LoadedClassifier, given: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the classifier's outputs: its own, or those of a label file."""
    names = loaded.labels or (tuple(given) if given is not None else None)
    if names is None:
        raise UserError(
            f"{weights}: names no classes; give them with --labels=FILE, one class per line in the "
            "order of the classifier's outputs"
        )
    if given is not None and tuple(given) != names:
        raise UserError(
            f"--labels={count_of(len(given), 'class', 'classes')}: the weights name others or in "
            "another order "
            f"({', '.join(names[:5])}, ...); leave the flag out"
        )
    if len(names) != loaded.model.config.num_classes:
        raise UserError(
            f"{len(names)} class names, but the classifier in {weights} has "
            f"{loaded.model.config.num_classes} outputs; give --labels with that many lines"
        )
    return names
