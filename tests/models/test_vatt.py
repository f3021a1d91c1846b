"""The whole model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import randomise, weighted_sum
from tests.models import tiny
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.layers.random import seed_scope
from vatt_tf.models.vatt import VATT, abstract_vatt, build_vatt, parameter_counts

MAKERS = {"specific": tiny.specific, "agnostic": tiny.agnostic}
SPACES = {
    "fac": {"va": ("video", "audio"), "vt": ("video", "text")},
    "disjoint": {"va": ("video", "audio"), "vt": ("video", "text")},
    "shared": {"vat": ("video", "audio", "text")},
}
WIDTHS = {"va": 12, "vt": 8, "vat": 12}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def model(request):
    keras.utils.set_random_seed(0)
    return build_vatt(MAKERS[request.param]())


@pytest.mark.parametrize("head", sorted(SPACES))
def test_embeddings_of_every_head(head):
    for dtype in ("float32", "mixed_bfloat16"):
        spaces = build_vatt(tiny.specific(head), dtype=dtype)(tiny.batch())
        assert {space: tuple(values) for space, values in spaces.items()} == SPACES[head]
        for space, values in spaces.items():
            for modality, value in values.items():
                texts = (2,) if modality == "text" else ()
                assert value.shape == (3, *texts, WIDTHS[space])
                assert value.dtype == "float32"


def test_call_is_project_of_encode(model):
    inputs = tiny.batch()
    features = model.encode(inputs)
    width = model.tower("video").output_dim
    assert {k: tuple(v.shape) for k, v in features.items()} == {
        "video": (3, width), "audio": (3, width), "text": (3, 2, width)
    }  # fmt: skip
    expected = tf.nest.flatten(model.project(features))
    for left, right in zip(tf.nest.flatten(model(inputs)), expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_any_subset_of_the_modalities(model):
    inputs = tiny.batch()
    everything = model(inputs)
    alone = model({"text": inputs["text"][:, 0]})
    np.testing.assert_allclose(
        alone["vt"]["text"], np.asarray(everything["vt"]["text"])[:, 0], rtol=1e-4, atol=1e-5
    )
    assert alone["va"] == {}
    with pytest.raises(ValueError, match="modality must be one of"):
        model.tower("smell")


def test_variables_belong_to_towers_or_head(model):
    towers = {id(v) for v in model.tower_variables}
    head = {id(v) for v in model.head_variables}
    assert not towers & head
    assert towers | head == {id(v) for v in model.trainable_variables}
    assert all(v.path.startswith("vatt/head/") for v in model.head_variables)
    paths = [variable.path for variable in model.variables]
    assert len(paths) == len(set(paths))


def test_variable_paths_do_not_depend_on_the_model_number(model):
    again = build_vatt(model.config)
    assert [v.path for v in again.variables] == [v.path for v in model.variables]


def test_every_trainable_variable_gets_a_gradient(model):
    with tf.GradientTape() as tape:
        loss = weighted_sum(model(tiny.batch(), training=True))
    values = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, values), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.max(np.abs(np.asarray(tf.convert_to_tensor(gradient)))) > 0, variable.path


def test_checkpoint_and_weights_cover_every_variable(model, tmp_path):
    second, third = build_vatt(model.config), build_vatt(model.config)
    first = build_vatt(model.config)
    for seed, each in enumerate((first, second, third)):
        randomise(each.weights, seed)
    path = tf.train.Checkpoint(model=first).write(str(tmp_path / "ckpt"))
    tf.train.Checkpoint(model=second).read(path).assert_existing_objects_matched()
    first.save_weights(tmp_path / "model.weights.h5")
    third.load_weights(tmp_path / "model.weights.h5")
    for a, b, c in zip(first.weights, second.weights, third.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(c), err_msg=a.path)


def test_keras_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, VATT) and again.config == model.config
    for left, right in zip(
        tf.nest.flatten(model(tiny.batch())), tf.nest.flatten(again(tiny.batch())), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-6)


def test_training_pass_is_a_function_of_the_key(model):
    """Dropout and DropToken replay; the seeds' own state is not touched."""
    head = [np.asarray(v) for v in model.head.weights]
    states = [v for v in model.variables if "seed_generator" in v.path]
    before = [np.asarray(v) for v in states]

    @tf.function
    def step(key):
        with seed_scope(key):
            return model.encode(tiny.batch(), training=True)

    first, second = step(tf.constant([5, 0])), step(tf.constant([5, 0]))
    other = step(tf.constant([5, 1]))
    for modality in first:
        np.testing.assert_array_equal(first[modality], second[modality])
        assert not np.allclose(first[modality], other[modality]), modality
    assert states
    for variable, value in zip(states, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)
    for variable, value in zip(model.head.weights, head, strict=True):
        variable.assign(value)


