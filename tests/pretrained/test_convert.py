"""From a checkpoint in the released code's format to a folder of ours, and what can go wrong."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.pretrained import official
from vatt_tf import convert as command
from vatt_tf.errors import UserError
from vatt_tf.layers.transformer.positions import interpolation_matrix
from vatt_tf.models import io
from vatt_tf.pretrained.official_vatt import convert_official
from vatt_tf.pretrained.source import SourceCheckpoint, find_prefix

GOLDEN = official.FOLDER / "golden.npz"
NAMES = sorted(official.CONFIG_OF)


def outputs_of(model) -> dict[str, np.ndarray]:
    """What a model says about the common batch."""
    config = model.config
    if hasattr(config, "text"):
        spaces = model(official.inputs_of(config))
        return {f"{s}/{m}": np.asarray(v) for s, parts in spaces.items() for m, v in parts.items()}
    random = np.random.default_rng(1)
    batch = random.uniform(-1, 1, (2, *config.tower.input_shape)).astype(np.float32)
    return {"logits": np.asarray(model({config.modality: batch})["logits"])}


def damaged(prefix: str, folder: pathlib.Path, **changes) -> str:
    """A copy of a checkpoint with other values: key -> array, or None to leave it out."""
    name = pathlib.Path(prefix).parent.name
    values = official.values_of(name)
    for part, value in changes.items():
        key = next(key for key in values if part in key)
        if value is None:
            del values[key]
        else:
            values[key] = value(values[key])
    return official.write(str(folder / "ckpt-7"), values)


@pytest.mark.parametrize("name", NAMES)
def test_conversion_gives_the_recorded_outputs(name, checkpoints, read_config, tmp_path):
    """The golden outputs come from an importer that met the released code's own to 1e-5."""
    converted = convert_official(
        SourceCheckpoint(checkpoints[name]), read_config(official.CONFIG_OF[name])
    )
    golden = np.load(GOLDEN)
    for key, value in outputs_of(converted.model).items():
        np.testing.assert_allclose(value, golden[f"{name}/{key}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["tx_fac", "vit_finetune"])
def test_written_folder_loads_with_the_same_outputs(name, checkpoints, tmp_path, capsys):
    gin_file = str(official.CONFIGS / official.CONFIG_OF[name])
    out = str(tmp_path / "weights")
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(7)))
    from vatt_tf import config

    config.clear()
    given = str(labels) if name == "vit_finetune" else None
    converted = command.convert(checkpoints[name], out, gin_files=[gin_file], labels=given)
    config.clear()
    if name == "tx_fac":
        model, clip, tokenizer = io.load_pretrained(out)
        assert (clip.frames, clip.height, clip.width, clip.samples) == (4, 16, 24, 2560)
        assert clip.audio_resampling == "strided"  # as the released code reads sound
        assert tokenizer is None
    else:
        loaded = io.load_classifier(out)
        model = loaded.model
        assert loaded.labels[3] == "class 3"
    for key, value in outputs_of(converted.model).items():
        np.testing.assert_array_equal(outputs_of(model)[key], value)

    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "weights" / "provenance.json").read_text())
    manifest = official.read_manifest(official.FOLDER / "manifests" / f"{name}.tsv")
    told = {key for entry in record["variables"] for key in entry["from"]} | set(record["left_out"])
    assert {key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for key in manifest} == told
    for entry in record["variables"]:
        assert entry["ours"] in printed and all(key in printed for key in entry["from"])
    assert "left out: " in printed and "(optimizer state)" in printed
    assert record["step"] == 7 and len(record["files"]) == 2
    assert len(record["files"]["ckpt-7.index"]["sha256"]) == 64


