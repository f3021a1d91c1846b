"""Any bytes as captions or as a manifest: captions or a reason, in bounded time and memory."""

import json
import math
import subprocess
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.conftest import CHECKOUT
from vatt_tf.data.lists.manifest import ManifestError, read_rows
from vatt_tf.data.media.captions import CaptionError, Timeline, read_captions
from vatt_tf.data.media.captions.reading import CAPTION_SUFFIXES, MOST_CHARACTERS

# The same examples in every run, and none kept on the disk.
FEW = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=list(hypothesis.HealthCheck),
)
MANY = hypothesis.settings(FEW, max_examples=500)

# What the files are made of, in any order, beside any text.
PIECES = st.sampled_from(
    "WEBVTT|NOTE|STYLE|1|2|\n|\n\n|\r\n| |-->|->|--&gt;|<|>|<i>|</i>|<c>|<v A>|{\\an8}|&nbsp;|&#9;"
    "|00:00:01,000 --> 00:00:02,000|00:01.000 --> 00:00.500|-0:1.0 --> 0:2.0|99999999999:0:1"
    "|0 25000 word|1e400|nan|-inf|align:start|text|ありがとう|\ufeff|\0|\u2028|\x85"
    '|path,caption,start,end,split,label\n|a.mp4|,|;|"|\t|# |train'.split("|")
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join)
NUMBERS = st.one_of(st.integers(), st.floats(), st.none(), st.just(10**400), st.text(max_size=6))
KEYS = st.sampled_from(
    "segments words result results chunks text word start end timestamp offsets from to duration "
    "language alternatives transcription confidence avg_logprob captions".split()
)
VALUES = st.recursive(
    st.one_of(NUMBERS, st.booleans(), st.text(max_size=5), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)
ROWS = st.fixed_dictionaries({"start": NUMBERS, "end": NUMBERS, "text": st.text(max_size=8)})
JSON = st.one_of(VALUES, st.lists(ROWS, max_size=6).map(lambda rows: {"segments": rows}))
BYTES = st.one_of(
    st.binary(max_size=300),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    TEXTS.map(lambda text: text.encode("utf-16", "surrogatepass")),
    JSON.map(lambda value: json.dumps(value).encode()),
)


def check_captions(folder, data, suffix):
    path = folder / f"a{suffix}"
    path.write_bytes(data)
    try:
        captions, warnings = read_captions(path)
    except CaptionError as error:
        captions, warnings = [], [str(error)]
        assert path.name in str(error)
    assert captions or warnings
    for caption in captions:
        caption.text.encode()
        assert caption.text and len(caption.text) <= MOST_CHARACTERS
        assert caption.whole or (0 <= caption.start <= caption.end and caption.start < 1e6)
        assert caption.confidence is None or 0 <= caption.confidence <= 1
    assert captions == sorted(captions, key=lambda c: (c.start, c.end))
    for warning in warnings:
        warning.encode()
        assert "\n" not in warning and len(warning) < 700
    near, more = Timeline(captions).near(0.0, 10.0)
    assert more == 0 and all(math.isfinite(c.start) and math.isfinite(c.end) for c in near)


def check_manifest(folder, data):
    path = folder / "list.csv"
    path.write_bytes(data)
    try:
        rows = read_rows(path)
    except ManifestError as error:
        assert "\n" not in str(error)
        str(error).encode("utf-8", "surrogateescape")
    else:
        assert rows.rows or rows.quarantine
        for row in rows.rows:
            assert row.start is None or 0 <= row.start < math.inf
            assert row.end is None or (row.start or 0.0) < row.end < math.inf
            "".join([row.path, *row.captions, *row.labels]).encode()


@pytest.mark.parametrize("suffix", CAPTION_SUFFIXES)
def test_any_bytes_as_captions(tmp_path, suffix):
    hypothesis.given(BYTES)(FEW(lambda data: check_captions(tmp_path, data, suffix)))()


def test_any_bytes_as_a_manifest(tmp_path):
    hypothesis.given(BYTES)(FEW(lambda data: check_manifest(tmp_path, data)))()


@pytest.mark.check
@pytest.mark.parametrize("suffix", (*CAPTION_SUFFIXES, ".csv"))
def test_many_bytes(tmp_path, suffix):
    def check(data):
        if suffix == ".csv":
            check_manifest(tmp_path, data)
        else:
            check_captions(tmp_path, data, suffix)

    hypothesis.given(BYTES)(MANY(check))()


# What costs most of a file of this size: every bracket an object, every line a cue or junk.
FULL = {
    "cues.srt": b"0:0-->0:1\na\n",
    "junk.srt": b"1\nsoon --> x\n",
    "tags.srt": b"0:0-->0:1\n<b a=a \n",
    "line.srt": b"0:0-->0:1 line:1 " + b"line:1 " * 2**21,
    "stray.vtt": b"WEBVTT\n\na\n\n",
    "lists.json": (b"[", b"[],", b"[]]"),
    "deep.json": b"[",
    "words.json": (b"[", b'{"word":"a","start":0},', b"[]]"),
    "floats.json": (b"[", b"1.5,", b"1]"),
    "words.align": b"0 1 a\n",
    "junk.align": b"0 1\n",
}


@pytest.mark.check
@pytest.mark.parametrize("name", FULL)
def test_the_largest_files_stay_within_bounds(tmp_path, name):
    """Less than 1 GB more than the imports, and an end."""
    parts = FULL[name]
    first, again, last = parts if isinstance(parts, tuple) else (b"", parts, b"")
    path = tmp_path / name
    path.write_bytes(first + again * ((2**24 - 10) // len(again)) + last)
    script = (
        "import sys\n"
        "from vatt_tf.benchmarking.memory import process_peak\n"
        "from vatt_tf.data.media.captions import CaptionError, read_captions\n"
        "before = process_peak()\n"
        "try:\n"
        "    captions, notes = read_captions(sys.argv[1])\n"
        "except CaptionError as error:\n"
        "    captions, notes = [], [str(error)]\n"
        "assert notes and len(captions) <= 100_000 and len(notes) < 20\n"
        "print(process_peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], cwd=CHECKOUT, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1e9
