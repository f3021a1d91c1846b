"""SubRip and WebVTT as they are found: text is kept, or its line is named."""

import pytest

from tests.data.media.captions.test_reading import read
from vatt_tf.data.media.captions import Caption, CaptionError


def texts(tmp_path, name, content):
    captions, warnings = read(tmp_path, name, content)
    return [caption.text for caption in captions], warnings


def srt(*bodies):
    return "\n\n".join(
        f"{n}\n00:00:{2 * n:02d},000 --> 00:00:{2 * n + 2:02d},000\n{body}"
        for n, body in enumerate(bodies, 1)
    )


@pytest.mark.parametrize(
    "written, text",
    [
        ("I <3 cake and you > me", "I <3 cake and you > me"),
        ("if x < 5 and y > 2", "if x < 5 and y > 2"),
        ("a<b and c>d", "a<b and c>d"),
        ("<unk> <3 <- ->", "<unk> <3 <- ->"),
        ("un<i>believ</i>able H<sub>2</sub>O", "unbelievable H2O"),
        ('<font color="#fff">red</font> <FONT color=red size=3>hat</FONT>', "red hat"),
        ("one<br>two<br/>three", "one two three"),
        ("<v Anna>Hi<v.loud Bo>Hello</v>", "Hi Hello"),
        ("<c.yellow.bg_blue>da</c><00:00:01.500><c>y</c>", "day"),
        (r"{\an8}to{\i1}day{\i0}", "today"),
        ("{b}bold{/b} the set {i}", "bold the set {i}"),
        (
            "R&amp;B &lt;3 this&that &notit; caf&eacute;&nbsp;&#8230;",
            "R&B <3 this&that &notit; café …",
        ),
        ("&lt;i&gt; is a tag", "<i> is a tag"),
        ("&#99999999999999; \x1b[31mred", "&#99999999999999; [31mred"),
        ("赤い\n丸が\n動く", "赤い丸が動く"),
        ("- Yes?\n- No.", "- Yes? - No."),
        (
            "first\n\nbehind an empty line\n \nbehind blanks",
            "first behind an empty line behind blanks",
        ),
        ("we count\n5", "we count 5"),
        ("42", "42"),
        ("go to File --> Open", "go to File --> Open"),
        ("from 10:30 -> 11:15", "from 10:30 -> 11:15"),
        ("a\u2028b\x85c", "a b c"),
        ("1,000 - 2,000\n3.5 -> 4.5", "1,000 - 2,000 3.5 -> 4.5"),
    ],
)
def test_text_of_a_cue(tmp_path, written, text):
    assert texts(tmp_path, "a.srt", srt(written, "next")) == ([text, "next"], [])


@pytest.mark.parametrize(
    "line, start, end",
    [
        ("00:00:02,000 -> 00:00:04,000", 2.0, 4.0),
        ("00:00:02.000 -- > 00:00:04.000", 2.0, 4.0),
        ("00:00:02,000 → 00:00:04,000", 2.0, 4.0),
        ("00:00:02,000 –> 00:00:04,000", 2.0, 4.0),
        ("00:00:02,000 ==> 00:00:04,000", 2.0, 4.0),
        ("00:00:02,000  00:00:04,000", 2.0, 4.0),
        ("00:00:02,000 --&gt; 00:00:04,000", 2.0, 4.0),
        ("00:00:02,000-->00:00:04,000", 2.0, 4.0),
        ("00:00:06:000 --> 00:00:08:500", 6.0, 8.5),
        ("00: 00: 02, 000 --> 00: 00: 04, 250", 2.0, 4.25),
        ("0:2.5 --> 1:00", 2.5, 60.0),
        ("100:00:00,000 --> 100:00:01,000", 360_000.0, 360_001.0),
        ("00:00:02,000 --> 00:00:04,000 X1:40 X2:600 Y1:20 Y2:50", 2.0, 4.0),
        ("00:00:02.000 --> 00:00:04.000 align:start position:0%", 2.0, 4.0),
    ],
)
def test_times_and_arrows(tmp_path, line, start, end):
    captions, warnings = read(tmp_path, "a.srt", f"1\n{line}\na text\n")
    assert captions == [Caption(start, end, "a text")] and warnings == []


@pytest.mark.parametrize("end", ["\r\n", "\r", "\r\r\n", "\n\n", "\r\n\r\n"])
def test_line_ends(tmp_path, end):
    content = srt("one\ntwo", "3", "four").replace("\n", end)
    assert texts(tmp_path, "a.srt", content) == (["one two", "3", "four"], [])


def test_a_counter_without_a_cue_is_no_text(tmp_path):
    assert texts(tmp_path, "a.srt", srt("one", "two") + "\n\n3\n") == (["one", "two"], [])
    assert texts(tmp_path, "a.srt", srt("one", "two\n\n7")) == (["one", "two 7"], [])


