"""JSON of recognisers: times under every known key, and valid JSON that is no caption."""

import json
import math

import pytest

from tests.data.media.captions.test_reading import read
from vatt_tf.data.media.captions import Caption, CaptionError

WORDS = [
    {"word": "put", "start": 2.0, "end": 2.4},
    {"word": "it", "start": 2.4, "end": 2.6},
    {"word": "away", "start": 12.4, "end": 12.6},
]
JOINED = [Caption(2.0, 2.6, "put it"), Caption(12.4, 12.6, "away")]
GOOGLE = [
    {"word": w["word"], "startTime": f"{w['start']:.3f}s", "endTime": f"{w['end']:.3f}s"}
    for w in WORDS
]


@pytest.mark.parametrize(
    "data",
    [
        *({key: WORDS, "text": "put it away"} for key in ("result", "words", "word_segments")),
        {"segments": [], "words": WORDS},
        {"segments": None, "words": WORDS},
        {"segments": [{"words": WORDS[:2]}, {"start": None, "words": WORDS[2:]}]},
        [{"result": WORDS[:2], "text": "put it"}, {"result": WORDS[2:], "text": "away"}],
        {"alternatives": [{"result": WORDS, "text": "put it away"}, {"text": "put at away"}]},
        {"results": [{"alternatives": [{"transcript": "put it away", "words": GOOGLE}]}]},
        {"words": [{**w, "start": None, "start_time": w["start"]} for w in WORDS]},
    ],
)
def test_word_times_under_any_known_key(tmp_path, data):
    assert read(tmp_path, "a.json", json.dumps(data)) == (JOINED, [])


def test_one_document_behind_the_other(tmp_path):
    lines = [{"result": WORDS[:2]}, {"text": ""}, {"result": WORDS[2:]}]
    assert read(tmp_path, "a.json", "\n".join(map(json.dumps, lines)))[0] == JOINED


def test_a_word_without_times_stays_in_its_place(tmp_path):
    odd = [{"word": "2014."}, {"word": " "}]
    words = [{"word": "in"}, WORDS[0], *odd, *WORDS[1:], {"word": "!", "start": None}]
    captions, warnings = read(tmp_path, "a.json", json.dumps({"words": words}))
    assert [c.text for c in captions] == ["in put 2014.", "it", "away !"] and warnings == []


@pytest.mark.parametrize(
    "rows",
    [
        {"chunks": [{"timestamp": pair, "text": x}
                    for pair, x in (([0.0, 4.0], "a"), ([4.5, None], "b"))]},
        [{"start": 0.0, "end": 4.0, "text": "a"}, {"start": 4.5, "text": "b"}],
        [[0.0, 4.0, "a"], [4.5, None, "b"]],
        {"transcription": [{"offsets": {"from": f, "to": t}, "text": x}
                           for f, t, x in ((0, 4000, "a"), (4500, None, "b"))]},
    ],
)  # fmt: skip
def test_the_last_chunk_may_have_no_end(tmp_path, rows):
    captions, warnings = read(tmp_path, "a.json", json.dumps(rows))
    assert captions == [Caption(0.0, 4.0, "a"), Caption(4.5, math.inf, "b")] and warnings == []


def test_a_chunk_without_an_end_lasts_until_the_next(tmp_path):
    rows = [{"timestamp": [s, None], "text": str(s)} for s in (3, 1, 1, 7)]
    captions, _ = read(tmp_path, "a.json", json.dumps(rows))
    assert [(c.start, c.end) for c in captions] == [(1, 3), (1, 3), (3, 7), (7, math.inf)]


@pytest.mark.parametrize(
    "text",
    [
        "[1,2,3]",
        "[[1,2,3],[4,5,6]]",
        "[null]",
        "null",
        "3",
        '"a"',
        "true",
        "{}",
        '{"segments": null}',
        '{"segments": [null]}',
        '{"segments": {"start": 1}}',
        '{"words": 5}',
        '{"text": 5}',
        '[{"text": null, "start": 0, "end": 1}]',
        '[{"start": NaN, "end": 1, "text": "x"}]',
        '[{"start": 0, "end": Infinity, "text": "x"}]',
        '[{"start": 0, "end": 1e999, "text": "x"}]',
        '[{"start": 1e300, "end": 2e300, "text": "x"}]',
        f'[{{"start": {10**400}, "end": {10**401}, "text": "x"}}]',
        '[{"start": true, "end": false, "text": "x"}]',
        '[{"start": [], "end": {}, "text": "x"}]',
        '[{"start": "9999999999:00:01", "end": "9999999999:00:02", "text": "x"}]',
        '[{"timestamp": [null, 4], "text": "x"}]',
        '[{"timestamp": [], "text": "x"}]',
        '[{"start": 0, "end": 1, "text": "\\ud83d"}]',
        '{"text": "\\udc00"}',
        '{"\\ud800": 1}',
        "1" * 5000,
        "[" * 100_000,
        '{"segments":[' * 300 + "]}" * 300,
        '{"words": [{"text": "x", "start": 250, "end": 90250}]}',
        "[1, 2",
    ],
)
def test_valid_json_that_is_no_caption_says_why(tmp_path, text):
    with pytest.raises(CaptionError) as caught:
        read(tmp_path, "a.json", text)
    message = str(caught.value)
    assert "a.json" in message and len(message) < 600 and "\n" not in message
    message.encode()


@pytest.mark.parametrize(
    "odd",
    [
        None,
        7,
        [1, 2, 3],
        {"start": float("nan"), "end": 1, "text": "lost"},
        {"start": 5, "end": 6, "text": "half of \ud83d"},
        {"start": 5, "end": 6, "text": None},
        {"title": "x" * 10_000},
    ],
)
def test_the_others_are_kept(tmp_path, odd):
    good = {"start": 1, "end": 2, "text": "kept", "avg_logprob": -(10**400)}
    data = {"language": "\ud800", "segments": [good, odd, good]}
    captions, warnings = read(tmp_path, "a.json", json.dumps(data))
    assert [(c.text, c.language, c.confidence) for c in captions] == [("kept", "", 0.0)] * 2
    assert warnings[0].startswith("a.json entry 2: ") and "left out" in warnings[0]
    assert all(len(warning) < 200 for warning in warnings)


def test_columns_of_different_length(tmp_path):
    data = {"start": [1, 2], "end": [2, 3], "text": ["a"]}
    captions, (warning,) = read(tmp_path, "a.json", json.dumps(data))
    assert captions == [Caption(1.0, 2.0, "a")] and "a.json entry 2: " in warning


@pytest.mark.parametrize("data", [{"segments": []}, {"text": ""}, {"segments": [], "text": ""}, []])
def test_silence_is_no_fault(tmp_path, data):
    assert read(tmp_path, "a.json", json.dumps(data)) == ([], ["a.json: holds no caption"])


@pytest.mark.parametrize("time", ["nan", "inf", "1e300", "9999999999:00:01", "-", "x", "9" * 500])
def test_times_of_alignments(tmp_path, time):
    captions, (warning,) = read(tmp_path, "a.align", f"0 25000 kept\n{time} 50000 lost\n")
    assert captions == [Caption(0.0, 1.0, "kept")]
    assert warning.startswith("a.align line 2: ")
