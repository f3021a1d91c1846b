"""One job at a time in a folder, also where the disk has no locks."""

import errno
import fcntl

import pytest

from vatt_tf.data.shards.lock import only_job
from vatt_tf.errors import UserError


def test_a_second_job_is_refused_until_the_first_one_ends(tmp_path):
    with only_job(tmp_path, "embed"):
        with (
            pytest.raises(UserError, match="another embed is at work"),
            only_job(tmp_path, "embed"),
        ):
            pytest.fail("two at once")
    with only_job(tmp_path, "embed"):
        pass


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"no file locks \(No locks available\), and two jobs"):
        with only_job(tmp_path, "embed"):
            pytest.fail("two could be at work")
    warnings, done = [], []
    with only_job(tmp_path, "prepare", without_locks=warnings.append):
        done.append("prepared")
    (warning,) = warnings
    assert "no second prepare is at work in this folder" in warning and done == ["prepared"]
