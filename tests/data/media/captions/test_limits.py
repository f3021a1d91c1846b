"""Side-cars that never end, or hold too much: read within bounds, and what is left out is named."""

import json
import math
import random

import pytest

from tests.data.media.captions.test_reading import read
from vatt_tf.data.media.captions import (
    Caption,
    CaptionError,
    Timeline,
    caption,
    cues,
    notes,
    pick_caption_file,
    read_captions,
    reading,
)


def test_devices_and_folders(tmp_path):
    (tmp_path / "zero.srt").symlink_to("/dev/zero")
    (tmp_path / "folder.srt").mkdir()
    expected = {
        "zero": "is a pipe or a device, expected a regular file",
        "folder": "is a folder",
    }
    for name, words in expected.items():
        with pytest.raises(CaptionError, match=f"{name}.srt: .*{words}"):
            read_captions(tmp_path / f"{name}.srt")


def test_a_file_of_terabytes(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(CaptionError, match="a.json: holds 1,048,576 MiB, expected at most 16 MiB"):
        read_captions(tmp_path / "a.json")


def test_too_many_captions(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_CAPTIONS", 10)
    rows = [[n, n + 1, str(n)] for n in range(600)]
    captions, (warning,) = read(tmp_path, "a.json", json.dumps(rows))
    assert [c.text for c in captions] == [str(n) for n in range(10)]
    said = "a.json entry 11: '10' and what follows is left out behind 10 captions"
    assert warning.startswith(said)


def test_too_many_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "MOST", 10)
    content = "1\n00:01,000 --> 00:02,000\n" + "\n".join(f"w{n}" for n in range(50))
    captions, (warning,) = read(tmp_path, "a.srt", content)
    assert captions[0].text == " ".join(f"w{n}" for n in range(8))
    assert warning.startswith("a.srt line 11: 'w8' and what follows is left out: the file is too")
    monkeypatch.setattr(notes, "MOST", 100)
    monkeypatch.setattr(cues, "MOST_CUE_LINES", 5)
    captions, warnings = read(tmp_path, "a.srt", content)
    assert captions[0].text == "w0 w1 w2 w3 w4"
    assert warnings[0].startswith("a.srt line 8: 'w5' is behind 5 lines of a caption")
    assert warnings[3] == (
        "a.srt: 42 more up to line 52: is behind 5 lines of a caption; it is left out"
    )


def test_a_long_text_is_cut_at_a_word(tmp_path, monkeypatch):
    captions, (warning,) = read(tmp_path, "a.json", json.dumps({"text": "word " * 100_000}))
    assert captions[0].text == " ".join(["word"] * 4000)
    assert "is longer than 20,000 characters; its rest is left out" in warning
    captions, _ = read(tmp_path, "a.json", json.dumps({"text": "x" * 100_000}))
    assert captions[0].text == "x" * 20_000
    monkeypatch.setattr(notes, "MOST_CHARACTERS", 40)
    captions, (warning,) = read(tmp_path, "a.srt", "1\n0:1,0 --> 0:2,0\n" + "x" * 100)
    assert captions[0].text == "x" * 40
    assert warning.startswith("a.srt line 3: 'xxx") and "its rest is left out" in warning


def test_every_junk_line_is_counted_and_few_are_shown(tmp_path):
    junk = "".join(f"junk {n}\n" for n in range(2, 700))
    _, warnings = read(tmp_path, "a.align", f"0 25000 kept\n{junk}")
    assert len(warnings) == 4
    assert warnings[:2] == [
        f"a.align line {n}: 'junk {n}' is not 'start end word'; the line is left out"
        for n in (2, 3)
    ]
    assert warnings[3].startswith("a.align: 695 more up to line 699: ")


def test_what_cannot_be_printed_is_escaped(tmp_path):
    _, (warning,) = read(tmp_path, "a.align", "0 25000 kept\n\x1b[31mred \x07\n")
    assert warning.isprintable()


def plain(captions, start, end, neighbours):
    """By comparing every caption with the span."""
    timed = sorted(c for c in captions if not c.whole)
    inside = [
        c for c in timed
        if (c.start < end and c.end > start) or start <= c.start == c.end < end
    ]  # fmt: skip
    before = [c for c in timed if c not in inside and c.start < start][-neighbours:]
    after = [c for c in timed if c not in inside and c.start >= end][:neighbours]
    return sorted(
        [Caption(c.start, c.end if math.isfinite(c.end) else max(end, c.start), c.text)
         for c in before + inside + after]
        + [Caption(start, end, c.text) for c in captions if c.whole]
    )  # fmt: skip


def test_captions_near_a_span_are_those_of_a_plain_program():
    draw = random.Random(0)
    for _ in range(300):
        captions = [
            Caption(s, draw.choice([s, s + 1, s + 3, s + 30, math.inf]), f"w{n}")
            for n, s in enumerate(draw.choices(range(20), k=draw.randint(0, 12)))
        ]
        captions += [Caption(-math.inf, math.inf, "whole")] * draw.randint(0, 1)
        start = draw.randint(0, 22)
        end = start + draw.randint(1, 6)
        expected = plain(captions, start, end, 2)
        assert Timeline(captions).near(start, end, 2) == (expected, 0)


def test_a_clip_holds_a_bounded_number_of_captions(monkeypatch):
    captions = [Caption(0.0, 100.0, str(n)) for n in range(60_000)]
    found, more = Timeline(captions).near(10.0, 20.0)
    assert 500 <= len(found) <= 1000 and more == 60_000 - len(found)
    monkeypatch.setattr(caption, "MOST_CHARACTERS_NEAR", 1000)
    found, more = Timeline([Caption(0, 9, "x" * 400), Caption(1, 9, "y" * 700)]).near(0.0, 5.0)
    assert [c.text[0] for c in found] == ["x"] and more == 1


@pytest.mark.parametrize("names", [["a.txt"], ["a.en.ass", "a.txt"]])
def test_kinds_that_are_not_read_are_named(names):
    chosen, (note,) = pick_caption_file("a", names)
    assert chosen is None and all(name in note for name in names)
    assert note.endswith("expected .srt, .vtt, .json or .align")
    assert pick_caption_file("a", [*names, "a.de.srt"])[0] == "a.de.srt"
