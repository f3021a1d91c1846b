"""What a run costs, told before it starts: parameters, FLOPs, memory."""

from __future__ import annotations

from vatt_tf.layers.dropout import kept_tokens
from vatt_tf.models.config import VattConfig
from vatt_tf.models.flops import step_flops
from vatt_tf.models.vatt import abstract_vatt, parameter_counts
from vatt_tf.training import optimizer, schedule
from vatt_tf.training.config import TrainConfig

# What a Transformer block keeps for its backward pass, in multiples of tokens x width: counted in
# vatt_tf.layers.transformer (norms, projections, residuals; the MLP's two sides of GELU and its
# dropout; scores, softmax and its dropout). Good to some tens of percent.
_KEPT_MODEL, _KEPT_INNER, _KEPT_MLP, _KEPT_SCORES = 6, 5, 4, 4


def activation_values(config: VattConfig, texts: int) -> int:
    """Numbers that the towers keep for the backward pass of one clip (an estimate)."""
    total = 0
    for modality in ("video", "audio", "text"):
        tower = getattr(config, modality)
        if modality == "text" and tower.kind == "linear":
            total += texts * tower.max_tokens * tower.linear_width()
            continue
        size = (config.agnostic if config.kind == "agnostic" else tower).transformer_size()
        if modality == "text":
            tokens, sequences = tower.max_tokens + 1, texts
        else:
            tokens, sequences = kept_tokens(tower.tokens, tower.drop_token_rate) + 1, 1
        inner = size.num_heads * size.d_kv
        per_token = _KEPT_MODEL * size.d_model + _KEPT_INNER * inner + _KEPT_MLP * size.d_ff
        scores = _KEPT_SCORES * size.num_heads * tokens * tokens
        total += sequences * size.num_layers * (tokens * per_token + scores)
    return total


def memory_bytes(
    config: TrainConfig, parameters: dict[str, int], replicas: int
) -> dict[str, float]:
    """Bytes of a replica at the peak of a step (an estimate).

    Returns:
        ``state`` (weights, gradients, Adam's moments, the sums of the two-pass step),
        ``activations`` (of one micro-batch), ``batch`` (clips, two batches ahead) and ``total``.
    """
    batch, micro = config.sizes(replicas)
    clip = config.clip
    two_pass = micro < batch // replicas
    state = 4.0 * (parameters["total"] + (3 + two_pass) * parameters["trainable"])
    width = 4 if config.precision == "float32" else 2
    activations = float(width * micro * activation_values(config.model, config.texts))
    pixels = clip.frames * clip.height * clip.width * 3
    sound = clip.samples if clip.audio == "waveform" else clip.mel_frames * clip.mel_bins
    clips = 3.0 * batch / replicas * (pixels + 4 * sound)
    return {
        "state": state,
        "activations": activations,
        "batch": clips,
        "total": state + activations + clips,
    }


def describe(config: TrainConfig, replicas: int) -> str:
    """The lines of ``--dry_run``."""
    batch, micro = config.sizes(replicas)
    parameters = parameter_counts(abstract_vatt(config.model))
    full = step_flops(config.model, batch, convention="full", texts=config.texts)
    paper = step_flops(config.model, batch, convention="paper", texts=config.texts)
    memory = memory_bytes(config, parameters, replicas)
    rate = schedule.learning_rate(total_steps=config.steps)
    adam = optimizer.optimizer(rate)
    extra = " + 1/3 for the second forward pass" if micro < batch // replicas else ""
    parts = ", ".join(f"{name} {_si(value)}" for name, value in full.items() if name != "total")
    return "\n".join(
        [
            f"model       {parameters['total']:,} parameters, "
            f"{parameters['trainable']:,} trainable",
            f"batch       {batch} clips on {replicas} replica(s), {micro} at a time",
            f"step        {_si(full['total'])}FLOP ({parts}){extra}",
            f"            {_si(paper['total'])}FLOP in the paper's convention",
            f"memory      about {memory['total'] / 1e9:.1f} GB a replica (state "
            f"{memory['state'] / 1e9:.1f}, activations {memory['activations'] / 1e9:.1f}, "
            f"clips {memory['batch'] / 1e9:.1f})",
            f"optimizer   {adam.name}, {rate.shape} {rate.peak:g} -> {rate.final:g} after "
            f"{rate.warmup_steps:,} steps of warm-up",
            f"run         {config.steps:,} steps, {config.steps * batch:,} clips, "
            f"{_si(config.steps * full['total'])}FLOP",
        ]
    )


def summary(config: TrainConfig, replicas: int, run_dir: str) -> str:
    """One line at the start of a run."""
    batch, micro = config.sizes(replicas)
    total = step_flops(config.model, batch, texts=config.texts)["total"]
    return (
        f"{run_dir}: {config.steps:,} steps of {batch} clips ({micro} at a time, {replicas} "
        f"replica(s)), {_si(total)}FLOP a step"
    )


def _si(value: float) -> str:
    """``1.68e12`` -> ``1.68 T``."""
    for unit in ("", "k", "M", "G", "T", "P", "E", "Z", "Y"):
        if value < 1000 or unit == "Y":
            break
        value /= 1000
    return f"{value:.3g} {unit}"
