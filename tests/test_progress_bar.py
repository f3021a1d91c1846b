"""The progress bar of all commands."""

import pytest

from vatt_tf.progress_bar import progress_bar


@pytest.mark.parametrize(
    ("unit", "total", "parts"),
    [
        ("steps", 4, ("doing: 100%|", "4/4 [", " steps/s, loss 1.000]")),
        ("B", 4_000_000, ("doing: 100%|", "4.00M/4.00M [", "B/s, loss 1.000]")),
        ("clips", None, ("doing: 0 clips [", " clips/s, loss 1.000]")),
    ],
)
def test_every_bar_has_the_same_form(unit, total, parts, capsys):
    with progress_bar("doing", total, unit, initial=total or 0) as bar:
        bar.set_postfix_str("loss 1.000")
    line = capsys.readouterr().err.split("\r")[-1]
    assert all(part in line for part in parts) and "s/ " not in line


def test_quiet(capsys):
    with progress_bar("doing", 4, "steps", quiet=True) as bar:
        bar.update(4)
    assert capsys.readouterr() == ("", "")
