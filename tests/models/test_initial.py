"""Classifiers that start from trained towers, and what a run file may change of them."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.models import tiny
from vatt_tf import config as gin_config
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.shards.index import DataSource
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.errors import UserError
from vatt_tf.layers.transformer.positions import interpolation_matrix
from vatt_tf.models import initial, io
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.settings import ClassifierSettings, MultimodalSettings
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import build_vatt

TINY = {"specific": tiny.specific(), "agnostic": tiny.agnostic()}
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "a")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Weights folders: a VATT of each kind, and a video classifier of each."""
    root = tmp_path_factory.mktemp("initial")
    for number, (kind, config) in enumerate(TINY.items()):
        model = build_vatt(config)
        randomise(model, number)
        tokenizer = WordTokenizer(WORDS, config.text.max_tokens)
        io.save_pretrained(str(root / kind), model, ClipSpec(), tokenizer)
        model = build_classifier(ClassifierSettings().resolve(2, str(root / kind)))
        randomise(model, 5 + number)
        labels = ["yes", "no"]
        io.save_pretrained(str(root / f"{kind}_video"), model, ClipSpec(), None, labels=labels)
    return root


@pytest.fixture
def bindings():
    """Parses gin bindings, forgotten at the end."""
    gin_config.import_configurables()
    yield lambda *lines: gin_config.parse([], lines)
    gin_config.clear()


def randomise(model, seed):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 0.5, weight.shape))


def features(model, modality):
    return np.asarray(model.towers[modality](tiny.batch(texts=1)[modality])["features_pooled"])


@pytest.mark.parametrize(
    ("kind", "modality"), [("specific", "video"), ("agnostic", "video"), ("agnostic", "audio")]
)
def test_a_tower_gives_the_features_of_the_model_that_it_comes_from(folders, kind, modality):
    folder = str(folders / kind)
    config = ClassifierSettings(modality=modality).resolve(3, folder)
    assert config.tower == TINY[kind].tower(modality) and config.num_classes == 3
    model = build_classifier(config)
    assert initial.load_initial_weights(model, folder, None) == []
    expected = features(io.load_model(folder), modality)
    np.testing.assert_array_equal(features(model, modality), expected)


def test_towers_of_a_multimodal_classifier(folders):
    folder = str(folders / "agnostic")
    settings = MultimodalSettings(modalities=["text", "video"])
    model = build_classifier(settings.resolve(3, folder))
    assert initial.load_initial_weights(model, folder, None) == []
    source, ids = io.load_model(folder), tiny.batch(texts=1)["text"][:, 0]
    for modality in ("video", "text"):
        inputs = ids if modality == "text" else tiny.batch()[modality]
        left = source.towers[modality](inputs)["features_pooled"]
        right = model.towers[modality](inputs)["features_pooled"]
        np.testing.assert_array_equal(left, right)
    assert initial.stored_tokenizer(folder).max_tokens == tiny.TEXT["max_tokens"]


def test_towers_of_several_folders(folders):
    sources = {"video": str(folders / "specific_video")}
    config = MultimodalSettings().resolve(2, {**sources, "audio": str(folders / "agnostic")})
    assert (config.video, config.audio) == (
        TINY["specific"].video,
        TINY["agnostic"].tower("audio"),
    )
    lines = initial.load_initial_weights(build_classifier(config), sources, ["yes", "no"])
    assert lines == [
        "the audio tower starts from random weights",
        f"{sources['video']}: head left out, it belongs to another kind of classifier",
    ]
    with pytest.raises(UserError, match="unknown modality sound"):
        MultimodalSettings().resolve(2, {"sound": "x"})


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["yes", "no"], "head kept"),
        (["no", "yes"], "head left out, its classes are not those of the data"),
        (None, "head left out, its classes are not those of the data"),
        (["a", "b", "c"], "head left out, it has 2 classes, the data 3"),
    ],
)
def test_the_head_goes_on_where_the_classes_are_the_same(folders, labels, line):
    folder = str(folders / "specific_video")
    model = build_classifier(ClassifierSettings().resolve(len(labels or "ab"), folder))
    before = np.asarray(model.head.dense.kernel)
    assert initial.load_initial_weights(model, folder, labels) == [f"{folder}: {line}"]
    source = io.load_model(folder)
    np.testing.assert_array_equal(features(model, "video"), features(source, "video"))
    expected = np.asarray(source.head.dense.kernel) if line == "head kept" else before
    np.testing.assert_array_equal(model.head.dense.kernel, expected)


