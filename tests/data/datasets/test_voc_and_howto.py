"""PASCAL VOC 2007 and HowTo100M on miniature copies of the official files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.test_prepare import context, make_video, records
from vatt_tf import prepare as command
from vatt_tf.data.datasets import definition, howto100m
from vatt_tf.data.datasets.voc import CLASSES
from vatt_tf.data.prepare.plan import PlanError, Settings

MARKS = {  # image: classes present, classes difficult
    "trainval": {"000005": (["chair"], ["sofa"]), "000007": (["car", "person"], [])},
    "test": {"000001": (["dog", "person"], []), "000002": ([], ["train"])},
}


@pytest.fixture
def voc(tmp_path):
    """VOCdevkit/VOC2007 with four images."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for part, images in MARKS.items():
        for image in images:
            Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(
                root / "JPEGImages" / f"{image}.jpg"
            )
        for label in CLASSES:
            lines = [
                f"{image} {' 1' if label in present else ' 0' if label in difficult else '-1'}"
                for image, (present, difficult) in images.items()
            ]
            (root / f"ImageSets/Main/{label}_{part}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_voc(voc):
    layout = definition("voc2007").layout(voc)
    assert layout.labels == tuple(CLASSES) and len(CLASSES) == 20
    assert {row.path: (row.split, *row.labels) for row in layout.rows.rows} == {
        "JPEGImages/000005.jpg": ("train", "chair"),
        "JPEGImages/000007.jpg": ("train", "car", "person"),
        "JPEGImages/000001.jpg": ("test", "dog", "person"),
        "JPEGImages/000002.jpg": ("test",),
    }
    (warning,) = layout.rows.warnings
    assert "2 pairs of image and class are marked difficult" in warning["warning"]
    assert definition("voc2007").layout(voc.parent.parent).rows.rows  # above VOCdevkit too


def test_voc_records_hold_all_classes(voc, tmp_path, capsys):
    flags = ["--dataset=voc2007", f"--videos={voc}", f"--out={tmp_path / 'out'}"]
    assert command.main([*flags, "--quiet", "--jobs=1"]) == 0
    found = {
        context(r, "video/filename")[0].decode(): context(r, "clip/label/index")
        for split in ("train", "test")
        for r in records(tmp_path / "out", split)
    }
    assert found["JPEGImages/000007.jpg"] == [CLASSES.index("car"), CLASSES.index("person")]
    assert found["JPEGImages/000002.jpg"] == []
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["labels"] == list(CLASSES)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("dog_test.txt", "000001  1\n000002  2\n", r"dog_test.txt line 2: '000002  2' where"),
        ("dog_test.txt", "000001  1\n", "has no line for the image 000002"),
        ("dog_test.txt", "000001  1\n000001 -1\n", "line 2: the image 000001 is in it twice"),
        ("dog_test.txt", "000001  1\n000009 -1\n", "000009 is in it and not in that of aeroplane"),
        ("dog_test.txt", None, "no dog_test.txt or .*difficult"),
        ("aeroplane_trainval.txt", None, "no aeroplane_trainval.txt or"),
    ],
)
def test_damaged_lists_of_voc(voc, name, text, message):
    path = voc / "ImageSets" / "Main" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(PlanError, match=message):
        definition("voc2007").layout(voc)


def test_voc_without_the_test_archive(voc):
    for path in (voc / "ImageSets" / "Main").glob("*_test.txt"):
        path.unlink()
    assert {row.split for row in definition("voc2007").layout(voc).rows.rows} == {"train"}


CAPTIONS = {
    "gone": {"start": [0.0], "end": [1.0], "text": ["nobody has it"]},
    "a_b-1": {"start": [0.2, 1.2], "end": [0.8, 1.9], "text": ["peel the  potato", "and cut it é"]},
    "none": {"start": [], "end": [], "text": []},
}


@pytest.fixture
def howto(tmp_path):
    folder = tmp_path / "videos"
    make_video(folder / "a_b-1.mp4", seconds=3.0)
    make_video(folder / "sub" / "none.mp4", level=40)
    make_video(folder / "unknown.mp4", level=70)
    (folder / "caption.json").write_text(json.dumps(CAPTIONS), encoding="utf-8")
    return folder


