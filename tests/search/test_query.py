"""From a query to moments: tiers, fusion, merging, unknown words, what the command prints."""

from __future__ import annotations

import http.server
import json
import os
import random
import shlex
import shutil
import threading

import av
import numpy as np
import pytest

from tests.search.test_embed_and_search import (
    make_address,  # noqa: F401
    make_server,  # noqa: F401
    make_source_videos,  # noqa: F401
    make_videos,  # noqa: F401
)
from tests.search.test_folder import opened
from tests.search.test_texts import transcript
from tests.test_api import write_video
from vatt_tf import embed as embed_command
from vatt_tf import search as search_command
from vatt_tf.data import media
from vatt_tf.data.text.tokenizer import ContentWordTokenizer, WordPieceTokenizer, WordTokenizer
from vatt_tf.embed import embed
from vatt_tf.errors import UserError
from vatt_tf.search import search
from vatt_tf.search_index.example import order_by_video
from vatt_tf.search_index.folder import TEXTS, Entry
from vatt_tf.search_index.ranking import Candidate, Moments, fuse, ranks
from vatt_tf.search_index.text import index as texts_lib
from vatt_tf.search_index.text.sidecars import Sidecars
from vatt_tf.serving.client.address import answers_http
from vatt_tf.serving.client.client import Client

SRT = "1\n00:00:00,000 --> 00:00:00,390\n{}\n\n2\n00:00:00,410 --> 00:00:01,200\n{}\n"


@pytest.fixture(name="index")
def make_index(videos, address, tmp_path):
    (videos / "dark.srt").write_text(SRT.format("Ein Hund läuft", "weg"))
    (videos / "sub" / "grey.en.srt").write_text(SRT.format("犬が公園を走る", "a bright Hund"))
    embed(videos, tmp_path / "index", server=address, quiet=True)
    return tmp_path / "index"


# --- Ranking ---


def test_ranks():
    assert ranks([0.5, None, 0.9, 0.5, 0.1]) == [2, None, 1, 2, 4]


def test_fusion_is_that_of_a_plain_program():
    draw = random.Random(0)
    for _ in range(30):
        pool = [
            Candidate(
                n,
                draw.choice([None, round(draw.random(), 1)]),
                draw.choice([None, round(draw.random(), 1)]),
                draw.random() < 0.3,
            )
            for n in range(40)
        ]

        def score(one, pool=pool):
            total = 0.0
            for kind in ("cosine", "bm25"):
                value = getattr(one, kind)
                tier = [getattr(c, kind) for c in pool if c.all_words == one.all_words]
                if value is not None:
                    total += 1 / (61 + sum(v is not None and v > value for v in tier))
            return total

        expected = sorted(
            pool, key=lambda c: (not c.all_words, -score(c), -(c.cosine or 0.0), c.clip)
        )
        assert fuse(pool) == expected


def spans(clips, **settings):
    """Moments of (video, start, cosine) clips of a second, best first."""
    found = Moments(settings.pop("count", 10), 1.0, **settings)
    for number, (video, start, cosine) in enumerate(clips):
        if not found.add(Candidate(number, cosine), video, start, start + 1.0):
            break
    return [(m.video, m.start, m.end) for m in found.found]


def test_neighbours_are_one_moment():
    assert spans([(0, 3, 0.9), (0, 4, 0.8), (1, 4, 0.8), (0, 2, 0.7)]) == [(0, 2, 5), (1, 4, 5)]
    assert spans([(0, 3, 0.9), (0, 5, 0.8)]) == [(0, 3, 6)]  # a gap of a stride
    assert spans([(0, 3, 0.9), (0, 6, 0.8)]) == [(0, 3, 4), (0, 6, 7)]
    # A clip between two moments joins them.
    assert spans([(0, 2, 0.9), (0, 6, 0.8), (0, 4, 0.7)]) == [(0, 2, 7)]
    # No moment reaches over another one.
    clips = [(0, 3, 0.9), (0, 2, 0.2), (0, 4, 0.2)]
    assert spans(clips, weakest=0.1) == [(0, 3, 4), (0, 2, 3), (0, 4, 5)]
    # Of clips that overlap, the best one counts.
    assert spans([(0, 3, 0.9), (0, 2.5, 0.8)]) == [(0, 3, 4)]


