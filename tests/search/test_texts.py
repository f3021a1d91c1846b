"""Words of clips: folding, ranking by BM25, following ``videos.jsonl``, kills and damage."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import random
import subprocess
import sys

import pytest

from vatt_tf.data.media.captions import Caption, read_captions
from vatt_tf.errors import UserError
from vatt_tf.search_index.folder import TEXTS, Entry
from vatt_tf.search_index.text import index as texts_lib
from vatt_tf.search_index.text import sidecars as sidecars_lib
from vatt_tf.search_index.text.index import open_texts, update_texts
from vatt_tf.search_index.text.sidecars import Sidecars, clip_texts
from vatt_tf.search_index.text.sqlite import sqlite3
from vatt_tf.search_index.text.words import MAX_TERMS, fold, terms, tokens


def cues(*captions):
    """A .srt file of (start, end, text) in whole seconds."""
    return "\n".join(
        f"{n}\n00:00:{s:02d},000 --> 00:00:{e:02d},000\n{text}\n"
        for n, (s, e, text) in enumerate(captions, 1)
    )


@pytest.fixture(name="videos")
def make_videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


def write(videos, captions):
    """One clip of a second per caption text; the entries."""
    entries = []
    for row, (name, text) in enumerate(captions.items()):
        (videos / name).with_suffix(".srt").write_text(cues((0, 1, text)), encoding="utf-8")
        entries.append(Entry(name, 1, 1, row, [(0.0, 1.0)]))
    return entries


def build(tmp_path, videos, captions):
    entries = write(videos, captions)
    update_texts(tmp_path, entries, Sidecars(videos))
    return open_texts(tmp_path)


def rows(opened, query, every=True):
    return [row for row, _ in opened.match(terms(query)[0], every, 1000)]


@pytest.mark.parametrize(
    "text, query, found",
    [
        ("Der Hund hüpft über die Straße", "HUND STRASSE", True),
        ("Der Hund hüpft über die Straße", "hupft uber", True),
        ("hu\u0308pfen, cafe\u0301", "hüpfen CAFE", True),
        ("l'homme: «déjà» vu!", "Homme deja", True),
        ("犬が公園を走る", "犬", True),
        ("犬が公園を走る", "公園", True),
        ("犬が公園を走る", "園公", False),
        ("犬が公園を走る", "犬 走る", True),
        ("東京の電車", "東京", True),
        ("東の京", "東京", False),
        ("ﾄｳｷｮｳ Ｔｏｗｅｒ", "トウキョウ tower", True),
        ("ガラス", "カラス", False),  # a voiced sound is another word
        ("हिन्दी की किताब", "किताब", True),
        ("สุนัขวิ่ง", "สุนัข", True),
        ("an apple", "a", False),
        ("don't stop", "don't", True),
        ("don stop t", "don't", False),
    ],
)
def test_folding(tmp_path, videos, text, query, found):
    assert bool(rows(build(tmp_path, videos, {"1.mp4": text}), query)) is found


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        '"red',
        "red*",
        "red AND circle",
        "red -circle",
        "captions:red",
        "^red",
        "NEAR(red)",
    ]
    + ["{captions}: red", "red + circle", "(red", "red OR", "NOT red", "'; DROP TABLE clips", "\0"],
)
def test_operators_are_words(tmp_path, videos, query):
    """Nothing in a query is syntax: what its letters spell is looked up, the rest divides words."""
    captions = {"1.mp4": "red circle", "2.mp4": "red and circle near or not captions drop table"}
    opened = build(tmp_path, videos, captions)
    words = set(tokens(query))
    expected = [
        n for n, text in enumerate(captions.values()) if words and words <= set(text.split())
    ]
    assert sorted(rows(opened, query)) == expected


def test_a_huge_query_is_bounded(tmp_path, videos):
    opened = build(tmp_path, videos, {"1.mp4": "word0 word1"})
    found, cut = terms(" ".join(f"word{n}" for n in range(100_000)))
    assert cut and len(found) == MAX_TERMS
    assert [row for row, _ in opened.match(found, False, 10)] == [0]
    assert terms("x" * 10_000_000)[1]
    assert terms("a b a A") == (terms("a b")[0], False)


def bm25(documents, query):
    """SQLite's formula: k1 1.2, b 0.75, an inverse document frequency of at least a millionth."""
    average = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for word in query:
        holding = sum(word in document for document in documents)
        idf = max(math.log((len(documents) - holding + 0.5) / (holding + 0.5)), 1e-6)
        for n, document in enumerate(documents):
            count = document.count(word)
            scores[n] += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / average))
    return scores