def test_howto100m(howto, tmp_path):
    out = tmp_path / "out"
    known = definition("howto100m")
    layout = known.layout(howto)
    assert [(row.path, row.split) for row in layout.rows.rows] == [
        ("a_b-1.mp4", "train"),
        ("sub/none.mp4", "train"),
    ]
    assert layout.rows.warnings[0]["warning"].startswith("1 video of caption.json without a file")
    flags = ["--dataset=howto100m", f"--videos={howto}", f"--out={out}", "--clip_seconds=1"]
    assert command.main([*flags, "--short_side=32", "--quiet", "--jobs=1"]) == 0
    clips = sorted(
        (context(r, "clip/start/timestamp")[0] / 1e6, context(r, "video/filename")[0].decode())
        for r in records(out)
    )
    # A clip around each caption; a video without captions is cut as a whole number of clips.
    assert clips == [
        (0.0, "a_b-1.mp4"),
        (0.0, "sub/none.mp4"),
        (1.0, "sub/none.mp4"),
        (pytest.approx(1.05), "a_b-1.mp4"),
    ]
    texts = {
        text.decode(): context(r, "caption/language")[0]
        for r in records(out)
        for text in context(r, "caption/string")
    }
    assert texts == {"peel the potato": b"en", "and cut it é": b"en"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["transcripts"]["model"] == "caption.json"
    assert manifest["transcripts"]["without_speech"] == ["sub/none.mp4"]


@pytest.mark.check
def test_howto100m_goes_with_several_processes(howto, tmp_path):
    known = definition("howto100m")
    settings = Settings(media=known.media, **{**known.settings, "short_side": 32})
    content = command.prepare(
        howto, tmp_path / "out", settings, layout=known.layout(howto), tokenizers=(), jobs=2
    )
    assert content["splits"]["train"]["with_captions"] == 1  # 5 s around both captions


def test_howto100m_of_videos_without_sound(tmp_path):
    make_video(tmp_path / "a_b-1.mp4", sound=False)
    (tmp_path / "caption.json").write_text(json.dumps(CAPTIONS))
    layout = definition("howto100m").layout(tmp_path)
    content = command.prepare(tmp_path, tmp_path / "out", layout=layout, tokenizers=())
    assert content["splits"]["train"]["with_captions"] == 1


def test_howto100m_has_its_captions(howto, tmp_path):
    layout = definition("howto100m").layout(howto)
    with pytest.raises(PlanError, match="has its captions: leave --transcribe out"):
        command.prepare(howto, tmp_path / "o", layout=layout, transcribe=lambda path: None)


def test_entry_of_columns_of_unequal_length(howto, tmp_path):
    broken = {"a_b-1": {"start": [0.0], "end": [], "text": ["x"]}, "none": {"text": []}}
    (howto / "caption.json").write_text(json.dumps(broken))
    layout = definition("howto100m").layout(howto)
    content = command.prepare(howto, tmp_path / "out", layout=layout, tokenizers=())
    (entry,) = content["quarantine"]
    assert entry["file"] == "sub/none.mp4" and "no 'start', 'end' and 'text'" in entry["reason"]
    assert "not transcribed: caption.json: the captions of a_b-1" in str(content["warnings"])


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_large_file_is_read_by_entry(tmp_path, monkeypatch, chunk, indent, ascii_only):
    monkeypatch.setattr(howto100m, "_CHUNK_BYTES", chunk)
    path = tmp_path / "caption.json"
    content = {"ü": {"text": ['"}{,:\\', "日本"]}, "b": {}, "c": [1.5, {"d": None}]}
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    found = list(howto100m.entries(path))
    assert {key: value for key, value, _, _ in found} == content
    data = path.read_bytes()
    for _, value, offset, length in found:
        assert json.loads(data[offset : offset + length]) == value


def test_memory_holds_one_entry_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(howto100m, "_CHUNK_BYTES", 256)
    path = tmp_path / "caption.json"
    path.write_text(json.dumps({str(n): {"text": ["x" * 100]} for n in range(200)}))
    longest = 0
    more = howto100m._Text._more

    def spy(text):
        nonlocal longest
        went_on = more(text)
        longest = max(longest, len(text._text))
        return went_on

    monkeypatch.setattr(howto100m._Text, "_more", spy)
    assert len(list(howto100m.entries(path))) == 200
    assert longest < 1024 < path.stat().st_size / 20


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "it ends too early"),
        ("[1]", "'\\['"),
        ('{"a": {}', "it ends too early"),
        ('{"a": {} "b": {}}', "where ',' was expected"),
        ('{"a": {"text": ["x}', "Unterminated string.* in the entry at byte 6"),
        ("{1: {}}", "a key is no string"),
    ],
)
def test_damaged_caption_file(tmp_path, text, message):
    path = tmp_path / "caption.json"
    path.write_text(text)
    with pytest.raises(PlanError, match=f"caption.json: not a JSON object of videos: .*{message}"):
        list(howto100m.entries(path))


def test_entry_that_does_not_end(tmp_path, monkeypatch):
    monkeypatch.setattr(howto100m, "_CHUNK_BYTES", 16)
    monkeypatch.setattr(howto100m, "_LONGEST_ENTRY", 64)
    path = tmp_path / "caption.json"
    path.write_text('{"a": {"text": ["' + "x" * 10_000)
    with pytest.raises(PlanError, match="an entry at byte 6 does not end"):
        list(howto100m.entries(path))
