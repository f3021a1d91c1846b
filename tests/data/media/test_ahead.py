"""A thread reads ahead; a decoder that hangs costs its file, not the job."""

import itertools
import threading

import pytest

from tests.data.media import numbered
from vatt_tf import prepare as command
from vatt_tf.data import media
from vatt_tf.data.media import ahead
from vatt_tf.data.media.tracks import container
from vatt_tf.data.media.tracks.track import Track
from vatt_tf.data.prepare.plan import Settings
from vatt_tf.data.schema import ClipSpec
from vatt_tf.search_index import embedding


def test_items_come_in_order_and_errors_are_raised_here():
    def items():
        yield from range(5)
        raise KeyError("five")

    found = ahead.read_ahead(items(), 2)
    assert list(itertools.islice(found, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError, match="five"):
        next(found)


def test_slow_is_not_hanging(monkeypatch):
    monkeypatch.setattr(ahead, "PATIENCE_SECONDS", 0.01)
    steps = itertools.count()
    go = threading.Event()

    def progress():
        step = next(steps)
        if step == 5:
            go.set()
        return step

    assert list(ahead.read_ahead(iter(lambda: go.wait(9) and 1, 1), 1, progress)) == []
    with pytest.raises(ahead.StalledError, match=r"came no further for 0.01 s"):
        next(ahead.read_ahead(iter(threading.Event().wait, 1), 1, lambda: 7))


def test_a_decoder_that_hangs(tmp_path, monkeypatch):
    """Both commands keep the other file, and leave the hanging one alone."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        numbered.write(videos / name, 1.0)
    decode, released = Track._frames, threading.Event()

    def hang(self, *arguments):
        if str(self.path).endswith("a.mp4") and self._number > 5:
            released.wait()
        return decode(self, *arguments)

    monkeypatch.setattr(ahead, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(Track, "_frames", hang)
    settings = Settings(short_side=32, num_shards=1)
    try:
        content = command.prepare(videos, tmp_path / "out", settings, tokenizers=(), jobs=1)
        clip = ClipSpec(frames=4, height=16, width=16, frame_rate=5.0)
        found = list(embedding.read_windows(embedding.find_videos(videos), clip, 0.8, 0.8))
    finally:
        released.set()
    assert content["splits"]["train"]["records"] == 1
    reason = "the decoder came no further for 0.2 s"
    assert [(e["file"], e["reason"]) for e in content["quarantine"]] == [("a.mp4", reason)]
    ends = [item for item in found if isinstance(item, embedding.End)]
    assert [(end.video.name, end.reason) for end in ends] == [("a.mp4", reason), ("b.mp4", "")]


def test_a_file_that_does_not_answer(tmp_path, monkeypatch):
    path = numbered.write(tmp_path / "a.mp4", 1.0)
    reader = media.ClipReader(path)
    reader.close()
    monkeypatch.setattr(container, "ANSWER_SECONDS", 0.0)
    with pytest.raises(container.UnreachableError, match="a.mp4: no answer within"):
        media.read_clip(path)
