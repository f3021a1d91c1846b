"""Probe task of ``vatt_tf.evaluate``: chooses the clips to fit, to select and to test on."""

from __future__ import annotations

import pathlib
from typing import Any

from vatt_tf import paths
from vatt_tf.data.input import pipeline
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.labels import labels_of, read_labels
from vatt_tf.data.shards.summary import read_inventory, refuse_shared
from vatt_tf.errors import NO_VOCABULARY, UserError
from vatt_tf.evaluation.collect import features
from vatt_tf.evaluation.job import Evaluation, Job
from vatt_tf.evaluation.metrics.probe_classifiers import LOW_RANK_STEPS
from vatt_tf.evaluation.source import EvaluationSource, find_source
from vatt_tf.evaluation.tasks import probe as probe_lib
from vatt_tf.evaluation.tasks.reading import minimal_clip_spec, open_records, reading
from vatt_tf.models import io

VALIDATION = ("val", "validation", "valid")
# The test split is measured; with it, val selects the settings.
HELD_OUT = ("test", *VALIDATION)


def run_probe(job: Job) -> Evaluation:
    """Extracts the features of training and test clips and fits classifiers on them.

    Raises:
        UserError: If the run, the data or the options cannot be used.
    """
    options, views = job.options, job.views
    test = find_source(job.data, HELD_OUT)
    train = find_source(options.train_data or _root(test), ("train",))
    val = _validation(train, test)
    parts = {"train": train, "test": test, **({"val": val} if val else {})}
    names = (
        labels_of(train.path, ("train",)) if options.labels is None else read_labels(options.labels)
    )
    _check_leaks(parts)
    model, clip, tokenizer = _load(job.weights)
    modality = options.modality or getattr(model.config, "modalities", ("video",))[0]
    function = features.features_function(model, modality)
    if modality == "text" and tokenizer is None:
        raise UserError(f"--modality=text: {job.weights}: {NO_VOCABULARY}")
    clip = minimal_clip_spec(clip, (modality,))
    by_view = views.aggregate == "scores"
    sets = {}
    for name, part in parts.items():
        windows = views.train_windows if name == "train" else views.windows
        dataset = open_records(job, part, clip, tokenizer, names, windows)
        with reading(job, part, f"{name} features") as progress:
            sets[name] = features.extract_features(
                model,
                dataset,
                modality,
                names,
                by_view=by_view,
                function=function,
                limit=options.limit if name == "test" else None,
                progress=progress,
            )
    block = probe_lib.probe(
        sets["train"],
        sets["test"],
        sets.get("val"),
        kinds=options.probe or probe_lib.DEFAULT_KINDS,
        shots=options.shots or (),
        steps=options.probe_steps or LOW_RANK_STEPS,
    )
    head = {
        "train_data": train.path,
        **({"val_data": val.path} if val else {}),
        "protocol": {
            **views.protocol(options.views or "default"),
            "features": "pooled output of the frozen tower, before any head",
            "scaling": "zero mean and unit variance on train (knn: none, cosine)",
        },
    }
    return Evaluation({**head, **block}, probe_lib.format_probe, test)


def _root(found: EvaluationSource) -> str:
    """The prepared folder that a split lies in."""
    if found.split is None:
        raise UserError(
            f"{found.path}: no prepared folder with a train split; name the clips to fit the probe "
            "on with --train_data"
        )
    return paths.as_text(pathlib.Path(found.path).parent)


def _validation(train: EvaluationSource, test: EvaluationSource) -> EvaluationSource | None:
    """The val split beside the training clips, unless it is what is measured on."""
    if train.split is None:
        return None
    folder = pathlib.Path(_root(train))
    for name in VALIDATION:
        beside = paths.as_text(folder / name)
        if (folder / name).is_dir() and beside != test.path:
            found = find_source(beside)
            return found if found.records else None
    return None


def _check_leaks(parts: dict[str, EvaluationSource]) -> None:
    inventories = {
        name: read_inventory(part.data_source(), pipeline.EVALUATION_SPLITS)
        for name, part in parts.items()
    }
    refuse_shared(inventories["train"], inventories["test"])
    if "val" in inventories:
        refuse_shared(inventories["train"], inventories["val"])
        refuse_shared(inventories["val"], inventories["test"])


def _load(weights: str) -> tuple[Any, ClipSpec, Any]:
    """Model, clip and tokenizer of a folder of any kind."""
    if io.read_description(weights).get("kind", "vatt") in io.CLASSIFIER_KINDS:
        loaded = io.load_classifier(weights)
        return loaded.model, loaded.clip, loaded.tokenizer
    return io.load_pretrained(weights)
