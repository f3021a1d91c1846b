"""Which words go with a clip: from the rows of a list to what training and evaluation read."""

import collections
import dataclasses

import numpy as np

from tests.data.records import SPEC
from vatt_tf import prepare as command
from vatt_tf.data.input.pipeline import evaluation_dataset, training_dataset
from vatt_tf.data.prepare.plan import Settings
from vatt_tf.data.prepare.sample_videos import write_video
from vatt_tf.data.text.tokenizer import WordTokenizer

# A text of the whole video, rows within and across each other, a row without words beside others.
ROWS = """path,start,end,caption
a.mp4,,,whole
a.mp4,0,4,outer
a.mp4,0.9,1.72,inner
a.mp4,2,3.2,ahead
a.mp4,3,4.98,across
a.mp4,4.2,4.9,late
b.mp4,0,1,hello
b.mp4,1.2,2,
b.mp4,2,3,next
"""
OWN = ["across", "ahead", "hello", "inner", "late", "next", "outer", "whole"]
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", *OWN)


def first_captions(dataset, batches):
    """Record id -> first captions of its clips."""
    found = collections.defaultdict(set)
    for batch in dataset.take(batches):
        for row, tokens in zip(batch["record_id"], batch["text"][:, 0], strict=True):
            found[int(row)].add(WORDS[int(tokens[0])])
    return found


def test_a_clip_takes_the_words_of_its_own_row(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in "ab":
        frames = np.full((50, 32, 48, 3), 100, np.uint8)
        write_video(tmp_path / "videos" / f"{name}.mp4", frames, np.zeros(120_000, np.float32))
    (tmp_path / "m.csv").write_text(ROWS)
    settings = Settings(short_side=32, frame_rate=5.0, sample_rate=8000, num_shards=1, cut="whole")
    where = tmp_path / "videos", tmp_path / "out"
    content = command.prepare(*where, settings, manifest=tmp_path / "m.csv", tokenizers=())
    train = content["splits"]["train"]
    assert (train["records"], train["with_captions"]) == (9, 8)  # not those of the neighbours
    spec = dataclasses.replace(SPEC, frame_rate=5.0, frames=2, audio="none", texts=1)
    tokenizer = WordTokenizer(WORDS, max_tokens=spec.tokens)
    shards = str(tmp_path / "out" / "train")
    evaluated = first_captions(evaluation_dataset(shards, spec, tokenizer, batch_size=9), 1)
    assert sorted(*zip(*evaluated.values(), strict=True)) == ["<pad>", *OWN]
    # In training, wherever the window lies in the record.
    assert first_captions(training_dataset(shards, spec, tokenizer, batch_size=9), 12) == evaluated
    # Narration may lie beside its clip by a stated distance, in both.
    spec = dataclasses.replace(spec, caption_distance=0.3)
    beside = first_captions(evaluation_dataset(shards, spec, tokenizer, batch_size=9), 1)
    (silent,) = (row for row, words in evaluated.items() if words == {"<pad>"})
    assert beside == evaluated | {silent: {"next"}}
    assert first_captions(training_dataset(shards, spec, tokenizer, batch_size=9), 12)[silent] <= {
        "hello",
        "next",
    }