def test_bm25_is_that_of_a_plain_program(tmp_path, videos):
    draw = random.Random(0)
    captions = {f"n{n}.mp4": " ".join(draw.choices("abcdefgh", k=draw.randint(1, 9)))
                for n in range(60)}  # fmt: skip
    opened = build(tmp_path, videos, captions)
    documents = [[*text.split(), *tokens(name[:-4])] for name, text in captions.items()]
    for query in itertools.combinations("abcdefgh", 3):
        scores = bm25(documents, query)
        for every, rule in ((True, all), (False, any)):
            expected = [
                n for n, document in enumerate(documents) if rule(w in document for w in query)
            ]
            found = opened.match(terms(" ".join(query))[0], every, 1000)
            assert sorted(row for row, _ in found) == expected
            assert [score for _, score in found] == pytest.approx(
                sorted((scores[n] for n in expected), reverse=True), abs=1e-6
            )


def test_clips_get_the_captions_that_overlap_them():
    captions = [
        Caption(0, 1, "A"),
        Caption(0.5, 9, "long"),
        Caption(2, 3, "B"),
        Caption(4, 4, "point"),
        Caption(-math.inf, math.inf, "whole"),
    ]
    times = [(0, 1), (1, 2), (2, 4), (4, 5), (9, 10)]
    expected = ["a long whole", "long whole", "long b whole", "long point whole", "whole"]
    assert clip_texts(captions, times) == expected
    draw = random.Random(1)
    for _ in range(50):
        many = [Caption(s, s + draw.randint(0, 5), f"w{n}") for n, s in
                enumerate(draw.choices(range(30), k=20))]  # fmt: skip
        spans = [(s, s + draw.randint(1, 6)) for s in range(0, 30, 3)]
        plain = [
            {c.text for c in many if (c.start < e and c.end > s) or s <= c.start == c.end < e}
            for s, e in spans
        ]
        for c in many:  # in no clip: the nearest one
            if not any(c.text in clip for clip in plain):
                gaps = [max(s - c.end, c.start - e) for s, e in spans]
                plain[gaps.index(min(gaps))].add(c.text)
        assert [set(text.split()) for text in clip_texts(many, spans)] == plain


def test_a_caption_in_no_clip_belongs_to_the_nearest():
    captions = [Caption(s, e, f"w{s}") for s, e in ((0, 1), (3, 4), (6, 7), (11, 12), (90, 99))]
    clips = [(1.5, 2.5), (5.0, 6.0), (9.0, 10.0)]
    assert clip_texts(captions, clips) == ["w0 w3", "w6", "w11 w90"]


def test_a_transcript_without_times_is_bounded():
    whole = [Caption(-math.inf, math.inf, "word " * 100_000)]
    assert all(len(t) <= sidecars_lib.CHARACTERS for t in clip_texts(whole, [(0, 1)] * 3))


def test_names_are_searched(tmp_path, videos):
    entries = [Entry("trips/Red_Circle-left.mp4", 1, 1, 0, [(0.0, 1.0)] * 2)]
    entries += [Entry("caf\udce9.mp4", 1, 1, 2, [(0.0, 1.0)])]
    update_texts(tmp_path, entries, Sidecars(videos))
    opened = open_texts(tmp_path)
    assert rows(opened, "trips red circle") == [0, 1] and rows(opened, "mp4") == []
    assert opened.held(terms("left red blue")[0], [0, 2]) == {0: ["left", "red"], 2: []}


