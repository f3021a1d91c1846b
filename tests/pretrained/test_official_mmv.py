"""From files of the form of MMV's release to our model, and what can go wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle

import numpy as np
import pytest

from tests.pretrained import mmv_file
from tests.pretrained.mmv_file import NORM, ROOT
from tests.pretrained.mmv_forward import Reference
from vatt_tf import convert as command
from vatt_tf.encoders.audio_resnet import AudioResNetTowerConfig, SpectrogramResNetEncoder
from vatt_tf.encoders.s3d import S3DGEncoder, S3DTowerConfig
from vatt_tf.encoders.text import LinearTextEncoder, TextTowerConfig
from vatt_tf.encoders.tsm_resnet import TSMResNetEncoder, TSMResNetTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.heads.mmv import MMVFACHead
from vatt_tf.models import io
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import abstract_vatt
from vatt_tf.pretrained import official_mmv, recognise_mmv
from vatt_tf.pretrained import official_mmv_names as names
from vatt_tf.pretrained.mmv_source import MMVSource, is_mmv_file

NETS = sorted(mmv_file.RELEASED)
BLOCKS = mmv_file.small(NETS[0]).blocks


@pytest.fixture(scope="module")
def values() -> dict:
    return {name: mmv_file.values_of(mmv_file.small(name)) for name in NETS}


@pytest.fixture(scope="module")
def files(tmp_path_factory, values) -> dict[str, str]:
    """A small file of each net."""
    folder = tmp_path_factory.mktemp("mmv")
    return {
        name: mmv_file.write(str(folder / f"{name}.pkl"), values[name], "dill") for name in NETS
    }


@pytest.fixture
def changed(values, tmp_path):
    """A file with arrays replaced: (part, module, name) -> function of the value, or None."""

    def run(changes: dict, net: str = "mmv_s3d", **beside) -> MMVSource:
        copied = {
            part: {module: dict(arrays) for module, arrays in modules.items()}
            for part, modules in values[net].items()
        }
        for (part, module, name), change in changes.items():
            arrays = copied[part].setdefault(f"{ROOT}/{module}", {})
            if change is None:
                del arrays[name]
            else:
                arrays[name] = change(arrays.get(name))
        return MMVSource(mmv_file.write(str(tmp_path / "changed.pkl"), {**copied, **beside}))

    return run


def norms(net: str) -> int:
    """Moving averages of a small net."""
    return len(mmv_file.shapes_of(mmv_file.small(net))["state"])


def inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "video": random.uniform(-1, 1, (2, 6, 36, 44, 3)).astype(np.float32),
        "audio": random.uniform(0, 1, (2, 41, 20, 1)).astype(np.float32),
        "text": random.integers(0, 11, (2, 5)).astype(np.int32),
    }


# --- Names ---


def released(name: str) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes of a released file by name, and the names by path of our variable; no values."""
    flat = {
        f"{module}/{key}".removeprefix(f"{ROOT}/"): shape
        for modules in mmv_file.shapes_of(mmv_file.RELEASED[name]).values()
        for module, arrays in modules.items()
        for key, shape in arrays.items()
    }
    found = recognise_mmv.recognise_mmv(flat, name)
    assert f"({name})" in found.describe()
    model = abstract_vatt(found.config)
    keys: dict[str, str] = {}
    for layer in (*model.towers.values(), model.head):
        keys |= official_mmv.map_layer(layer)
    for variable in model.weights:
        shape = flat[keys[variable.path]]
        assert [n for n in shape if n > 1] == [n for n in variable.shape if n > 1]
    assert len(keys) == len(set(keys.values())) == len(model.weights)
    return flat, keys


@pytest.mark.parametrize(
    "name, modules, variables, features",
    [
        ("mmv_s3d", (303, 256), 727, 1024),
        ("mmv_tsm_resnet_x1", (216, 202), 522, 2048),
        ("mmv_tsm_resnet_x2", (216, 202), 522, 4096),
    ],
)
def test_released_sizes_map_one_to_one(name, modules, variables, features):
    shapes = mmv_file.shapes_of(mmv_file.RELEASED[name])
    assert (len(shapes["params"]), len(shapes["state"])) == modules
    flat, keys = released(name)
    assert set(keys.values()) == {
        key for key in flat if not any(part in key for part in names.LEFT_OUT)
    }
    assert len(keys) == variables
    assert flat["vid2audio_embd/final_projection_inner/w"] == (features, 512)


