"""The bytes of a joined FLV without its inner headers, against slices of the whole."""

import random

import pytest

from vatt_tf.data.media.tracks.joined_flv import JoinedFile, inner_headers

HEADER = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"


def joined(tmp_path, pieces):
    """A file of pieces with a header before each, and its bytes without the inner ones."""
    path = tmp_path / "a.flv"
    path.write_bytes(HEADER + HEADER.join(pieces))
    return path, HEADER + b"".join(pieces)


@pytest.mark.parametrize("pieces", [[b"one"], [b"", b""], [b"one", b"", b"three", b""]])
def test_reads_and_seeks_are_those_of_the_bytes_that_are_left(tmp_path, pieces):
    path, expected = joined(tmp_path, pieces)
    headers = inner_headers(path)
    assert len(headers) == len(pieces) - 1
    file = JoinedFile(path, headers)
    assert b"".join(iter(lambda: file.read(5), b"")) == expected
    draw = random.Random(0)
    for _ in range(50):
        place, count = draw.randrange(len(expected) + 2), draw.randrange(1, 9)
        assert file.seek(place) == file.tell() == place
        found = file.read(count)
        assert expected[place : place + count].startswith(found)
        assert bool(found) == (place < len(expected))
    assert file.seek(0, 2) == len(expected)
    file.close()


def test_a_file_of_headers_alone_is_read_in_a_moment(tmp_path):
    path, expected = joined(tmp_path, [b"x"] * 100_000)
    file = JoinedFile(path, inner_headers(path))
    assert b"".join(iter(lambda: file.read(32_768), b"")) == expected
    file.close()


def test_other_files_have_no_inner_headers(tmp_path):
    path = tmp_path / "a.flv"
    path.write_bytes(b"RIFF" + HEADER)
    assert inner_headers(path) == ()
    path.write_bytes(b"")
    assert inner_headers(path) == ()
