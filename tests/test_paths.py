"""Paths as users write them, and the flags that take them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import os
import pathlib
import sys

import pytest

from vatt_tf import cli, paths

# Module -> function that makes its flags.
PARSERS = {
    "vatt_tf.prepare": "_flags",
    "vatt_tf.train": "parser",
    "vatt_tf.evaluate": "build_parser",
    "vatt_tf.convert": "build_parser",
    "vatt_tf.deflate": "build_parser",
    "vatt_tf.embed": "build_parser",
    "vatt_tf.search": "build_parser",
    "vatt_tf.benchmark": "parser",
    "vatt_tf.search_index.benchmark": "build_parser",
    "vatt_tf.export.__main__": "build_parser",
    "vatt_tf.serving.__main__": "build_parser",
    "vatt_tf.serving.benchmarks.latency": "build_parser",
    "vatt_tf.serving.conformance.__main__": "build_parser",
}
# Words in the name or the help of a flag that takes a path, and flags that have one and do not.
PATH_WORDS = ("file", "folder", "directory", "prefix of", "base path", "clips to fit")
NO_PATH = {
    "--language", "--sample", "--file_system_poll_wait_seconds", "--report", "--data",
    "--model_config_file_poll_wait_seconds", "--enable_per_model_batching_parameters",
    "--cut", "--gin_bindings", "--checkpoint", "--media", "--dataset", "--views",
    "--saved_model_tags", "--tokenizers", "--compare",
}  # fmt: skip
ALWAYS = {
    "vatt_tf.prepare": {"--videos", "--manifest", "--annotations", "--captions_dir"},
    "vatt_tf.evaluate": {"--data", "--prompts", "--run_dir"},
    "vatt_tf.convert": {"--checkpoint", "--gin_file", "--vocabulary", "--word_vectors"},
}


def make(folder: pathlib.Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    "given, expected",
    [
        ("~", "/home/u"),
        ("~/x/y", "/home/u/x/y"),
        ("~root/x", "~root/x"),
        ("./~/x", "./~/x"),
        ("a/~/x", "a/~/x"),
        ("~x", "~x"),
        ("gs://b/~/x", "gs://b/~/x"),
    ],
)
def test_only_a_tilde_at_the_start_is_the_home_folder(monkeypatch, given, expected):
    monkeypatch.setenv("HOME", "/home/u")
    assert paths.expand(given) == expected
    assert cli.path(given) == expected
    assert paths.expand("") == ""


def test_paths_that_are_no_strings(monkeypatch):
    monkeypatch.setenv("HOME", "/home/u")
    assert paths.expand(pathlib.Path("~/x")) == pathlib.Path("/home/u/x")
    assert paths.expand(pathlib.Path("a/~")) == pathlib.Path("a/~")
    # pathlib makes "~/x" of "./~/x".
    assert paths.expand(paths.as_text(pathlib.Path("./~/x"))) == "./~/x"
    assert paths.as_text(pathlib.Path("a")) == "a"


def test_expansion_inside_of_values(monkeypatch):
    monkeypatch.setenv("HOME", "/h")

    @dataclasses.dataclass(frozen=True)
    class Config:
        one: object
        other: object = "~/left"

        def __post_init__(self):
            paths.expand_fields(self, "one")

    assert Config({"video": "~/v", "audio": None}).one == {"video": "/h/v", "audio": None}
    assert Config(("~/a", "b")).one == ("/h/a", "b")
    assert Config(None) == Config(None) and Config(1).other == "~/left"


def test_what_exists_is_no_pattern(tmp_path, monkeypatch):
    make(tmp_path, "s/set1/a", "s/set[12]/a", "s/set[12]/b", "x*/c", "xy/c", "q?/d", "qq/d")
    monkeypatch.chdir(tmp_path)
    assert paths.find("s/set[12]") == ["s/set[12]"]
    assert paths.find("s/set[12]/*") == ["s/set[12]/a", "s/set[12]/b"]
    assert paths.find(f"{tmp_path}/x*/*") == [f"{tmp_path}/x*/c"]
    assert paths.find("q?/d") == ["q?/d"]


def test_patterns(tmp_path, monkeypatch):
    make(tmp_path, "s/set1/a.x", "s/set2/a.x", "s/set2/.a.x", "s/set3/b", "t/c[1].x", "t/c[2].x")
    monkeypatch.chdir(tmp_path)
    assert paths.find("s/set[12]/*.x") == ["s/set1/a.x", "s/set2/a.x"]
    assert paths.find("s/set[^1]/?") == ["s/set3/b"]
    assert paths.find("s/*/.a*") == ["s/set2/.a.x"]
    assert paths.find("s/se*") == ["s/set1", "s/set2", "s/set3"]
    assert paths.find("t/c[1]*") == ["t/c[1].x"]  # no c1 there: brackets are characters
    assert paths.find("t/*[[]2]*") == ["t/c[2].x"]
    assert paths.find("s/absent*/a") == paths.find("absent/*") == paths.find("absent") == []


def test_names_in_other_bytes_are_shown(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.mp4")
    assert paths.shown(name) == "caf\\xe9 é.mp4"
    assert paths.shown("\ud800") == "\\ud800"
    assert paths.shown(pathlib.Path("a/é")) == "a/é"
    assert paths.is_utf8("é") and not paths.is_utf8(name)
    make(tmp_path, name)
    assert paths.list_names(str(tmp_path)) == [name]


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\\b", "caf\udce9"])
def test_tensorflow_reads_through_a_plain_name(tmp_path, name):
    folder = tmp_path / name
    make(folder, "ckpt[1]-1.index", "ckpt[1]-1.data-00000-of-00001", "ckpt[1]-10.index")
    with paths.readable_by_tensorflow(folder) as plain:
        assert sorted(os.listdir(plain)) == sorted(os.listdir(folder))
    assert not os.path.lexists(plain) and len(os.listdir(folder)) == 3
    with paths.readable_by_tensorflow(f"{folder}/ckpt[1]-1") as plain:
        assert os.path.samefile(f"{plain}.index", f"{folder}/ckpt[1]-1.index")
        assert len(os.listdir(os.path.dirname(plain))) == 2
        assert paths.is_utf8(plain) and not set("*?[]\\") & set(plain)
    assert not os.path.exists(os.path.dirname(plain)) and len(os.listdir(folder)) == 3


def test_paths_that_tensorflow_reads_need_no_link():
    for path in ("runs/a/ckpt-1", "gs://bucket/a[1]/ckpt-1", "~"):
        with paths.readable_by_tensorflow(path) as same:
            assert same == path


@pytest.mark.parametrize("module", PARSERS)
def test_every_flag_that_takes_a_path_takes_the_home_folder(module):
    parser = getattr(importlib.import_module(module), PARSERS[module])()
    subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parsers = [parser, *(p for action in subparsers for p in action.choices.values())]
    flags = {a.option_strings[0]: a for p in parsers for a in p._actions if a.option_strings}
    checked = {
        flag
        for flag, action in flags.items()
        if action.nargs != 0
        and flag not in NO_PATH
        and any(word in f"{flag} {action.help}".lower() for word in PATH_WORDS)
    }
    checked |= ALWAYS.get(module, set()) | ({"--out", "--run_dir", "--models"} & set(flags))
    if module == "vatt_tf.export.__main__":
        checked -= {"--models"}  # names
    assert checked
    wrong = [flag for flag in sorted(checked) if flags[flag].type is not cli.path]
    assert not wrong, f"{module}: {wrong} take no ~/"


def test_a_terminal_that_cannot_show_a_name(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))

    def command() -> int:
        print("caf\udce9 é")
        return 0

    assert cli.run(command) == 0
    sys.stdout.flush()
    assert raw.getvalue() == b"caf\\udce9 \\xe9\n"


def test_a_name_that_a_library_refuses_is_one_line(capsys):
    def command() -> int:
        "runs/caf\udce9".encode()
        return 0

    assert cli.run(command) == 2
    assert capsys.readouterr().err == "error: runs/caf\\xe9: is not valid UTF-8; rename it\n"
    with contextlib.suppress(UnicodeEncodeError):  # a fault of the program is no user's mistake
        pytest.fail(str(cli.run(lambda: len("é".encode("ascii")))))