def test_some_names():
    """Written down by hand: where values end that could be mistaken for each other."""
    _, keys = released("mmv_s3d")
    for ours, theirs in {
        "video/conv_1a/norm/moving_mean": f"S3D/Conv2d_1a_7x7/{NORM}/~/mean_ema/average",
        "video/conv_2c/temporal/kernel": "S3D/Conv2d_2c_3x3/~/conv3_d_1/w",
        "video/conv_2c/temporal_norm/gamma": f"S3D/Conv2d_2c_3x3/{NORM}_1/scale",
        "video/mixed_4f/branch_2_conv_0b/spatial_norm/beta": (
            f"S3D/Mixed_4f/Branch_2_Conv2d_0b_3x3/{NORM}/offset"
        ),
        "video/mixed_5c/branch_3_conv_0b/gating/bias": (
            "S3D/Mixed_5c/Branch_3_Conv2d_0b_1x1/self_gating/b"
        ),
    }.items():
        assert keys[f"vatt/{ours}"] == f"visual_module/~/{theirs}"
    audio = "audio_module/~/res_net_v2"
    for ours, theirs in {
        "audio/stem/kernel": f"{audio}/~/initial_conv/w",
        "audio/unit_2_block_5/norm_0/gamma": f"{audio}/~/block_group_2/block_5/{NORM}/scale",
        "audio/unit_3_block_0/norm_2/moving_variance": (
            f"{audio}/~/block_group_3/block_0/{NORM}_2/~/var_ema/average"
        ),
        "audio/unit_3_block_0/shortcut_conv/kernel": (
            f"{audio}/~/block_group_3/block_0/~/shortcut_conv/w"
        ),
        "audio/norm/beta": f"{audio}/{NORM}/offset",
        "text/word_embedding/embeddings": "text_module/~/embed/embeddings",
        "text/projection/kernel": "text_module/~/text_conv1/w",
        "head/video_to_va/hidden/bias": "vid2audio_embd/final_projection_inner/b",
        "head/video_to_va/norm/gamma": f"vid2audio_embd/{NORM}_1/scale",
        "head/va_to_vat/projection/bias": "vis_embd/final_projection/b",
        "head/audio_to_va/kernel": "audio_embd/final_projection/w",
        "head/text_to_vat/kernel": "txt_embd/final_projection/w",
    }.items():
        assert keys[f"vatt/{ours}"] == theirs
    _, keys = released("mmv_tsm_resnet_x2")
    tsm = "visual_module/~/TSMResNetV2"
    assert keys["vatt/video/stem/kernel"] == f"{tsm}/tsm_resnet_stem/w"
    assert keys["vatt/video/unit_1_block_3/conv_1/kernel"] == (
        f"{tsm}/tsm_resnet_unit_1/block_3/conv_1/w"
    )
    assert keys["vatt/video/unit_0_block_1/norm_1/gamma"] == (
        f"{tsm}/tsm_resnet_unit_0/block_1/{NORM}_1/scale"
    )


# --- Numbers ---


def values_of(layer, source):
    """Path of each variable of a layer -> its value in a released file."""
    shapes = {variable.path: variable.shape for variable in layer.weights}
    return {
        path: source.read(name).reshape(shapes[path]).astype(np.float32)
        for path, name in official_mmv.map_layer(layer).items()
    }