def test_bound_fields_win_and_position_tables_are_interpolated(folders, bindings):
    bindings(
        "video_tower.frames = 6",
        "video_tower.drop_token_rate = 0.0",
        "video_tower.d_model = 999",
        "classifier.dropout_rate = 0.25",
    )
    folder = str(folders / "agnostic")
    config = ClassifierSettings().resolve(3, folder)
    stored = TINY["agnostic"].tower("video")
    assert config.tower == dataclasses.replace(stored, frames=6, drop_token_rate=0.0)
    assert config.dropout_rate == 0.25
    model = build_classifier(config)
    assert initial.load_initial_weights(model, folder, None) == [
        f"{folder}: not read: video_tower.d_model = 999 (the weights have 16)",
        f"{folder}: video/positions/temporal_embeddings interpolated",
    ]
    path = "positions/temporal_embeddings"
    stored = io.load_model(folder).towers["video"]
    (table,) = [np.asarray(w) for w in stored.weights if w.path.endswith(path)]
    found = {weight.path: weight for weight in model.tower.weights}[f"classifier/video/{path}"]
    np.testing.assert_allclose(found, interpolation_matrix(2, 3) @ table, rtol=1e-6)


def test_from_scratch_the_bindings_make_the_tower(bindings):
    bindings("audio_tower.size = 'tiny'", "audio_tower.samples = 1280")
    tower = ClassifierSettings(modality="audio").resolve(2).tower
    assert (tower.size, tower.samples, tower.patch) == ("tiny", 1280, 128)


def test_another_modality_is_refused(folders):
    folder = str(folders / "specific_video")
    message = "a classifier of video has no audio tower"
    settings = ClassifierSettings(modality="audio")
    with pytest.raises(UserError, match=message):
        settings.resolve(2, folder)
    model = build_classifier(
        ClassifierSettings(modality="audio").resolve(2, str(folders / "agnostic"))
    )
    with pytest.raises(UserError, match=message):
        initial.load_initial_weights(model, folder, None)


def test_a_tower_that_does_not_fit_changes_nothing(folders):
    """The agnostic tower has projections that the specific one lacks."""
    model = build_classifier(ClassifierSettings().resolve(2, str(folders / "agnostic")))
    before = features(model, "video")
    with pytest.raises(UserError, match=r"specific \(video tower\): does not fit .*pre_projection"):
        initial.load_initial_weights(model, str(folders / "specific"), None)
    np.testing.assert_array_equal(features(model, "video"), before)


@pytest.mark.parametrize(
    ("settings", "classes", "message"),
    [
        (ClassifierSettings(num_classes=4), 3, "num_classes = 4: expected the 3 classes"),
        (ClassifierSettings(), None, "the data do not name their classes"),
        (MultimodalSettings(num_classes=4), 3, "multimodal_classifier.num_classes = 4"),
    ],
)
def test_number_of_classes(settings, classes, message):
    with pytest.raises(UserError, match=message):
        settings.resolve(classes)


def test_wrong_settings():
    with pytest.raises(UserError, match="classifier.modality = 'text'"):
        ClassifierSettings(modality="text")
    for modalities in ("video", ["video", "video"], ["video", "smell"]):
        with pytest.raises(UserError, match="multimodal_classifier.modalities"):
            MultimodalSettings(modalities=modalities)