def test_every_way_to_name_a_checkpoint(checkpoints, tmp_path):
    prefix = checkpoints["wat_finetune"]
    folder = os.path.dirname(prefix)
    for path in (prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00001", folder):
        assert find_prefix(path) == prefix
    for number in (1, 2):
        for suffix in (".index", ".data-00000-of-00001"):
            shutil.copy(prefix + suffix, tmp_path / f"ckpt-{number}{suffix}")
    with pytest.raises(UserError, match=r"several checkpoints \(ckpt-1, ckpt-2\)"):
        find_prefix(str(tmp_path))
    # As a file from another machine: with a path that does not exist here.
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/cns/vatt/ckpt-2"\n')
    assert find_prefix(str(tmp_path)) == str(tmp_path / "ckpt-2")
    with pytest.raises(UserError, match=r"ckpt-3.index is not there; its folder holds ckpt-1"):
        find_prefix(str(tmp_path / "ckpt-3"))
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_prefix(str(official.CONFIGS))


@pytest.mark.parametrize("name", ["ck [7]", "c\\7", "caf\udce9"])
def test_a_checkpoint_whose_name_is_odd(name, checkpoints, tmp_path):
    """TensorFlow takes such names for patterns, or cannot write them as UTF-8."""
    source = pathlib.Path(checkpoints["wat_finetune"]).parent
    folder = shutil.copytree(source, tmp_path / name)
    for file in folder.glob("ckpt-7.*"):
        file.rename(folder / file.name.replace("ckpt", "ck[p]t"))
    (folder / "checkpoint").unlink(missing_ok=True)
    prefix = f"{folder}/ck[p]t-7"
    assert find_prefix(str(folder)) == find_prefix(f"{prefix}.index") == prefix
    found, expected = SourceCheckpoint(prefix), SourceCheckpoint(checkpoints["wat_finetune"])
    assert found.shapes == expected.shapes and found.step() == 7
    assert [os.path.basename(file) for file in found.files][0] == "ck[p]t-7.index"
    key = next(key for key in found.shapes if key.startswith("model/"))
    np.testing.assert_array_equal(found.read(key), expected.read(key))
    with pytest.raises(UserError, match=r"its folder holds ck\[p\]t-7.index"):
        find_prefix(f"{folder}/other")


def test_another_input_size_interpolates_the_positions(checkpoints, read_config):
    source = SourceCheckpoint(checkpoints["tx_fac"])
    same = convert_official(source, read_config("tx_fac.gin")).model
    large = convert_official(
        source,
        read_config(
            "tx_fac.gin", "video_tower.image_size = (40, 24)", "audio_tower.samples = 5120"
        ),
    )
    tables = {v.path: np.asarray(v) for v in large.model.weights if "positions" in v.path}
    before = {v.path: np.asarray(v) for v in same.weights if "positions" in v.path}
    for path, rows in (
        ("vatt/video/positions/vertical_embeddings", 5),
        ("vatt/audio/positions/temporal_embeddings", 40),
    ):
        expected = interpolation_matrix(len(before[path]), rows) @ before[path].astype(np.float64)
        np.testing.assert_allclose(tables[path], expected, atol=1e-6)
    path = "vatt/video/positions/horizontal_embeddings"
    np.testing.assert_array_equal(tables[path], before[path])
    told = {entry.path: entry.source_rows for entry in large.variables if entry.source_rows}
    assert told == {
        "vatt/video/positions/vertical_embeddings": 2,
        "vatt/audio/positions/temporal_embeddings": 20,
    }


@pytest.mark.parametrize(
    "binding, message",
    [
        ("video_tower.num_layers = 3", r"num_layers is 3 in the configuration, 2 in the check"),
        ("audio_tower.patch = 64", r"audio_tower.patch is 64 .* 128 in the checkpoint"),
        ("common_space.va_dim = 512", r"common_space.va_dim is 512"),
        ("text_tower.vocab_size = 65536", r"text_tower.vocab_size is 65536"),
        ("audio_tower.input = 'log_mel'", r"audio_tower.input is 'log_mel'"),
        ("vatt.kind = 'agnostic'", "not read when vatt.kind"),
    ],
)
def test_wrong_configuration(binding, message, checkpoints, read_config):
    bindings = [binding] if "log_mel" not in binding else [binding, "audio_tower.patch = (16, 5)"]
    with pytest.raises(UserError, match=message):
        convert_official(
            SourceCheckpoint(checkpoints["tx_fac"]), read_config("tx_fac.gin", *bindings)
        )


def test_agnostic_configuration_for_a_specific_checkpoint(checkpoints, read_config):
    with pytest.raises(UserError, match="vatt.kind is 'agnostic' in the configuration"):
        convert_official(SourceCheckpoint(checkpoints["tx_fac"]), read_config("ut_fac.gin"))
    with pytest.raises(UserError, match="pre_projection is True .* False in the checkpoint"):
        convert_official(SourceCheckpoint(checkpoints["vit_finetune"]), read_config("ut_fac.gin"))


def test_damaged_checkpoints(checkpoints, read_config, tmp_path):
    config, prefix = read_config("tx_fac.gin"), checkpoints["tx_fac"]

    def failing(match: str, source: str) -> None:
        with pytest.raises(UserError, match=match):
            convert_official(SourceCheckpoint(source), config)

    def with_nan(value):
        value = value.copy()
        value.flat[3] = np.nan
        return value

    bad = damaged(prefix, tmp_path, **{"aud_backbone/_base/tx/layers/1/mha/v/kernel": with_nan})
    failing(r"layers/1/mha/v/kernel holds 1 value of 256 that are NaN", bad)
    bad = damaged(prefix, tmp_path, **{"txt_backbone/pre_proj/kernel": None})
    failing(r"variable .*txt_backbone/pre_proj/kernel is not in the checkpoint", bad)
    bad = damaged(prefix, tmp_path, **{"hid_to_va/bn/beta": None})
    failing(r"not in the checkpoint: .*hid_to_va/bn/beta", bad)
    bad = damaged(prefix, tmp_path, **{"aud_to_va/bias": lambda value: value[:5]})
    failing(r"of another shape: .*aud_to_va/bias \(5,\)", bad)
    values = official.values_of("tx_fac") | {"model/other/kernel": np.zeros(3, np.float32)}
    failing("unknown: model/other/kernel", official.write(str(tmp_path / "more-1"), values))
    other = {"layer/kernel/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(3, np.float32)}
    failing("not a checkpoint of the released", official.write(str(tmp_path / "other-1"), other))

    bad = damaged(prefix, tmp_path)
    data = f"{bad}.data-00000-of-00001"
    with open(data, "r+b") as file:
        file.truncate(os.path.getsize(data) // 2)
    failing("a file is truncated or damaged", bad)
    os.remove(data)
    failing(r"ckpt-7.data-00000-of-00001: not there", bad)
    pathlib.Path(f"{bad}.index").write_bytes(b"nothing of the kind")
    pathlib.Path(data).write_bytes(b"")
    failing("not a readable TensorFlow checkpoint", bad)


def test_vocabulary_and_word_vectors(checkpoints, tmp_path):
    from vatt_tf import config

    words = ["<pad>", "<bos>", "<eos>", "<unk>", *(f"word{number}" for number in range(508))]
    vocabulary = tmp_path / "howto100m_en.txt"
    vocabulary.write_text("".join(f"{index} {word}\n" for index, word in enumerate(words)))
    table = next(
        value for key, value in official.values_of("tx_fac").items() if "embedding/emb" in key
    )
    vectors = tmp_path / "word2vec.pkl"
    vectors.write_bytes(pickle.dumps({"word_embeddings": table}, protocol=2))

    def converted(out, **arguments):
        config.clear()
        try:
            return command.convert(
                checkpoints["tx_fac"],
                str(tmp_path / out),
                gin_files=[str(official.CONFIGS / "tx_fac.gin")],
                quiet=True,
                **arguments,
            )
        finally:
            config.clear()

    converted("good", vocabulary=str(vocabulary), word_vectors=str(vectors))
    _, _, tokenizer = io.load_pretrained(str(tmp_path / "good"))
    assert tokenizer(["Word7, word500!"]).numpy()[0, :3].tolist() == [11, 504, 0]

    vectors.write_bytes(pickle.dumps({"word_embeddings": table[::-1].copy()}))
    with pytest.raises(UserError, match="words differ from the checkpoint's word table, first"):
        converted("bad", vocabulary=str(vocabulary), word_vectors=str(vectors))
    vocabulary.write_text("\n".join(words[:-1]))
    with pytest.raises(UserError, match="511 words, the checkpoint was trained with 512"):
        converted("bad", vocabulary=str(vocabulary))
    with pytest.raises(UserError, match="--word_vectors needs --vocabulary"):
        converted("bad", word_vectors=str(vectors))
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("bad")]


def test_weights_start_a_run(checkpoints, read_config, tmp_path):
    from vatt_tf.data.input.pipeline import DataSource
    from vatt_tf.training.tasks.config import TrainConfig
    from vatt_tf.training.tasks.pretrain import make_model, make_tokenizer

    config = read_config("tx_fac.gin")
    weights = str(tmp_path / "weights")
    converted = convert_official(SourceCheckpoint(checkpoints["tx_fac"]), config).model
    io.save_pretrained(weights, converted, config.clip(), None)

    def run(model, **fields):
        return TrainConfig(
            model=model, data=(DataSource("none"),), steps=1, initial_weights=weights, **fields
        )

    with pytest.raises(UserError, match="holds no vocabulary; convert it with --vocabulary"):
        make_tokenizer(run(config))
    larger = read_config("tx_fac.gin", "video_tower.frames = 8")
    model = make_model(run(larger), None)
    values = {variable.path: np.asarray(variable) for variable in converted.weights}
    for variable in model.weights:
        value = values[variable.path]
        if "temporal" in variable.path and "video" in variable.path:
            value = interpolation_matrix(2, 4) @ value
        np.testing.assert_allclose(variable, value, atol=1e-6)
    other = read_config("tx_fac.gin", "video_tower.num_layers = 1")
    with pytest.raises(UserError, match=r"block_1/attention_norm/gamma has no place"):
        make_model(run(other), None)
    with pytest.raises(UserError, match="give one of the two"):
        run(config, word_vectors="vectors.txt")


def test_command_leaves_nothing_behind(checkpoints, tmp_path):
    values = official.values_of("wat_finetune")
    values[next(iter(values))][...] = np.inf
    bad = official.write(str(tmp_path / "ckpt-9"), values)
    out = tmp_path / "out"
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "vatt_tf.convert",
            f"--checkpoint={bad}",
            f"--gin_file={official.CONFIGS / 'tx_fac.gin'}",
            f"--out={out}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "NaN or infinite" in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []


def write_golden() -> None:
    """Records the outputs anew: ``python -m tests.pretrained.test_convert``."""
    import tempfile

    import gin

    from vatt_tf import config

    golden = {}
    for name in NAMES:
        config.clear()
        config.import_configurables()
        config.parse([str(official.CONFIGS / official.CONFIG_OF[name])], [])
        with tempfile.TemporaryDirectory() as folder:
            prefix = official.write(f"{folder}/ckpt-7", official.values_of(name))
            model = convert_official(SourceCheckpoint(prefix), gin.get_configurable("vatt")()).model
        golden |= {f"{name}/{key}": value for key, value in outputs_of(model).items()}
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    write_golden()