def test_a_video_full_of_candidates_does_not_become_one_moment():
    clips = [(0, s, 1.0 if s in (4, 5) else 0.2) for s in (4, 5, 0, 1, 2, 3, 6, 7)]
    assert spans(clips, weakest=0.2)[0] == (0, 4, 6)


def test_moments_are_counted():
    clips = [(v, 5 * s, 0.9) for s in range(3) for v in range(2)]
    assert len(spans(clips, count=3)) == 3
    assert len(spans(clips, per_video=1)) == 2 and len(spans(clips, per_video=2)) == 4
    missing = spans(clips, count=2, is_missing=lambda video: video == 0)
    assert [video for video, _, _ in missing] == [0, 1, 0, 1]  # the first two do not fill the page


# --- Words and embedding ---


def test_clips_with_all_words_come_first(index):
    found = search(index, "hund ein")
    assert found.hits[0].file == "dark.mp4" and found.hits[0].words == ("hund", "ein")
    assert found.hits[0].found_by in ("words", "both") and found.hits[0].score is not None
    # The embedding alone finds flash first; a caption says "bright".
    by_words, other, *_ = search(index, "bright").hits
    assert (by_words.file, by_words.start, by_words.end) == ("sub/grey.mp4", 0.4, 1.2)
    assert other.file == "flash.mp4" and other.found_by == "embedding" and other.words == ()
    assert [h.file for h in search(index, "grey").hits[:1]] == ["sub/grey.mp4"]


@pytest.mark.parametrize("text", ["犬", "公園", "犬が", "läuft LAUFT", "Ein Hund, läuft!"])
def test_other_scripts_and_diacritics(index, text):
    hit, *_ = search(index, text, words_only=True).hits
    assert hit.file == ("sub/grey.mp4" if text[0] in "犬公" else "dark.mp4")
    assert (hit.start, hit.end) == (0.0, 0.4) and hit.found_by == "words" and hit.score is None


def test_words_only_asks_no_model(index, server):
    server.seen.clear()
    found = search(index, "hund", words_only=True)
    assert not server.seen and found.space == "" and len(found.hits) == 2
    assert search(index, "zebra", words_only=True).hits == []
    with pytest.raises(UserError, match="--words_only takes words and no model"):
        search(index, "hund", words_only=True, server="localhost:1")
    with pytest.raises(UserError, match="--words_only takes words"):
        search(index, audio="x.wav", words_only=True)


def test_without_the_model_words_can_be_searched(index, tmp_path):
    with pytest.raises(UserError, match="no such folder.*--words_only searches captions"):
        search(index, "hund", run_dir=str(tmp_path / "absent"))
    with pytest.raises(UserError) as error:
        search(index, video="absent.mp4")
    assert "--words_only" not in str(error.value)


@pytest.fixture(name="knowing")
def make_knowing(server):
    server.vocabulary = ("bright", "dog")