def test_a_model_of_an_unknown_kind(folders, tmp_path):
    content = json.loads((folders / "specific/model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**content, "kind": "poem"}))
    with pytest.raises(UserError, match="of kind 'poem'; this version reads vatt, classifier"):
        initial.stored_tower(str(tmp_path), "video")
    assert isinstance(io.read_config(str(folders / "agnostic")), VattConfig)


@pytest.fixture(scope="module")
def at_rates(tmp_path_factory):
    """Folders with a description only: a model trained at 5 frames and 16,000 samples a second."""
    root = tmp_path_factory.mktemp("rates")
    config = TINY["specific"]
    for name, frame_rate in (("slow", 5.0), ("fast", 25.0)):
        (root / name).mkdir()
        io.save_description(str(root / name), config, config.clip(frame_rate, 16_000), None)
    classifier = ClassifierSettings().resolve(2, str(root / "slow"))
    (root / "video").mkdir()
    io.save_description(str(root / "video"), classifier, classifier.clip(3.0), None)
    return root


def test_options_that_are_not_bound_are_those_of_the_weights(at_rates):
    def options(weights, **bound):
        found = initial.clip_options(weights, bound)
        return tuple(found.get(name) for name in ("frame_rate", "sample_rate"))

    slow, fast, video = (str(at_rates / name) for name in ("slow", "fast", "video"))
    assert options(None) == (None, None)
    assert options(slow) == (5.0, 16_000)
    assert options(slow, frame_rate=12.5) == (12.5, 16_000)
    assert options({"video": fast, "audio": slow}) == (25.0, 16_000)
    # A classifier of videos was trained at no sample rate, weights of sounds at no frame rate.
    assert options(video) == (3.0, None)
    assert options({"audio": slow}) == (None, 16_000)
    assert initial.clip_options(slow, {})["audio_resampling"] == "filtered"
    # Weights that do not say it are older than the option.
    before = shutil.copytree(slow, at_rates / "before")
    description = json.loads((before / "model.json").read_text())
    del description["clip"]["audio_resampling"]
    (before / "model.json").write_text(json.dumps(description))
    assert initial.clip_options(str(before), {})["audio_resampling"] == "strided"
    # Its shards had the rate of its clips: no sample was left out.
    data = {"train": [{"path": "x", "identity": {"settings": {"sample_rate": 16_000}}}]}
    (before / "data.json").write_text(json.dumps(data))
    best = shutil.copytree(before, before / "best", ignore=lambda *_: ["data.json", "best"])
    for folder in (before, best):
        assert io.read_description(str(folder))["clip"]["audio_resampling"] == "filtered"
    data["train"].append({"path": "y", "identity": {"settings": {"sample_rate": 48_000}}})
    (before / "data.json").write_text(json.dumps(data))
    assert io.read_description(str(before))["clip"]["audio_resampling"] == "strided"


def test_bound_options_that_differ_are_named(at_rates):
    slow = str(at_rates / "slow")
    clip = TINY["specific"].clip
    assert initial.changed_options(slow, clip(5.0, 16_000), "finetune") == []
    other = dataclasses.replace(clip(12.5, 24_000), audio_resampling="strided")
    frames, samples, resampling = initial.changed_options(slow, other, "finetune")
    assert frames.endswith("trained at frame_rate 5; finetune.frame_rate = 12.5 is bound and taken")
    assert "trained at sample_rate 16000; finetune.sample_rate = 24000" in samples
    assert "audio_resampling 'filtered'; finetune.audio_resampling = 'strided'" in resampling
    silent = dataclasses.replace(other, frame_rate=5.0, audio="none")
    assert initial.changed_options(slow, silent, "finetune") == []


def test_a_run_reads_at_the_rates_of_its_weights(at_rates, bindings):
    from vatt_tf.training.tasks.finetune_config import FinetuneConfig
    from vatt_tf.training.tasks.run_data import StartedRun, run_clip

    bindings("finetune.steps = 1", f"finetune.initial_weights = '{at_rates}/slow'")
    data = DataSource("x")
    run = FinetuneConfig(model=ClassifierSettings(num_classes=2), data=data)
    assert run.clip.frame_rate == 5.0
    # A run that was started by a version that took the defaults keeps them.
    # Sound included: it was strided.
    started = StartedRun("run", {"clip": {"frame_rate": 10.0, "sample_rate": 48_000}})

    def options(**bound):
        found = run_clip(dataclasses.replace(run, **bound), started)
        return found.frame_rate, found.sample_rate, found.audio_resampling

    assert options() == (10.0, 48_000, "strided")
    assert options(frame_rate=8.0, audio_resampling="filtered") == (8.0, 48_000, "filtered")
