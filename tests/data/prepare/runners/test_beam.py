"""The Beam pipeline makes the same shards as the local processes."""

import sys

import pytest

from tests.data.test_prepare import SMALL, digests, make_video
from vatt_tf import prepare as command
from vatt_tf.data.prepare.folder import ShardsFolder
from vatt_tf.data.prepare.plan import Settings
from vatt_tf.data.prepare.runners import beam
from vatt_tf.errors import UserError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a", "b", "c"):
        make_video(folder / f"{name}.mp4", 1.0)
    (folder / "bad.mp4").write_bytes(b"")
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    return folder


def test_same_shards_as_without_beam(videos, tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra [beam]")
    local = command.prepare(videos, tmp_path / "local", SMALL, tokenizers=())
    beam = command.prepare(videos, tmp_path / "beam", SMALL, tokenizers=(), runner="beam")
    assert digests(tmp_path / "local") == digests(tmp_path / "beam")
    assert local == beam
    assert len(beam["quarantine"]) == 1
    # Nothing left to do: the pipeline is not even started.
    again = command.prepare(videos, tmp_path / "beam", SMALL, tokenizers=(), runner="beam")
    assert again == beam


@pytest.mark.check
def test_beam_flags_are_passed_on_and_workers_may_be_other_processes(videos, tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra [beam]")
    arguments = [f"--videos={videos}", "--short_side=32", "--tokenizers=", "--quiet"]
    assert command.main([*arguments, f"--out={tmp_path / 'local'}", "--jobs=1"]) == 0
    arguments += [f"--out={tmp_path / 'beam'}", "--runner=beam", "--", "--runner=DirectRunner"]
    arguments += ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert command.main(arguments) == 0
    assert digests(tmp_path / "beam") == digests(tmp_path / "local")
    assert len(digests(tmp_path / "beam")) == 4


def test_failing_pipeline_is_one_clear_error(videos, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="needs the extra [beam]")
    claim = ShardsFolder.begin

    def spoil(folder, *arguments):
        claim(folder, *arguments)
        (tmp_path / "train").write_text("a file where a folder must be")

    monkeypatch.setattr(ShardsFolder, "begin", spoil)
    with pytest.raises(UserError, match="the shard cannot be written"):
        command.prepare(videos, tmp_path, SMALL, tokenizers=(), runner="beam")


def test_without_beam_the_error_says_what_to_install(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(beam.BeamError, match=r"pip install 'vatt_tf\[beam\]'"):
        command.prepare(videos, tmp_path, Settings(), runner="beam")