@pytest.mark.parametrize(
    "net, encoder",
    [
        ("mmv_s3d", S3DGEncoder(S3DTowerConfig(width=1 / 8), dtype="float64", name="video")),
        (
            "mmv_tsm_resnet_x1",
            TSMResNetEncoder(
                TSMResNetTowerConfig(width=1 / 8, blocks=BLOCKS), dtype="float64", name="video"
            ),
        ),
        (
            "mmv_tsm_resnet_x2",
            TSMResNetEncoder(
                TSMResNetTowerConfig(width=1 / 4, blocks=BLOCKS), dtype="float64", name="video"
            ),
        ),
        (
            "mmv_s3d",
            SpectrogramResNetEncoder(
                AudioResNetTowerConfig(width=1 / 8, blocks=BLOCKS), dtype="float64", name="audio"
            ),
        ),
        (
            "mmv_s3d",
            LinearTextEncoder(
                TextTowerConfig(kind="linear", vocab_size=11, embedding_dim=6, d_model=12),
                dtype="float64",
                name="text",
            ),
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_towers_compute_what_the_released_modules_do(net, encoder, files, values):
    """A single tower, built and filled on its own, in float64."""
    given = inputs()[encoder.name]
    encoder.build((None, *given.shape[1:]))
    filled = values_of(encoder, MMVSource(files[net]))
    assert set(filled) == {variable.path for variable in encoder.weights}
    for variable in encoder.weights:
        assert filled[variable.path].dtype == np.float32
        variable.assign(filled[variable.path])
    found = encoder(given if encoder.name == "text" else given.astype(np.float64))
    reference = Reference(values[net])
    if encoder.name == "text":
        expected = reference.text(given)
    else:
        method = {"video": reference.s3d if "s3d" in net else reference.tsm}
        method["audio"] = reference.audio
        pixels = given.astype(np.float64) * 0.5 + 0.5 if encoder.name == "video" else given
        features = method[encoder.name](pixels)
        scale = np.abs(features).max()
        difference = np.asarray(found["features"]) - features
        # Gates average in float32, and pixels come as float32.
        assert np.abs(difference).max() < 3e-6 * scale
        expected = features.mean(axis=tuple(range(1, features.ndim - 1)))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(
        np.asarray(found["features_pooled"]), expected, rtol=0, atol=3e-6 * np.abs(expected).max()
    )


def test_head_computes_what_the_released_modules_do(files, values):
    random = np.random.default_rng(3)
    widths = {"video": 128, "audio": 256, "text": 12}
    head = MMVFACHead(16, 8, dtype="float64", name="head")
    head.build({name: (None, width) for name, width in widths.items()})
    filled = values_of(head, MMVSource(files["mmv_s3d"]))
    for variable in head.weights:
        variable.assign(filled[variable.path])
    features = {name: random.normal(size=(3, width)) for name, width in widths.items()}
    found, expected = head(features), Reference(values["mmv_s3d"]).spaces(**features)
    assert {space: set(parts) for space, parts in found.items()} == {
        "va": {"video", "audio"},
        "vat": {"video", "audio", "text"},
    }
    for space, parts in expected.items():
        for name, value in parts.items():
            np.testing.assert_allclose(np.asarray(found[space][name]), value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("net", NETS)
def test_models_compute_what_the_released_nets_do(net, files, values):
    """The whole model in float32."""
    model = official_mmv.convert_mmv(MMVSource(files[net])).model
    given, reference = inputs(), Reference(values[net])
    found = model(given)
    video = (reference.s3d if net == "mmv_s3d" else reference.tsm)(given["video"] * 0.5 + 0.5)
    expected = reference.spaces(
        video.mean(axis=(1, 2, 3)), reference.audio(given["audio"]).mean(axis=(1, 2)),
        reference.text(given["text"]),
    )  # fmt: skip
    for space, parts in expected.items():
        for name, value in parts.items():
            atol = 2e-4 * np.abs(value).max()
            np.testing.assert_allclose(np.asarray(found[space][name]), value, rtol=0, atol=atol)


def test_input_without_space_to_depth(tmp_path):
    net = dataclasses.replace(mmv_file.small("mmv_s3d"), depth=3)
    made = mmv_file.values_of(net)
    source = MMVSource(mmv_file.write(str(tmp_path / "plain.pkl"), made))
    model = official_mmv.convert_mmv(source).model
    assert model.config.video.space_to_depth is False
    video = inputs()["video"]
    expected = Reference(made).s3d(video * 0.5 + 0.5).mean(axis=(1, 2, 3))
    found = np.asarray(model.encode({"video": video})["video"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * np.abs(expected).max())


# --- Files ---


@pytest.mark.parametrize("form", ["plain", "haiku", "dill"])
def test_every_form_of_a_file(form, values, tmp_path):
    path = mmv_file.write(str(tmp_path / "net.pkl"), values["mmv_tsm_resnet_x1"], form)
    source = MMVSource(path)
    for part, modules in values["mmv_tsm_resnet_x1"].items():
        for module, arrays in modules.items():
            for name, value in arrays.items():
                key = f"{module}/{name}".removeprefix(f"{ROOT}/")
                assert source.shapes[key] == value.shape, part
                if "counter" not in key:
                    np.testing.assert_array_equal(source.read(key), value)
    assert source.step() == mmv_file.COUNTER


def test_another_name_of_the_model(values, tmp_path):
    renamed = {
        part: {module.replace(ROOT, "audio_text_video_model"): v for module, v in modules.items()}
        for part, modules in values["mmv_s3d"].items()
    }
    found = official_mmv.convert_mmv(MMVSource(mmv_file.write(str(tmp_path / "x.pkl"), renamed)))
    assert len(found.variables) == len(found.model.weights)


def test_what_is_left_out_has_a_reason(changed):
    found = official_mmv.convert_mmv(changed({}, "mmv_tsm_resnet_x1", global_step=3))
    used = {key for entry in found.variables for key in entry.keys}
    assert not used & set(found.left_out)
    assert found.left_out["global_step"] == "beside the weights"
    assert found.left_out["txt2audio_embd/final_projection/w"].startswith("compares audio and text")
    assert found.left_out[f"vis_embd/{NORM}/~/var_ema/hidden"].startswith("sum that")
    assert len(found.left_out) == 1 + 4 + 2 * norms("mmv_tsm_resnet_x1")


def test_heads_that_nothing_trained_may_be_missing(changed):
    module = "audio2txt_embd/final_projection"
    source = changed({("params", module, "w"): None, ("params", module, "b"): None})
    assert len(official_mmv.convert_mmv(source).left_out) == 2 + 2 * norms("mmv_s3d")


def test_files_that_do_not_fit(changed):
    s3d = "visual_module/~/S3D"

    def failing(match: str, changes: dict, config: VattConfig | None = None, **beside) -> None:
        with pytest.raises(UserError, match=match) as caught:
            official_mmv.convert_mmv(changed(changes, **beside), config)
        assert "changed.pkl" in str(caught.value)

    def put(value):
        return lambda old: value

    def first(value):
        def change(old):
            new = old.copy()
            new.flat[0] = value
            return new

        return change

    conv = ("params", f"{s3d}/Mixed_3b/Branch_0_Conv2d_0a_1x1/~/conv3_d", "w")
    failing(r"not in the file: visual_module/~/S3D/Mixed_3b/Branch_0\S+/conv3_d/w;", {conv: None})
    failing(r"of another shape: \S+conv3_d/w \(1, 1, 1, 24\)", {conv: lambda old: old[..., 0]})
    failing(r"of another shape: \S+conv3_d/w", {conv: lambda old: np.swapaxes(old, -1, 0)})
    failing("unknown: other/w;", {("params", "other", "w"): put(np.zeros(3, np.float32))})
    failing(
        r"unknown: \S+/Mixed_3b/extra/w;",
        {("params", f"{s3d}/Mixed_3b/extra", "w"): put(np.zeros(3, np.float32))},
    )
    failing(r"conv3_d/w holds 1 value of 192 that are NaN", {conv: first(np.nan)})
    failing(r"conv3_d/w is int32, expected floating", {conv: lambda old: old.astype(np.int32)})
    module = f"vis_embd/{NORM}/~/var_ema"
    failing("negative variances", {("state", module, "average"): first(-0.1)})
    failing("vis_embd.*counter is 0: never", {("state", module, "counter"): put(np.int32(0))})
    stem = ("params", f"{s3d}/Conv2d_1a_7x7/~/conv3_d", "w")
    failing("conv3_d/w is not in the file", {stem: None})
    failing("too few axes", {stem: put(np.zeros(3, np.float32))})
    failing("s3d_tower.width", {stem: put(np.zeros((2, 4, 4, 24, 6400), np.float32))})
    failing("no array, or there twice", {conv: put("text")})
    failing("no array, or there twice", {conv: put({"w": np.zeros(3)})})


def test_files_of_other_things(tmp_path):
    path = tmp_path / "changed.pkl"
    array = np.zeros(3, np.float32)
    for content, match in (
        ([1, 2], "expected 'params' and 'state' as in MMV's files, got no dict"),
        ({"word_embeddings": array}, r"got the entries \['word_embeddings'\]"),
        ({"params": {}, "state": {}}, "none of MMV's released nets; .* called nothing"),
        ({"params": {"mlp/~/linear_0": {"w": array}}, "state": {}}, "called mlp/~/linear_0/w"),
        ({"params": [array], "state": {}}, "'params' is a list"),
        ({"params": {"mlp": array}, "state": {}}, "mlp: no dict of arrays"),
        ({"params": {"a": {"w": array}}, "state": {"a": {"w": array}}}, "there twice"),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=match):
            MMVSource(str(path))


def test_given_configuration(files):
    source = MMVSource(files["mmv_s3d"])
    found = recognise_mmv.recognise_mmv(source.shapes, source.prefix).config
    larger = dataclasses.replace(
        found, video=dataclasses.replace(found.video, image_size=(224, 224), frames=16)
    )
    model = official_mmv.convert_mmv(source, larger).model
    assert model.config.clip().height == 224 and model.config.clip().frames == 16
    for config, match in (
        (VattConfig(), r"vatt.video is '@video_tower\(\)' in the configuration, '@s3d_tower\(\)'"),
        (VattConfig(), r"common_space.kind is 'fac' in the configuration, 'mmv_fac'"),
        (VattConfig(video=S3DTowerConfig()), "s3d_tower.width is 1.0 .* 0.125 in the file"),
        (
            dataclasses.replace(found, video=dataclasses.replace(found.video, deflated=True)),
            "s3d_tower.deflated is True",
        ),
        (dataclasses.replace(found, modalities=("video", "text")), "vatt.modalities"),
    ):
        with pytest.raises(UserError, match=match):
            official_mmv.convert_mmv(source, config)


def test_which_files_are_tried(tmp_path):
    content = pickle.dumps([1])
    for name, expected in (
        ("mmv_s3d.pkl", True),
        ("weights", True),
        ("ckpt-7.index", False),
        ("ckpt-7.data-00000-of-00001", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_mmv_file(str(tmp_path / name)) is expected
    (tmp_path / "text.pkl").write_text("text")
    (tmp_path / "text").write_text("text")
    assert is_mmv_file(str(tmp_path / "text.pkl")) and not is_mmv_file(str(tmp_path / "text"))
    assert not is_mmv_file(str(tmp_path)) and not is_mmv_file(str(tmp_path / "none.pkl"))


# --- The command ---


@pytest.mark.parametrize("net", ["mmv_s3d", "mmv_tsm_resnet_x1"])
def test_command(net, files, tmp_path, capsys):
    out = str(tmp_path / "weights")
    words = tmp_path / "words.txt"
    words.write_text("<pad>\n<bos>\n<eos>\n<unk>\na\nthe\ntwo\nwords\nto\nread\nhere\n")
    converted = command.convert(files[net], out, vocabulary=str(words))
    assert sorted(os.listdir(out)) == [
        "model.json", "model.weights.h5", "provenance.json", "tokenizer",
    ]  # fmt: skip
    model, clip, tokenizer = io.load_pretrained(out)
    assert (clip.frames, clip.height, clip.width, clip.audio) == (32, 200, 200, "log_mel")
    assert tokenizer.kind == "content_words"
    given = inputs()
    before, after = converted.model(given), model(given)
    for space, parts in before.items():
        for name, value in parts.items():
            np.testing.assert_array_equal(np.asarray(after[space][name]), np.asarray(value))
    record = json.loads((tmp_path / "weights" / "provenance.json").read_text())
    printed = capsys.readouterr().out
    for text in (record["licence"], printed):
        assert "CC BY-NC 4.0" in text and "non-commercial" in text and "Apache-2.0" in text
    told = {key for entry in record["variables"] for key in entry["from"]} | set(record["left_out"])
    assert told == set(MMVSource(files[net]).shapes)
    assert all(entry["ours"] in printed for entry in record["variables"])
    assert "left out: 4 (compares audio and text" in printed
    assert record["step"] == mmv_file.COUNTER and record["source"] == f"{net}.pkl"
    assert len(record["files"][f"{net}.pkl"]["sha256"]) == 64


def test_command_leaves_nothing_behind(values, files, tmp_path):
    out = tmp_path / "weights"
    marker = tmp_path / "it_ran"

    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps({**values["mmv_s3d"], "more": Runs()}))
    with pytest.raises(UserError, match=r"bad.pkl: .* asks for posix.system"):
        command.convert(str(bad), str(out), quiet=True)
    with open(files["mmv_s3d"], "rb") as file:
        bad.write_bytes(file.read(100_000))
    with pytest.raises(UserError, match="bad.pkl: .* cut off"):
        command.convert(str(bad), str(out), quiet=True)
    with pytest.raises(UserError, match="--labels: the checkpoint is no classifier"):
        command.convert(files["mmv_s3d"], str(out), labels=str(bad), quiet=True)
    assert sorted(os.listdir(tmp_path)) == ["bad.pkl"]


def test_command_line(tmp_path, capsys):
    path = tmp_path / "net.pkl"
    path.write_bytes(b"PK\x03\x04")
    assert command.main([f"--checkpoint={path}", f"--out={tmp_path / 'weights'}"]) == 2
    error = capsys.readouterr().err
    assert "net.pkl: not a readable pickle of arrays: it is a zip archive" in error
    assert "Traceback" not in error