def test_text_behind_the_times_is_text(tmp_path):
    found, _ = read(tmp_path, "a.srt", "1\n00:01,000 --> 00:02,000 Anna: hello\nthere\n")
    assert found == [Caption(1.0, 2.0, "Anna: hello there")]


@pytest.mark.parametrize(
    "line",
    [
        "soon --> 00:00:02,500",
        "00:00:01,000 --> later",
        "9999999999:00:01,000 --> 9999999999:00:02,000",
        "00:00:06:12 --> 00:00:08:12",  # frames
        "00:00:01,000 --> ",
        "00:00:01,000",
    ],
)
@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_times_that_are_none(tmp_path, name, line):
    head = "WEBVTT\n\n" if name == "a.vtt" else ""
    content = f"{head}1\n{line}\nlost\n\n2\n00:00:04,000 --> 00:00:06,000\nkept\n"
    number = content[: content.index(line)].count("\n") + 1
    found, (warning,) = texts(tmp_path, name, content)
    assert found == ["kept"]
    assert warning.startswith(f"{name} line {number}: '{line.strip()[:20]}")
    assert warning.endswith("hours, minutes and seconds; the caption is left out")
    with pytest.raises(CaptionError, match=f"{name} line {number}: "):
        read(tmp_path, name, content[: content.index("2\n00:00:04")])


def test_webvtt_ends_a_cue_at_an_empty_line_only(tmp_path):
    content = (
        "WEBVTT\nKind: captions\n\nNOTE\na comment\n\n00:01.000 --> 00:02.000\n \npadded\n\n"
        "stray\n\nNOTE none\n\nintro\n00:03.000 --> 00:04.000\n\nlate\n\n7\n"
        "00:05.000 --> 00:06.000\nlast\n"
    )
    found, warnings = texts(tmp_path, "a.vtt", content)
    assert found == ["padded", "late", "last"]
    assert warnings == ["a.vtt line 11: 'stray' stands outside of a caption; it is left out"]


def test_text_in_front_of_the_first_times_is_named(tmp_path):
    found, warnings = texts(tmp_path, "a.srt", "Subtitles\nby someone\n\n" + srt("kept"))
    assert found == ["kept"]
    assert [warning.split(":")[0] for warning in warnings] == ["a.srt line 1", "a.srt line 2"]


@pytest.mark.parametrize("body", ["", "\n", "&nbsp;", "<i></i>"])
def test_an_empty_cue_ends_the_one_in_front(tmp_path, body):
    content = (
        f"1\n00:02,390 --> 00:08,000\na line\n\n2\n00:04,990 --> 00:15,370\n{body}\n\n"
        "3\n00:15,370 --> 00:18,110\nanother\n"
    )
    found, _ = read(tmp_path, "a.srt", content)
    assert found == [Caption(2.39, 4.99, "a line"), Caption(15.37, 18.11, "another")]


def rolled(lines, seconds=2.0, gap=0.01, shown=2, mark=""):
    """WebVTT cues that show the last lines, and a short one between, as YouTube writes them."""
    cues, at = ["WEBVTT\n"], 0.0
    for n in range(len(lines)):
        window = lines[max(0, n + 1 - shown) : n + 1]
        for text, length in (("\n".join(window), seconds), (lines[n] + "\n ", gap)):
            if length:
                cues.append(f"00:{at:06.3f} --> 00:{at + length:06.3f}{mark}\n{text}\n")
                at += length
    return "\n".join(cues)


@pytest.mark.parametrize("gap, shown", [(0.01, 2), (0.0, 2), (0.0, 3)])
@pytest.mark.parametrize("name", ["a.vtt", "a.srt"])
def test_captions_that_roll_up_say_each_line_once(tmp_path, name, gap, shown):
    lines = [f"line {n}" for n in range(6)]
    content = rolled(lines, gap=gap, shown=shown)
    if name == "a.srt":
        content = content.removeprefix("WEBVTT\n\n").replace(".", ",")
    captions, warnings = read(tmp_path, name, content)
    assert [caption.text for caption in captions] == lines and warnings == []
    step = 2.0 + gap
    assert [c.start for c in captions] == pytest.approx([n * step for n in range(6)])
    assert [c.end for c in captions] == pytest.approx([(n + 1) * step for n in range(6)])


@pytest.mark.parametrize(
    "bodies",
    [
        ("no", "no", "no\nway"),
        ("la", "la", "la", "la"),
        ("row row", "row row\nyour boat", "gently down", "gently down"),
    ],
)
def test_what_people_say_twice_is_kept_twice(tmp_path, bodies):
    expected = [body.replace("\n", " ") for body in bodies]
    assert texts(tmp_path, "a.srt", srt(*bodies)) == (expected, [])