def test_unknown_batch_and_number_of_texts(model):
    inputs = tiny.batch()
    signature = {
        "video": tf.TensorSpec([None, 4, 16, 24, 3], tf.uint8),
        "audio": tf.TensorSpec([None, 256, 1]),
        "text": tf.TensorSpec([None, None, 6], tf.int32),
    }
    graph = tf.function(lambda values: model(values), input_signature=[signature])
    pairs = zip(tf.nest.flatten(graph(inputs)), tf.nest.flatten(model(inputs)), strict=True)
    for left, right in pairs:
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    train = tf.function(
        lambda values: model.encode(values, training=True), input_signature=[signature]
    )
    assert train(inputs)["video"].shape == model.encode(inputs)["video"].shape


def test_linear_text_and_spectrogram_towers():
    config = tiny.specific(
        text=TextTowerConfig(**tiny.TEXT, kind="linear", d_model=20),
        audio=AudioTowerConfig(
            input="log_mel", mel_frames=8, mel_bins=6, patch=(4, 2), **tiny.SIZE
        ),
    )
    inputs = {**tiny.batch(), "audio": np.ones((3, 8, 6, 1), "float32")}
    model = build_vatt(config)
    assert model.encode(inputs)["text"].shape == (3, 2, 20)
    assert model(inputs)["va"]["audio"].shape == (3, 12)


def test_word_vectors():
    model = build_vatt(tiny.specific())
    vectors = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")
    model.set_word_vectors(vectors)
    np.testing.assert_array_equal(
        np.asarray(model.tower("text").word_embedding.embeddings), vectors
    )
    with pytest.raises(UserError, match=r"word vectors have shape \(32, 9\)"):
        model.set_word_vectors(vectors[:, :9])


def test_abstract_model_has_shapes_and_no_memory(model):
    abstract = abstract_vatt(model.config)
    assert [(v.path, tuple(v.shape), v.trainable) for v in abstract.weights] == [
        (v.path, tuple(v.shape), v.trainable) for v in model.weights
    ]
    assert parameter_counts(abstract) == parameter_counts(model)
    assert parameter_counts(model)["total"] == model.count_params()
    # Models made later are not touched by what was left unfinished.
    assert np.all(np.isfinite(build_vatt(model.config)(tiny.batch())["va"]["video"]))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("make", MAKERS.values())
def test_quantised_to_int8(make):
    """What reads a kernel in place of calling its layer reads an int8 one without its scale."""
    keras.utils.set_random_seed(0)
    model, inputs = build_vatt(make()), tiny.batch()

    def outputs():
        towers = {name: model.tower(name)(inputs[name]) for name in ("video", "audio")}
        return [*tf.nest.flatten(towers), *model.encode(inputs).values()]

    exact = outputs()
    model.quantize("int8")
    for left, right in zip(exact, outputs(), strict=True):
        left, right = np.ravel(left), np.ravel(right)
        assert left @ right > 0.995 * np.linalg.norm(left) * np.linalg.norm(right)
