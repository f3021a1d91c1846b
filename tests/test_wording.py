"""Numbers and lines as the commands print them."""

import ast
import pathlib
import re
from collections.abc import Iterator

from tests.conftest import CHECKOUT
from vatt_tf.wording import count_of, fixed, percent, shortened, wrapped

NOUNS = (
    "array caption class clip crop draw example file frame image line model name picture "
    "process prompt query record replica row sample shard step test training value variable "
    "vector version video window word"
)
# A number and a plural, which reads "1 clips" where count_of would print "1 clip". After "of" and
# "all" there are several.
PLURAL = re.compile(
    rf"(?<!of )(?<!of the )(?<!all )(?<!all )\x00(?: test| training)? "
    rf"(?:{'|'.join(NOUNS.split())})(?:e?s|ies)\b(?!/)"
)
OLD_STYLES = {
    "a plural for the reader": re.compile(r"\b(clip|window|crop|replica|example|file)\(s\)"),
    "a percent sign without a blank": re.compile(r"[\d\x00]%(?![\w;\"'])"),
    "a metric's key": re.compile(r"(?<![\w{'\"/])top[15](?![\w'\"/])"),
    "a number and a plural": PLURAL,
}


def printed_texts() -> Iterator[tuple[str, int, str]]:
    """File, line and text of the f-strings of package and tools; a NUL stands for a value.

    A constant is left out: whoever writes it knows that it is several.
    """
    for folder in ("vatt_tf", "export", "serving", "tools"):
        for path in sorted(pathlib.Path(CHECKOUT, folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield str(path.relative_to(CHECKOUT)), node.lineno, text_of(node)


def text_of(node: ast.JoinedStr) -> str:
    parts = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(part.value)
        elif isinstance(part, ast.FormattedValue) and isinstance(part.format_spec, ast.JoinedStr):
            # A format such as .0% prints the sign.
            spec = text_of(part.format_spec)
            parts.append("\x00%" if spec.endswith("%") else "\x00")
        elif not re.fullmatch(r"(len\()?_?[A-Z_]+\)?", ast.unparse(part.value)):
            parts.append("\x00")
    return "".join(parts)


def test_no_message_is_written_in_an_old_style():
    found = [
        f"{file}:{line}: {what}: {text.replace(chr(0), '{}')!r}"
        for file, line, text in printed_texts()
        for what, pattern in OLD_STYLES.items()
        # The tools measure with several of everything.
        if pattern.search(text) and not (pattern is PLURAL and file.startswith("tools/"))
    ]
    assert not found, "\n".join(found)


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


def test_fractions_are_percentages():
    assert [percent(x) for x in (0.8124, -0.0001, 1)] == ["81.2 %", "0.0 %", "100.0 %"]
    assert percent(0.5, 0) == "50 %"


def test_long_lines_fit_the_terminal():
    line = "protocol: " + "mean-of-embeddings " * 20
    assert all(len(part) <= 120 for part in wrapped(line).splitlines())
    assert wrapped("short") == "short"


def test_long_names_keep_both_ends():
    assert shortened("a/short/name.mp4", 20) == "a/short/name.mp4"
    assert shortened("a/much/longer/name.mp4", 13) == "a/muc...e.mp4"
