"""Estimates of a run before it starts: parameters, FLOPs, memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vatt_tf.encoders.sizes import TransformerTowerConfig
from vatt_tf.models.flops import step_flops
from vatt_tf.models.graph_cost import graph_cost
from vatt_tf.training.optimization import optimizer, schedule
from vatt_tf.training.tasks.config import RunConfig, TrainConfig
from vatt_tf.training.tasks.registry import count_parameters
from vatt_tf.wording import count_of

# Activations that a Transformer block keeps for its backward pass, as multiples of tokens x
# width, counted in vatt_tf.layers: the tokens before both halves; query, key, value and the mixed
# values; the MLP before the GELU. Masks, of a byte an element, are not counted.
_KEPT_MODEL, _KEPT_INNER, _KEPT_MLP = 2, 4, 1
# Temporary values while one block runs: scores, weights and their gradient, or the MLP's hidden
# layer and its gradient.
_PASSING_SCORES, _PASSING_MLP = 3, 5
# What a tower without a Transformer keeps, as multiples of what its convolutions and products put
# out: that, its normalised form and what the ReLU lets through.
_KEPT_PRODUCT = 3.0


def activation_values(
    towers: Mapping[str, Any], texts: int, remat: bool = False
) -> dict[str, float]:
    """Estimated number of activations that each tower keeps for the backward pass of one clip."""
    found = {}
    for modality, tower in towers.items():
        sequences = texts if modality == "text" else 1
        if not isinstance(tower, TransformerTowerConfig) or not tower.has_transformer:
            found[modality] = sequences * _KEPT_PRODUCT * graph_cost(tower).outputs
            continue
        size, tokens = tower.transformer_size(), tower.sequence.kept + 1
        inner = size.num_heads * size.d_kv
        per_token = _KEPT_MODEL * size.d_model + _KEPT_INNER * inner + _KEPT_MLP * size.d_ff
        scores = size.num_heads * tokens * tokens
        block = tokens * per_token
        layers = size.num_layers
        kept = layers * tokens * size.d_model + block if remat else layers * block
        passing = max(_PASSING_SCORES * scores, _PASSING_MLP * tokens * size.d_ff)
        found[modality] = sequences * (kept + passing)
    return found


def memory_bytes(config: RunConfig, parameters: dict[str, int], replicas: int) -> dict[str, float]:
    """Estimated bytes of a replica at the peak of a step.

    Returns:
        ``state`` (weights and the optimizer's moments), ``gradients``, ``activations`` (of one
        micro-batch), ``batch`` (clips, two batches ahead), ``peak`` (the largest sum of activations
        and gradients) and ``total``.
    """
    batch, micro = config.sizes(replicas)
    clip, model = config.clip, config.model_config
    in_parts = micro < batch // replicas
    moments = 1 if _optimizer(config).name == "sgd" else 2
    state = 4.0 * (parameters["total"] + moments * parameters["trainable"])
    gradients = 4.0 * parameters["trainable"]
    width = 4 if config.precision == "float32" else 2
    values = activation_values(model.towers, clip.texts, config.remat).values()
    # Gradient caching runs one tower after the other and holds the summed gradients beside the
    # activations; else gradients appear as activations are freed.
    caches = in_parts and isinstance(config, TrainConfig)
    activations = float(width * micro * (max(values) if caches else sum(values)))
    peak = gradients + activations if in_parts else max(gradients, activations)
    pixels = clip.frames * clip.height * clip.width * 3
    sound = {"waveform": clip.samples, "log_mel": clip.mel_frames * clip.mel_bins, "none": 0}
    clips = 3.0 * batch / replicas * (pixels + 4 * sound[clip.audio])
    return {
        "state": state,
        "gradients": gradients,
        "activations": activations,
        "batch": clips,
        "peak": peak,
        "total": state + peak + clips,
    }


def describe(config: RunConfig, replicas: int) -> str:
    """Text of ``--dry_run``: parameters, FLOPs, memory and schedule."""
    batch, micro = config.sizes(replicas)
    model, texts = config.model_config, config.clip.texts
    parameters = count_parameters(config)
    needed = step_flops(model, batch, texts=texts)
    paper = step_flops(model, batch, convention="paper", texts=texts)
    memory = memory_bytes(config, parameters, replicas)
    updates = _optimizer(config)
    rate = schedule.learning_rate(total_steps=config.steps)
    second_pass = isinstance(config, TrainConfig) and micro < batch // replicas
    extra = " + 1/3 for the second forward pass" if second_pass else ""
    parts = ", ".join(f"{name} {_si(value)}" for name, value in needed.items() if name != "total")
    return "\n".join(
        [
            f"model       {parameters['total']:,} parameters, "
            f"{parameters['trainable']:,} trainable",
            f"batch       {count_of(batch, 'clip')} on {count_of(replicas, 'replica')}, "
            f"{micro} at a time",
            f"step        {_si(needed['total'])}FLOP ({parts}){extra}",
            f"            {_si(paper['total'])}FLOP in the paper's convention",
            f"memory      about {memory['total'] / 1e9:.1f} GB a replica (state "
            f"{memory['state'] / 1e9:.1f}, activations and gradients {memory['peak'] / 1e9:.1f}, "
            f"clips {memory['batch'] / 1e9:.1f})",
            f"optimizer   {updates.name}, {rate.shape} {rate.peak:g} -> {rate.final:g} after "
            f"{count_of(rate.warmup_steps, 'step')} of warm-up",
            f"run         {count_of(config.steps, 'step')}, "
            f"{count_of(config.steps * batch, 'clip')}, "
            f"{_si(config.steps * needed['total'])}FLOP",
        ]
    )


def summary(config: RunConfig, replicas: int, run_dir: str) -> str:
    """Line at the start of a run: steps, batch, replicas, FLOPs."""
    batch, micro = config.sizes(replicas)
    total = step_flops(config.model_config, batch, texts=config.clip.texts)["total"]
    return (
        f"{run_dir}: {count_of(config.steps, 'step')} of {count_of(batch, 'clip')} "
        f"({micro} at a time, "
        f"{count_of(replicas, 'replica')}), {_si(total)}FLOP a step"
    )


def _optimizer(config: RunConfig) -> Any:
    return optimizer.optimizer(schedule.learning_rate(total_steps=config.steps))


def _si(value: float) -> str:
    """``1.68e12`` -> ``1.68 T``."""
    for unit in ("", "k", "M", "G", "T", "P", "E", "Z", "Y"):
        if value < 1000 or unit == "Y":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