def test_changes_are_followed(tmp_path, videos):
    entries = write(videos, {"1.mp4": "one", "2.mp4": "two", "3.mp4": "three"})

    def update():
        said = []
        covered = update_texts(tmp_path, entries, Sidecars(videos), said.append)
        assert not said
        return covered, open_texts(tmp_path)

    covered, opened = update()
    assert (covered.videos, covered.captions, covered.problems) == (3, 3, [])
    assert rows(opened, "two") == [1] and opened.missing(entries) == 0
    # Captions of a video that did not change itself.
    (videos / "2.srt").write_text(cues((0, 1, "zwei")))
    # A video that was embedded again, one that has left, one whose captions are gone or damaged.
    entries[0] = Entry("1.mp4", 2, 2, 3, [(0.0, 1.0), (1.0, 2.0)])
    entries[2].present = False
    entries.append(Entry("4.mp4", 1, 1, 5, [(0.0, 1.0)]))
    assert opened.missing(entries) == 2
    (videos / "4.srt").write_text("no cue")
    covered, opened = update()
    assert [rows(opened, w) for w in ("one", "two", "zwei", "three")] == [[3], [], [1], []]
    assert rows(opened, "4") == [5] and covered.captions == 2
    (problem,) = covered.problems
    assert "4.srt: no line 'start --> end'" in problem
    os.unlink(videos / "2.srt")
    entries[2].present = True
    _, opened = update()
    assert rows(opened, "zwei") == [] and rows(opened, "three") == [2]


