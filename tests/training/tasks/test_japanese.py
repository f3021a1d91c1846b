"""Captions without blanks between words: from clips to training with SentencePiece."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.training.conftest import GIN, SIZES
from vatt_tf import config
from vatt_tf import prepare as command
from vatt_tf.data.prepare.sample_videos import write_video
from vatt_tf.data.text.scripts import fraction_without_blanks
from vatt_tf.data.text.tokenizer import load_tokenizer

COLOURS, SHAPES = "赤い 青い 緑の 黄色い 黒い".split(), "丸 四角 三角形 星".split()
MOVES = ("左に動きます", "右に回ります")
CAPTIONS = [f"{c}{s}が{m}。" for c in COLOURS for s in SHAPES for m in MOVES]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """40 clips, each with a Japanese caption in a file beside it."""
    folder = tmp_path_factory.mktemp("japanese")
    sound = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    for number, text in enumerate(CAPTIONS):
        frames = np.full((10, 16, 16, 3), 6 * number, np.uint8)
        write_video(folder / f"{number:02d}.mp4", frames, sound)
        srt = f"1\n00:00:00,100 --> 00:00:00,900\n{text}\n"
        (folder / f"{number:02d}.ja.srt").write_text(srt, encoding="utf-8")
    return folder


def prepare(videos, out, *flags):
    common = ("--language=ja", "--short_side=16", "--sample_rate=1000", "--num_shards=2")
    return command.main(
        [f"--videos={videos}", f"--out={out}", *common, "--quiet", "--jobs=1", *flags]
    )


@pytest.mark.check
def test_prepare_and_train_with_sentencepiece(videos, tmp_path, capsys):
    from vatt_tf import train

    shards = tmp_path / "shards"
    assert prepare(videos, shards) == 0
    error = capsys.readouterr().err
    assert "--tokenizers=sentencepiece" in error and "train.tokenizer='sentencepiece'" in error
    assert "100 % of the captions' letters" in error
    flags = ("--tokenizers=sentencepiece", "--max_words=120")
    assert prepare(videos, shards, *flags) == 0
    assert "script without blanks" not in capsys.readouterr().err
    manifest = json.loads((shards / "manifest.json").read_text())
    assert manifest["tokenizers"] == {"sentencepiece": "tokenizer/sentencepiece.model"}
    assert manifest["splits"]["train"]["with_captions"] == 40
    tokenizer = load_tokenizer(shards / "tokenizer" / "sentencepiece.model")
    ids = np.asarray(tokenizer(CAPTIONS))
    assert len({tuple(row) for row in ids.tolist()}) == 40  # every caption is told from the others
    assert not (ids == 1).any()  # and nothing in them is unknown
    gin = tmp_path / "run.gin"
    gin.write_text(GIN.format(shards=shards, sizes=SIZES))
    bindings = (
        "EVAL_DATA=None",
        "STEPS=2",
        "text_tower.vocab_size=120",
        "train.tokenizer='sentencepiece'",
        "train.sample_rate=1000",
    )
    config.clear()
    given = [f"--gin_bindings={binding}" for binding in bindings]
    assert train.main([f"--gin_file={gin}", f"--run_dir={tmp_path / 'run'}", *given]) == 0
    config.clear()
    assert (tmp_path / "run" / "model.weights.h5").is_file()


@pytest.mark.parametrize(
    "text, fraction",
    [
        ("赤い丸が動く。", 1.0),
        ("红色的圆", 1.0),
        ("สวัสดีครับ", 1.0),
        ("빨간 공", 0.0),
        ("a red ball", 0.0),
        ("東京 ab", 0.5),
        ("123 !", 0.0),
    ],
)
def test_scripts(text, fraction):
    assert fraction_without_blanks([text]) == pytest.approx(fraction)
