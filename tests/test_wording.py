"""Numbers and lines as the commands print them."""

import pathlib
import re

from tests.conftest import CHECKOUT
from vatt_tf.wording import count_of, fixed, wrapped


def test_one_is_not_several():
    assert [count_of(n, "clip") for n in (0, 1, 2000)] == ["0 clips", "1 clip", "2,000 clips"]
    assert count_of(1, "query", "queries") == "1 query" and "2 q" in count_of(2, "query", "queries")


def test_nothing_has_no_sign():
    assert [fixed(x, 2) for x in (-0.001, 0.001, -0.02, 81.234)] == [
        "0.00",
        "0.00",
        "-0.02",
        "81.23",
    ]


def test_long_lines_fit_the_terminal():
    line = "protocol: " + "mean-of-embeddings " * 20
    assert all(len(part) <= 120 for part in wrapped(line).splitlines())
    assert wrapped("short") == "short"


def test_no_message_leaves_the_plural_to_the_reader():
    found = []
    for folder in ("vatt_tf", "export", "serving"):
        for path in pathlib.Path(CHECKOUT, folder).rglob("*.py"):
            if re.search(r"\b(clip|window|crop|replica|example|file)\(s\)", path.read_text()):
                found.append(path.name)
    assert not found