def transcript(path, *texts, size=1):
    """As ``prepare --transcribe`` writes it."""
    said = [{"start": n, "end": n + 1, "text": text} for n, text in enumerate(texts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "video": {"size": size, "changed": 0}, "segments": said}
    path.write_text(json.dumps(content), encoding="utf-8")


def test_transcripts_are_searched_where_there_are_no_captions(tmp_path, videos):
    entries = write(videos, {"1.mp4": "written"})
    times = [(0.0, 1.0), (1.0, 2.0)]
    entries += [Entry(name, 1, 1, 1 + 2 * n, times) for n, name in
                enumerate(("sub/2.mp4", "3.mp4", "4.mp4", "5.mp4"))]  # fmt: skip
    kept = tmp_path / "data" / "transcripts"
    transcript(kept / "1.mp4.json", "heard")
    transcript(kept / "sub" / "2.mp4.json", "eine Möwe", "schreit")
    transcript(kept / "3.mp4.json")  # silence
    transcript(kept / "4.mp4.json", "older", size=2)
    (kept / "5.mp4.json").write_text("{}")

    def update(folder):
        return update_texts(tmp_path, entries, Sidecars(videos, (), folder)), open_texts(tmp_path)

    covered, opened = update(kept)
    found = [rows(opened, word) for word in ("written", "heard", "mowe", "schreit", "older")]
    assert found == [[0], [], [1], [2], []]
    assert (covered.videos, covered.captions) == (5, 2)
    other, damaged = covered.problems
    assert "4.mp4.json: made of a video of 2 bytes, which now has 1; run prepare" in other
    assert "5.mp4.json: no transcript that prepare --transcribe wrote" in damaged
    _, opened = update(None)
    assert rows(opened, "mowe") == []


def test_what_is_not_read_is_listed(tmp_path, videos):
    (videos / "1.txt").write_text("what is said")
    os.mkfifo(videos / "2.srt")
    junk = "\n".join(f"junk {n}" for n in range(9))
    (videos / "3.align").write_text(f"0 25000 kept\n{junk}\n")
    entries = [Entry(f"{n}.mp4", 1, 1, n, [(0.0, 1.0)]) for n in (1, 2, 3)]
    covered = update_texts(tmp_path, entries, Sidecars(videos))
    unread, pipe, lines = covered.problems
    assert unread.startswith("not read as captions: 1.txt; expected .srt")
    assert pipe.startswith("not used: ") and "2.srt: is a pipe or a device" in pipe
    assert lines.startswith("3.align line 2: 'junk 0' is not") and "(and 3 more notes)" in lines
    assert covered.captions == 1


def test_nothing_is_read_twice(tmp_path, videos, monkeypatch):
    entries = write(videos, {"1.mp4": "one", "2.mp4": "two"})
    read = []
    monkeypatch.setattr(sidecars_lib, "read_captions", lambda p: read.append(p) or read_captions(p))
    for _ in range(2):
        update_texts(tmp_path, entries, Sidecars(videos))
    assert len(read) == 2


def test_a_killed_update_goes_on(tmp_path, videos, monkeypatch):
    """Killed inside a transaction: what was committed counts, the rest is brought in later."""
    monkeypatch.setattr(texts_lib, "VIDEOS", 2)
    entries = write(videos, {f"{n}.mp4": f"word{n}" for n in range(5)})
    script = (
        "import os, sys\n"
        "from tests.search.test_texts import *\n"
        "texts_lib.VIDEOS, add = 2, texts_lib.TextIndex._add\n"
        "def killed(self, entry, *rest):\n"
        "    add(self, entry, *rest)\n"
        "    if entry.file == '3.mp4':\n"
        "        self._connection.execute('PRAGMA cache_spill = 1')\n"
        "        os._exit(9)\n"
        "texts_lib.TextIndex._add = killed\n"
        "entries = [Entry(f'{n}.mp4', 1, 1, n, [(0.0, 1.0)]) for n in range(5)]\n"
        "update_texts(pathlib.Path(sys.argv[1]), entries, Sidecars(sys.argv[2]))\n"
    ).replace("import os, sys", "import os, pathlib, sys")
    done = subprocess.run([sys.executable, "-c", script, tmp_path, videos], cwd=os.getcwd())
    assert done.returncode == 9
    opened = open_texts(tmp_path)
    assert [rows(opened, f"word{n}") for n in range(5)] == [[0], [1], [], [], []]
    assert opened.missing(entries) == 3
    opened.close()
    update_texts(tmp_path, entries, Sidecars(videos))
    opened = open_texts(tmp_path)
    assert [rows(opened, f"word{n}") for n in range(5)] == [[n] for n in range(5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [TEXTS, "videos"]


@pytest.mark.parametrize("damage", [b"no database at all " * 400, b"", "half", "version"])
def test_a_damaged_database_is_made_anew(tmp_path, videos, damage):
    entries = write(videos, {f"{n}.mp4": "one two three" for n in range(40)})
    update_texts(tmp_path, entries, Sidecars(videos))
    path = tmp_path / TEXTS
    if damage == "version":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(path.read_bytes()[:6000] if damage == "half" else damage)
    if isinstance(damage, bytes) and damage:
        with pytest.raises(UserError, match="texts.sqlite: the words .* run vatt_tf.embed again"):
            open_texts(tmp_path)
    update_texts(tmp_path, entries, Sidecars(videos))
    assert len(rows(open_texts(tmp_path), "one")) == 40


def test_an_index_without_texts(tmp_path):
    assert open_texts(tmp_path) is None


@pytest.mark.check
def test_sqlite_after_tensorflow():
    """TensorFlow has an SQLite without FTS5, whose symbols come before those of the system's."""
    script = (
        "import tensorflow\n"
        "from vatt_tf.search_index.text.sqlite import sqlite3\n"
        "sqlite3.connect(':memory:').execute('CREATE VIRTUAL TABLE t USING fts5(a)')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_three_words_of_a_real_sentence(tmp_path, shared_dir):
    """GRID: every clip whose caption holds three words of a sentence comes before any other."""
    folder = shared_dir / "data" / "grid"
    with open(folder / "manifest.csv", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    names = sorted(path.name for path in (folder / "align").glob("*.align"))
    entries = [Entry(f"{n[:-6]}.mp4", 1, 1, k, [(0.0, 3.0)]) for k, n in enumerate(names)]
    covered = update_texts(tmp_path, entries, Sidecars(folder / "align"))
    assert covered.captions == len(names) == len(captions) == 778
    opened = open_texts(tmp_path)
    words = [
        set(" ".join(c.text for c in read_captions(folder / "align" / n)[0]).split()) for n in names
    ]
    queries = {q for c in captions for q in itertools.combinations(sorted(set(c.split())), 3)}
    draw = random.Random(0)
    for query in draw.sample(sorted(queries), min(2000, len(queries))):
        asked = list(query)
        draw.shuffle(asked)
        found = rows(opened, " ".join(asked))
        assert sorted(found) == [k for k, held in enumerate(words) if held >= set(query)], query


def test_folded_text_is_plain():
    assert fold("A  «B»\n犬猫") == "a b 犬 猫"


def test_the_example_is_written_as_its_script_is(tmp_path, videos):
    opened = build(tmp_path, videos, {"1.mp4": "東京で犬が走る"})
    assert opened.coverage().example == "東京で犬"
