"""A VATT in the hands of stock Keras: its optimizers, ``fit``, ``save`` and ``summary``."""

from __future__ import annotations

import dataclasses
import re

import keras
import numpy as np
import pytest

import vatt_tf
from tests.data.records import SPEC
from tests.evaluation import tiny_run
from tests.models import tiny
from tests.training.tiny import TEXTS, TOKENS, tiny_batch, tiny_classifier, tiny_model
from vatt_tf.data.input.pipeline import training_dataset
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.errors import UserError
from vatt_tf.losses.objective import ObjectiveConfig, objective
from vatt_tf.models.vatt import VATT, build_vatt, parameter_counts


def loss_of(model, batch):
    spaces = model(batch)
    masks = {name: batch[f"{name}_mask"] for name in ("video", "audio", "text")}
    return float(objective(spaces, spaces, masks, masks, model.objective)[0])


@pytest.mark.parametrize(
    "eager", [True, pytest.param(False, marks=pytest.mark.check)], ids=["eager", "graph"]
)
def test_fit_on_the_pipeline(tmp_path, eager):
    shards = tiny_run.write_tiny_shards(tmp_path / "shards")
    spec = dataclasses.replace(SPEC, samples=64, texts=TEXTS, tokens=TOKENS)
    tokenizer = WordTokenizer(tiny_run.WORDS, max_tokens=TOKENS)
    clips = training_dataset(str(shards / "val"), spec, tokenizer, batch_size=8, shuffle_window=1)
    batch = {name: np.asarray(value) for name, value in next(iter(clips)).items()}
    assert batch["audio_mask"].min() == 0 and batch["text_mask"].min() == 0
    model = tiny_model()
    model.objective = ObjectiveConfig(temperature=0.2, video_text=0.5)
    before = {variable.path: np.asarray(variable) for variable in model.trainable_variables}
    model.compile(optimizer=keras.optimizers.Adam(1e-2), run_eagerly=eager)
    history = model.fit(clips, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    still = [v.path for v in model.trainable_variables if np.array_equal(v, before[v.path])]
    assert still == []
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.objective = model.objective
    np.testing.assert_allclose(loss_of(again, batch), loss_of(model, batch), rtol=1e-5)


def test_without_masks_no_clip_lacks_anything():
    model, batch = tiny_model(), tiny_batch(4)
    spaces, masks = model(batch), [name for name in batch if name.endswith("_mask")]
    found = float(model.compute_loss(batch, y_pred=spaces))
    assert found == pytest.approx(loss_of(model, batch), rel=1e-5)
    present = batch | {name: np.ones_like(batch[name]) for name in masks}
    bare = {name: value for name, value in batch.items() if name not in masks}
    expected = float(model.compute_loss(present, y_pred=spaces))
    assert float(model.compute_loss(bare, y_pred=spaces)) == pytest.approx(expected)
    assert found != pytest.approx(expected)


def test_what_fit_does_not_know():
    model, batch = tiny_model(), tiny_batch(4)
    with pytest.raises(UserError, match="fit knows neither sample weights nor"):
        model.compute_loss(batch, y_pred=model(batch), sample_weight=np.ones(4))
    model.objective = dataclasses.replace(model.objective, statistics_weight=1.0)
    with pytest.raises(UserError, match="train with vatt_tf.train for the second"):
        model.compute_loss(batch, y_pred=model(batch))


def printed(model):
    lines = []
    model.summary(line_length=78, print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines)


def test_summary_of_a_loaded_model(weights_folder):
    model = vatt_tf.load(str(weights_folder)).model
    text, counts = printed(model), parameter_counts(model)
    for name, kind in (
        ("video", "VideoEncoder"),
        ("audio", "WaveformEncoder"),
        ("text", "TextEncoder"),
        ("head", "FACHead"),
    ):
        (line,) = [line for line in text.splitlines() if f"{name} ({kind})" in line]
        assert f"{counts[name]:,}" in line
    assert f"Total params: {counts['total']:,}" in text
    assert f"Trainable params: {counts['trainable']:,}" in text
    cells = re.sub(
        r"[\s│]+", "", "".join(line.split("│")[2] for line in text.splitlines() if "│" in line)
    )
    assert "va:{video:(None,12),audio:(None,12)}" in cells  # the spaces of the head


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (lambda: build_vatt(tiny.agnostic()), ["agnostic (AgnosticEncoder)", "head (FACHead)"]),
        (lambda: build_vatt(tiny.specific("mmv_fac")), ["head (MMVFACHead)"]),
        (lambda: VATT(tiny.specific()), ["0 (unbuilt)"]),
        (lambda: tiny_classifier(3), ["head (ClassificationHead)"]),
    ],
    ids=["agnostic", "mmv", "unbuilt", "classifier"],
)
def test_summary(model, rows):
    text = printed(model())
    assert all(row in text for row in rows), text
