"""Caption files: every format, every kind of damage."""

import json
import math

import pytest

from vatt_tf.data.media.captions import (
    Caption,
    CaptionError,
    Timeline,
    join_words,
    parse_time,
    pick_caption_file,
    read_captions,
)

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,
{\\an8}how are you?

2
00:00:03,000 --> 00:01:04,250
Fish &amp; chips
"""


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_captions(path)


def test_srt(tmp_path):
    captions, warnings = read(tmp_path, "a.srt", "\ufeff" + SRT.replace("\n", "\r\n"))
    assert captions == [
        Caption(1.0, 2.5, "Hello there, how are you?"),
        Caption(3.0, 64.25, "Fish & chips"),
    ]
    assert warnings == []


def test_srt_without_empty_lines_between(tmp_path):
    captions, _ = read(tmp_path, "a.srt", SRT.replace("\n\n", "\n"))
    assert [caption.text for caption in captions] == ["Hello there, how are you?", "Fish & chips"]


def test_vtt_with_header_notes_settings_and_short_times(tmp_path):
    text = (
        "WEBVTT - a title\nKind: captions\n\nNOTE a comment\n\nSTYLE\n::cue {}\n\n"
        "intro\n00:01.000 --> 00:02.000 align:start position:0%\n<v Anna>one <c.red>two</c>\n\n"
        "1:00:00.500 --> 1:00:01.000\nthree\n"
    )
    captions, warnings = read(tmp_path, "a.en.vtt", text)
    assert captions == [Caption(1.0, 2.0, "one two"), Caption(3600.5, 3601.0, "three")]
    assert warnings == []


def test_vtt_that_rolls_up_says_each_line_once(tmp_path):
    text = (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n \nfirst<00:00:00.5><c> line</c>\n\n"
        "00:00:02.000 --> 00:00:02.010\nfirst line\n \n\n"
        "00:00:02.010 --> 00:00:04.000\nfirst line\nsecond<00:00:03.0><c> line</c>\n"
    )
    captions, warnings = read(tmp_path, "a.vtt", text)
    assert [caption.text for caption in captions] == ["first line", "second line"]
    assert warnings == []


@pytest.mark.parametrize(
    "data",
    [
        {"segments": [{"start": 1, "end": 2.5, "text": " one two"}], "language": "en"},
        [{"start": "1.0", "end": "00:00:02.5", "text": "one two"}],
        [{"start": 1.0, "duration": 1.5, "caption": "one two"}],
        {"start": [1.0], "end": [2.5], "text": ["one two"]},
        {"chunks": [{"timestamp": [1.0, 2.5], "text": "one two"}]},
        [[1.0, 2.5, "one two"]],
        {
            "words": [
                {"word": "one", "start": 1, "end": 1.7},
                {"word": "two", "start": 1.8, "end": 2.5},
            ]
        },
        [{"word": "one", "start": 1, "end": 1.7}, {"word": " two", "start": 1.8, "end": 2.5}],
    ],
)
def test_json_forms(tmp_path, data):
    captions, warnings = read(tmp_path, "a.json", json.dumps(data))
    assert captions == [Caption(1.0, 2.5, "one two")]
    assert warnings == []


def test_json_without_times_belongs_to_the_whole_video(tmp_path):
    captions, _ = read(tmp_path, "a.json", json.dumps({"text": "a dog"}))
    assert captions == [Caption(-math.inf, math.inf, "a dog")]
    assert Timeline(captions).near(3.0, 5.0)[0] == [Caption(3.0, 5.0, "a dog")]


def test_words_are_joined_until_a_pause_or_sixteen():
    words = [Caption(k * 0.3, k * 0.3 + 0.2, f"w{k}") for k in range(20)]
    words.append(Caption(9.0, 9.5, "later"))
    groups = join_words(words)
    assert [len(group.text.split()) for group in groups] == [16, 4, 1]
    assert groups[1] == Caption(4.8, pytest.approx(5.9), "w16 w17 w18 w19")


def test_align_of_grid(tmp_path):
    text = "0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 74500 sil\n"
    captions, warnings = read(tmp_path, "a.align", text)
    assert captions == [Caption(0.95, 1.36, "bin blue")]
    assert warnings == []
    captions, _ = read(tmp_path, "b.align", "0.0 0.95 sil\n0.95 1.36 bin\n")
    assert captions == [Caption(0.95, 1.36, "bin")]


def test_real_alignment(shared_dir):
    captions, _ = read_captions(shared_dir / "data" / "grid" / "align" / "bbaf2n.align")
    assert captions == [Caption(0.95, 2.12, "bin blue at f two now")]


def test_overlapping_captions_are_kept_in_order_and_noted(tmp_path):
    data = [[3.0, 6.0, "b"], [1.0, 4.0, "a"]]
    captions, warnings = read(tmp_path, "a.json", json.dumps(data))
    assert [caption.text for caption in captions] == ["a", "b"]
    assert warnings == ["a.json: 1 caption kept although the one in front ends later"]


def test_negative_and_reversed_times(tmp_path):
    text = (
        "1\n-00:00:01,000 --> 00:00:02,000\nearly\n\n2\n-00:00:05,000 --> -00:00:04,000\nlost\n\n"
        "3\n00:00:09,000 --> 00:00:07,000\nturned\n"
    )
    captions, warnings = read(tmp_path, "a.srt", text)
    assert captions == [Caption(0.0, 2.0, "early"), Caption(7.0, 9.0, "turned")]
    assert len(warnings) == 3
    assert warnings == [
        "a.srt line 2: 'early' (-1.000-2.000 s) has a negative time; it begins at 0 instead",
        "a.srt line 6: 'lost' (-5.000--4.000 s) has a negative time; it is left out",
        "a.srt line 10: 'turned' (9.000-7.000 s) ends before it begins; its times are swapped",
    ]


def test_not_utf8_is_read_as_windows_1252_and_said(tmp_path):
    text = SRT.replace("chips", "crème brûlée").encode("cp1252")
    captions, warnings = read(tmp_path, "a.srt", text)
    assert captions[1].text == "Fish & crème brûlée"
    assert warnings == ["a.srt line 8: byte 0xe8 is not UTF-8; the file is read as Windows-1252"]
    captions, warnings = read(tmp_path, "b.srt", SRT.encode("utf-16"))
    assert captions[1].text == "Fish & chips" and warnings == []


def test_bad_cue_is_left_out_and_named(tmp_path):
    captions, warnings = read(tmp_path, "a.srt", SRT.replace("00:00:01,000", "soon"))
    assert [caption.text for caption in captions] == ["Fish & chips"]
    assert warnings[0].startswith("a.srt line 2: 'soon --> 00:00:02,500' is not")


def test_bad_json_entry_is_left_out_and_named(tmp_path):
    data = [{"start": 0, "end": 1, "text": "a"}, {"start": "x", "end": 2, "text": "b"}]
    captions, warnings = read(tmp_path, "a.json", json.dumps(data))
    assert [caption.text for caption in captions] == ["a"]
    assert "a.json entry 2" in warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.srt", "just a text\n", "no line 'start --> end'"),
        ("a.srt", "", "holds no text"),
        ("a.srt", b"1\x00\x00\x00", "zero bytes"),
        ("a.json", "{\n 'x'", "a.json line 2: not JSON"),
        ("a.json", '{"title": "x"}', "found the keys ['title']"),
        ("a.json", '[{"title": "x"}]', "entry 1: {'title': 'x'} (no text) is not a caption"),
        ("a.align", "hello\n", "no line 'start end word'"),
        ("a.txt", "hello\n", "unknown kind"),
    ],
)
def test_unreadable_files_say_why(tmp_path, name, content, words):
    with pytest.raises(CaptionError) as caught:
        read(tmp_path, name, content)
    assert words in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(CaptionError, match="No such file"):
        read_captions(tmp_path / "a.srt")


def test_choice_among_several_files():
    names = ["a.de.vtt", "a.en-US.vtt", "a.info.json", "a.json"]
    assert pick_caption_file("a", names)[0] == "a.json"
    assert pick_caption_file("a", names[:3]) == (
        "a.en-US.vtt",
        ["several caption files: a.en-US.vtt is used, not a.de.vtt"],
    )
    assert pick_caption_file("a", names[:3], "de")[0] == "a.de.vtt"
    assert pick_caption_file("a", ["a.info.json", "ab.srt"]) == (None, [])


def test_captions_near_a_clip():
    captions = [Caption(k, k + 0.5, str(k)) for k in range(20)]
    timeline = Timeline(captions)
    assert [c.text for c in timeline.near(10.0, 12.0)[0]] == [str(k) for k in range(6, 16)]
    assert [c.text for c in timeline.near(10.6, 10.9)[0]] == [str(k) for k in range(7, 15)]
    assert timeline.near(0.0, 0.1, neighbours=1) == (captions[:2], 0)
    assert Timeline([]).near(0.0, 1.0) == ([], 0)


def test_times():
    assert parse_time("1:02:03,5") == 3723.5
    assert parse_time("-00:01.25") == -1.25
    assert parse_time("7") == 7.0


WHISPER = {
    "text": " Fish and chips.",
    "language": "en",
    "segments": [
        {"id": 0, "seek": 0, "start": 0.5, "end": 2.0, "text": " Fish and", "avg_logprob": -0.25},
        {"id": 1, "seek": 0, "start": 2.0, "end": 3.0, "text": " chips.", "avg_logprob": -9e9},
    ],
}
WHISPERX = {
    "language": "ja",
    "segments": [
        {"start": 0.0, "end": 1.0, "text": "赤い丸", "words": [{"word": "赤", "score": 1}]}
    ],
}
WHISPER_CPP = {
    "result": {"language": "de"},
    "transcription": [
        {
            "timestamps": {"from": "00:00:00,500", "to": "00:00:02,000"},
            "offsets": {"from": 500, "to": 2000},
            "text": " Guten Tag",
        }
    ],
}
VOSK = {
    "result": [
        {"conf": 1.0, "start": 0.1, "end": 0.4, "word": "good"},
        {"conf": 0.5, "start": 0.4, "end": 0.9, "word": "morning"},
    ],
    "text": "good morning",
}


@pytest.mark.parametrize(
    "data, expected",
    [
        (WHISPER, [(0.5, 2.0, "Fish and", "en", math.exp(-0.25)), (2.0, 3.0, "chips.", "en", 0.0)]),
        (WHISPERX, [(0.0, 1.0, "赤い丸", "ja", None)]),
        (WHISPER_CPP, [(0.5, 2.0, "Guten Tag", "de", None)]),
        (VOSK, [(0.1, 0.9, "good morning", "", 0.75)]),
    ],
    ids=["whisper", "whisperx", "whisper.cpp", "vosk"],
)
def test_output_of_recognisers_as_it_is(tmp_path, data, expected):
    captions, warnings = read(tmp_path, "a.json", json.dumps(data))
    found = [(c.start, c.end, c.text, c.language, c.confidence) for c in captions]
    assert found == [pytest.approx(each) if each[4] else each for each in expected]
    assert not warnings


def test_a_confidence_that_is_none_is_unknown(tmp_path):
    rows = [{"start": n, "end": n + 1, "text": "x", "score": s} for n, s in enumerate((7, "1", -1))]
    captions, _ = read(tmp_path, "a.json", json.dumps({"segments": rows, "language": None}))
    assert [c.confidence for c in captions] == [None] * 3 and captions[0].language == ""


def test_words_of_scripts_without_blanks_are_joined_without():
    words = [
        Caption(n / 10, n / 10 + 0.1, text) for n, text in enumerate("赤い 丸 が 動く 。".split())
    ]
    assert [c.text for c in join_words(words)] == ["赤い丸が動く。"]
    mixed = [Caption(0.0, 0.1, "東京"), Caption(0.1, 0.2, "Tower"), Caption(0.2, 0.3, "です")]
    assert join_words(mixed)[0].text == "東京 Tower です"
    korean = [Caption(0.0, 0.1, "빨간"), Caption(0.1, 0.2, "공")]
    assert join_words(korean)[0].text == "빨간 공"