def test_unknown_words_are_named(index, knowing, capsys):
    found = search(index, "bright Zebra, bright Quagga")
    assert found.unknown == ("Zebra", "Quagga") and found.hits
    assert search_command.main([f"--index={index}", "bright", "Zebra"]) == 0
    assert "  note: not in this model's vocabulary: Zebra\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="^not in this model's vocabulary: Zebra, Quagga; nor does"):
        search(index, "Zebra Quagga")
    assert search_command.main([f"--index={index}", "Zebra"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "not in this model's vocabulary: Zebra" in error
    # Captions hold them: no embedding of unknown words adds hits.
    found = search(index, "ein Hund")
    assert found.unknown == ("ein", "Hund") and "captions and file names" in found.notes[0]
    assert {hit.found_by for hit in found.hits} == {"words"}
    assert found.hits[0].file == "dark.mp4"


def test_an_earlier_export_makes_no_claim(index):
    found = search(index, "Zebra Quagga")
    assert found.unknown == () and found.hits and not found.notes


def test_known_words_of_tokenizers():
    words = ["<pad>", "<unk>", "a", "red", "dont"]
    assert WordTokenizer(words).split_known("A red, 'Hund' -- don't RED") == (
        ["A", "red", "don't", "RED"],
        ["Hund"],
    )
    assert ContentWordTokenizer(words).split_known("the a red Hund") == (["red"], ["Hund"])
    assert WordTokenizer(words).split_known("  ") == ([], [])
    pieces = WordPieceTokenizer(["[PAD]", "[UNK]", "red", "circ", "##le"])
    assert pieces.split_known("Red circle Hund") == (["Red", "circle"], ["Hund"])


def test_an_old_index_has_no_words(index, videos, server, address):
    (index / TEXTS).unlink()
    found = search(index, "bright")
    assert found.hits[0].file == "flash.mp4"
    assert "words in captions and file names are not indexed; run vatt_tf.embed" in found.notes[0]
    with pytest.raises(UserError, match="not indexed; run vatt_tf.embed on it again"):
        search(index, "bright", words_only=True)
    server.seen.clear()
    embed(videos, index, server=address, quiet=True)
    assert not [rows for _, signature, rows in server.seen if signature != "describe"]
    assert search(index, "bright").hits[0].file == "sub/grey.mp4"


def test_changed_captions_of_an_unchanged_video(index, videos, server, address):
    (videos / "dark.srt").write_text(SRT.format("Eine Katze", "schläft"))
    server.seen.clear()
    embed(videos, index, server=address, quiet=True)
    assert not [rows for _, signature, rows in server.seen if signature != "describe"]
    assert [h.file for h in search(index, "katze", words_only=True).hits] == ["dark.mp4"]
    assert search(index, "läuft", words_only=True).hits == []


def test_transcripts_beside_shards(videos, address, tmp_path, capsys):
    """What ``prepare --transcribe`` keeps, found again by later calls without the flag."""
    kept, out = tmp_path / "data" / "transcripts", tmp_path / "index"
    transcript(kept / "flash.mp4.json", "ein Blitz", size=(videos / "flash.mp4").stat().st_size)
    flags = [f"--videos={videos}", f"--out={out}", f"--server={address}"]
    for folder, message in [
        (tmp_path / "absent", "no such folder"),
        (tmp_path / "data", f"did you mean --transcripts={kept}?"),
        (videos, "no transcript of a video. Expected <name of the video in "),
    ]:
        assert embed_command.main([*flags, f"--transcripts={folder}"]) == 2
        error = capsys.readouterr().err
        assert f"error: --transcripts={folder}: " in error and message in error
        assert not out.exists()
    for more in ([f"--transcripts={kept}"], []):
        assert embed_command.main([*flags, *more]) == 0
        assert "captions or transcripts of 1 of 3 videos are" in capsys.readouterr().out
        assert [h.file for h in search(out, "blitz", words_only=True).hits] == ["flash.mp4"]
    shutil.rmtree(kept)
    assert embed_command.main(flags) == 0
    assert f"note: {kept}: the transcripts of this index are gone" in capsys.readouterr().out
    assert search(out, "blitz", words_only=True).hits == []


def test_a_stopped_run_keeps_the_words(videos, address, tmp_path, monkeypatch):
    from vatt_tf.search_index import embedding

    original = embedding.read_windows

    def interrupted(*args):
        for item in original(*args):
            if isinstance(item, embedding.Window) and item.video.name == "sub/grey.mp4":
                raise KeyboardInterrupt
            yield item

    out = tmp_path / "stopped"
    monkeypatch.setattr(embedding, "read_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(videos, out, server=address, batch_size=1, quiet=True)
    assert [h.file for h in search(out, "flash", words_only=True).hits] == ["flash.mp4"]
    monkeypatch.setattr(embedding, "read_windows", original)
    embed(videos, out, server=address, quiet=True)
    assert [h.file for h in search(out, "grey", words_only=True).hits] == ["sub/grey.mp4"]


def test_partial_matches_need_half_of_the_words(index):
    found = search(index, "hund zebra quagga", words_only=True)
    assert found.hits == []
    assert len(search(index, "the hund zebra", words_only=True).hits) == 2  # "the" does not count


def test_random_index_with_gone_rows(tmp_path):
    """Rows of the vectors are found again where some are no more."""
    names = ["a.mp4", "b.mp4", "a.mp4", "c.mp4"]
    with opened(tmp_path, settings={"videos": str(tmp_path), "clip_seconds": 1}) as index:
        for name in names:
            vectors = {"vt": np.eye(3)[:2], "va": np.ones((2, 2))}
            index.add(Entry(name, 1, 1, 0, [(0.0, 1.0), (1.0, 2.0)]), vectors)
        index.mark("b.mp4", False)
        texts_lib.update_texts(tmp_path, index.entries.values(), Sidecars(tmp_path))
    (hit,) = search(tmp_path, "c", words_only=True).hits
    assert (hit.file, hit.start, hit.end, hit.missing) == ("c.mp4", 0.0, 2.0, True)
    assert search(tmp_path, "b", words_only=True).hits == []


@pytest.mark.parametrize("text", ["", " ", "?!", '"*"'])
def test_a_query_without_words(index, text):
    with pytest.raises(UserError, match="holds no word to search for"):
        search(index, text, words_only=True)


def test_a_piece_of_a_video_finds_it(videos, address, tmp_path):
    """Re-encoded at half the size, and shifted by a second against the clips."""
    shutil.rmtree(videos)
    videos.mkdir()
    # The mean over the first is that of the third.
    levels = {"1.mp4": [40, 200] * 2, "2.mp4": [80, 160] * 2, "3.mp4": [120] * 4}
    for name, values in levels.items():
        write_video(videos / name, [v for v in values for _ in range(10)])
    out = tmp_path / "index"
    embed(videos, out, server=address, quiet=True)
    for name in levels:
        piece = media.read_clip(
            videos / name, 1.0, 3.0, frame_rate=10, short_side=16, sample_rate=0
        )
        with av.open(str(tmp_path / "piece.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10, bit_rate=500_000)
            stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
            for picture in piece.frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())
        assert search(out, video=tmp_path / "piece.mp4").hits[0].file == name


def test_the_only_video_finds_its_own_moments(videos, address, tmp_path):
    """Of one long file there is nothing else to find."""
    for name in ("flash.mp4", "sub/grey.mp4", "broken.mp4"):
        (videos / name).unlink()
    embed(videos, tmp_path / "index", server=address, quiet=True)
    found = search(tmp_path / "index", video=videos / "dark.mp4")
    assert {hit.file for hit in found.hits} == {"dark.mp4"}
    assert found.notes == ("the index holds no other video: these are moments of the query",)
    shutil.copy(videos / "dark.mp4", videos / "other.mp4")
    embed(videos, tmp_path / "index", server=address, quiet=True)
    found = search(tmp_path / "index", video=videos / "dark.mp4")
    assert {hit.file for hit in found.hits} == {"other.mp4"} and not found.notes


def test_clips_of_an_alike_video_come_first():
    """One clip that is like one piece does not make a video alike."""
    cosines = np.array([[0.9, 0.8, 0.99], [0.8, 0.9, 0.1]])
    scores = order_by_video(cosines, np.array([0, 0, 1]))
    np.testing.assert_allclose(scores, [0.9, 0.9, (0.99 + 0.545) / 2], atol=1e-6)


# --- Videos that have moved ---


def test_videos_that_have_moved(index, videos, tmp_path, capsys):
    os.rename(videos, tmp_path / "moved")
    found = search(index, "bright")
    assert all(hit.missing for hit in found.hits) and "--videos=DIR" in found.notes[-1]
    found = search(index, "bright", videos=tmp_path / "moved")
    assert not any(hit.missing for hit in found.hits) and not found.notes
    assert found.videos == str(tmp_path / "moved")
    with pytest.raises(UserError, match="--videos=absent: no such folder"):
        search(index, "bright", videos="absent")
    flags = [f"--index={index}", "bright", f"--videos={tmp_path / 'moved'}"]
    assert search_command.main([*flags, f"--html={tmp_path / 'page.html'}"]) == 0
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == len(found.hits)


def test_missing_videos_do_not_fill_the_page(index, videos):
    (videos / "flash.mp4").unlink()
    found = search(index, video=shutil.copy(videos / "dark.mp4", videos.parent), top=2)
    assert sum(not hit.missing for hit in found.hits) == 2


# --- The command ---


def test_unquoted_words(index, capsys):
    for words in (["ein", "hund"], ["ein hund"]):
        assert search_command.main([f"--index={index}", "--words_only", *words]) == 0
        assert capsys.readouterr().out.startswith("ein hund\n  best 2 moments of 7 clips, words of")
    assert search_command.main(["ein", f"--index={index}", "hund", "--words_only"]) == 0
    assert capsys.readouterr().out.startswith("ein hund\n")


def test_words_that_begin_with_a_dash(index, capsys):
    flags = [f"--index={index}", "--words_only"]
    for words in (["-5 hund"], ["-5", "hund"], ["--", "-5", "hund"]):
        assert search_command.main([*flags, *words]) == 0
        assert capsys.readouterr().out.startswith("-5 hund\n")
    assert search_command.main([*flags, "ein", "--", "-hund", "--top", "--"]) == 0
    assert capsys.readouterr().out.startswith("ein -hund --top --\n")
    with pytest.raises(SystemExit) as exit_code:
        search_command.main([*flags, "ein", "-hund"])
    assert exit_code.value.code == 2
    expected = "error: unknown flag -hund (see --help; words that begin with - go behind --)\n"
    assert capsys.readouterr().err == expected


def test_json(index, videos, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert search_command.main([f"--index={index}", "--json", "bright", f"--html={page}"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.out.count("\n") == 1 and "written" in captured.err
    assert found["query"] == "bright" and found["index"] == str(index)
    assert found["videos"] == str(videos) and found["clips"] == 7
    best = found["hits"][0]
    assert best["file"] == "sub/grey.mp4" and best["path"] == str(videos / "sub" / "grey.mp4")
    assert best["found_by"] in ("both", "words") and best["words"] == ["bright"]
    assert (best["start"], best["end"]) == (0.4, 1.2) and 0 < best["score"] < 1
    assert search_command.main([f"--index={index}", "--json", "--words_only", "läuft"]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["score"] is None


def test_the_printed_command_works(videos, address, tmp_path, capsys, monkeypatch):
    (videos / "dark.srt").write_text(SRT.format("It's a Hund; läuft", "weg"))
    out = tmp_path / "my index"
    flags = [f"--videos={videos}", f"--out={out}", f"--server={address}"]
    assert embed_command.main(flags) == 0
    printed = capsys.readouterr().out
    assert "captions of 1 of 3 videos are searched too" in printed
    line = printed.splitlines()[-1].removeprefix("search it: ")
    python, _, module, *arguments = shlex.split(line)
    assert (python, module) == ("python", "vatt_tf.search")
    monkeypatch.chdir("/")
    assert search_command.main(arguments) == 0
    assert "   1 " in capsys.readouterr().out


def test_captions_that_cannot_be_read_are_listed(videos, address, tmp_path, capsys):
    (videos / "dark.srt").write_text("no cue")
    flags = [f"--videos={videos}", f"--out={tmp_path / 'o'}", f"--server={address}"]
    assert embed_command.main(flags) == 0
    assert "  captions: not used: " in capsys.readouterr().out


def test_messages_show_no_objects(index):
    path = index / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["spaces"]["va"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError) as error:
        search(index, audio="x.wav")
    assert "its spaces: vt (with text, 4 dimensions)" in str(error.value)
    assert not set("{}[]") & set(str(error.value))


@pytest.mark.parametrize("url", ["http://localhost:8501", "HTTPS://localhost:8500/v1", "http://x"])
def test_a_url_is_no_server(index, url, capsys):
    assert search_command.main([f"--index={index}", "hund", f"--server={url}"]) == 2
    error = capsys.readouterr().err
    assert "expected host:port of the server's gRPC port" in error and error.count("\n") == 1


def test_a_rest_port_is_named(index, capsys):
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Quiet) as rest:
        threading.Thread(target=rest.serve_forever, daemon=True).start()
        address = f"localhost:{rest.server_port}"
        assert answers_http(address)
        with Client(address, retries=1) as client, pytest.raises(UserError) as error:
            client.embed_text("hund")
        assert f"{address}: a REST server answers there; give the server's gRPC port" in str(
            error.value
        )
        rest.shutdown()
    assert not answers_http(address) and not answers_http("localhost")
