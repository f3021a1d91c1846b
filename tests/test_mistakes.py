"""What a user gets wrong on the command line is one line: what, where, what to do; exit code 2."""

from __future__ import annotations

import argparse
import importlib
import pathlib
import re

import pytest

from tests.conftest import CHECKOUT
from vatt_tf import cli
from vatt_tf.__main__ import COMMANDS
from vatt_tf.__main__ import main as list_commands

# A value of no type, and numbers that are out of range.
WRONG = {
    int: ("many", "1.5", ""),
    float: ("high", ""),
    cli.positive: ("many", "0", "-1", "1.5", ""),
    cli.whole: ("many", "-1", ""),
    cli.above_zero: ("high", "0", "-2", "nan", "inf", ""),
    cli.path: ("", " "),
}


def module_of(command: str):
    module = importlib.import_module(f"vatt_tf.{command}")
    if command == "serving.client":  # a library, too, whose command line is elsewhere
        return importlib.import_module("vatt_tf.serving.client.command")
    if hasattr(module, "__path__"):
        return importlib.import_module(f"vatt_tf.{command}.__main__")
    return module


def parser_of(command: str, monkeypatch) -> argparse.ArgumentParser:
    """The parser of a command, taken when its main function reads its flags."""
    found = []

    class Found(Exception):
        pass

    def take(parser, *_):
        found.append(parser)
        raise Found

    with monkeypatch.context() as patch, pytest.raises(Found):
        patch.setattr(cli.ArgumentParser, "parse_known_args", take)
        module_of(command).main([])
    return found[0]


def mistakes_of(parser: argparse.ArgumentParser) -> list[tuple[list[str], str]]:
    """Command lines with one mistake each, and what their line has to name."""
    subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    # Where required flags are missing, argparse names these and looks at no unknown one.
    needed = [] if subs else required_of(parser)
    found = []
    if not subs:
        found.append(([*needed, "--zzz_no_flag=1"], "unknown flag --zzz_no_flag (see --help)"))
    for sub in subs:
        found.append((["no_such_part"], "invalid choice: 'no_such_part'"))
        for name, inner in sub.choices.items():
            found += [([name, *argv], told) for argv, told in mistakes_of(inner)]
    for action in parser._actions:
        if not action.option_strings or action.help == argparse.SUPPRESS:
            continue
        flag = action.option_strings[0] if action.option_strings[0] != "-h" else "--help"
        if len(flag) > 6 and flag != "--help" and not subs:
            typo = f"{flag[:-2]}{flag[-1]}"
            found.append(([*needed, f"{typo}=1"], f"unknown flag {typo} (did you mean --"))
        if action.nargs is None and not action.const:
            found.append(([flag], "expected a value"))
        values = ["neither"] if action.choices else WRONG.get(action.type, ())
        for value in values:
            told = "invalid choice" if action.choices else "expected a"
            found.append(([f"{flag}={value}"], told))
    return found


def required_of(parser: argparse.ArgumentParser) -> list[str]:
    """The required flags and words of a command."""
    flags = [f"{a.option_strings[0]}=x" for a in parser._actions if a.required and a.option_strings]
    for group in parser._mutually_exclusive_groups:
        flags += [f"{group._group_actions[0].option_strings[0]}=x"] if group.required else []
    words = [a for a in parser._actions if not a.option_strings and a.nargs != "?"]
    return flags + [a.choices[0] if a.choices else "text" for a in words]


def one_line(main, argv, capsys) -> str:
    """The only line that a command prints about its flags; it ends with exit code 2."""
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert code == 2 and len(lines) == 1 and not printed.out, (argv, code, printed)
    assert lines[0].startswith("error: ") and len(lines[0]) > 20, argv
    return lines[0]


def test_every_mistake_with_a_flag_is_one_line(monkeypatch, capsys):
    count = 0
    for command in COMMANDS:
        parser = parser_of(command, monkeypatch)
        for argv, told in mistakes_of(parser):
            line = one_line(module_of(command).main, argv, capsys)
            assert told in line, (command, argv, line)
            count += 1
    assert count >= 300


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_flags(command, monkeypatch):
    parser = parser_of(command, monkeypatch)
    assert isinstance(parser, cli.ArgumentParser)
    assert {"--flagfile", "--verbosity"} <= set(parser._option_string_actions)


# What prints progress or a summary; the others print what they were asked for only.
QUIET = {
    *("prepare", "train", "evaluate", "convert", "deflate", "export", "embed", "search"),
    *("benchmark", "serving.benchmark", "search_index.benchmark", "serving.conformance"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_is_a_flag_of_what_prints_progress(command, monkeypatch, capsys):
    parser = parser_of(command, monkeypatch)
    parts = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parsers = [*parts[0].choices.values()] if parts else [parser]
    for each in parsers:
        assert ("--quiet" in each._option_string_actions) == (command in QUIET)
        assert not {"--silent", "-q", "--no_progress"} & set(each._option_string_actions)
    if command in QUIET:
        return
    line = one_line(module_of(command).main, [*required_of(parser), "--quiet"], capsys)
    assert line == "error: unknown flag --quiet (see --help)"


def test_all_parsers_and_bars_are_the_shared_ones():
    for folder in ("vatt_tf", "export", "serving", "tools"):
        for path in pathlib.Path(CHECKOUT, folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            # gpu_towers.py runs where Keras, JAX and NumPy alone are installed.
            own = path.name in ("cli.py", "gpu_towers.py")
            assert own or "argparse.ArgumentParser(" not in text, path
            assert path.name == "progress_bar.py" or "tqdm(" not in text, path


def test_one_option_has_one_name():
    other_names = {"--output", "--output_dir", "--out_dir", "--batch", "--silent", "--gin_config"}
    # serving.benchmark: texts in a call, which is no batch of the server.
    allowed = {"serving.benchmark": {"--batch"}}
    for command in COMMANDS:
        text = pathlib.Path(module_of(command).__file__).read_text(encoding="utf-8")
        used = {name for name in other_names if f'"{name}"' in text}
        assert used <= allowed.get(command, set()), command


@pytest.fixture
def places(tmp_path):
    """What paths can be wrong with: a text file, an empty file, an empty folder, nothing."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "text.txt").write_text("some words\n")
    return tmp_path


# Command, flags ({0}: the folder of `places`), what the line has to hold.
WRONG_PLACES = [
    ("prepare", "", "--out=DIR is missing"),
    ("prepare", "--out={0}/o", "--videos=DIR is missing"),
    ("prepare", "--out={0}/o --videos={0}/absent", "absent"),
    ("prepare", "--out={0}/o --videos={0}/folder", "folder"),
    ("prepare", "--out={0}/o --videos={0}/text.txt", "text.txt"),
    ("prepare", "--out={0}/text.txt --videos={0}/folder", "folder"),
    ("prepare", "--out={0}/o --videos={0}/folder --manifest={0}/absent.csv", "absent.csv"),
    ("prepare", "--out={0}/o --videos={0}/folder --manifest={0}/folder", "folder"),
    ("prepare", "--out={0}/o --videos={0}/folder --manifest={0}/empty.txt", "empty.txt"),
    ("prepare", "--out={0}/o --videos={0}/folder --dataset=kinetic", "--dataset"),
    ("prepare", "--out={0}/o --videos={0}/folder --fold=1", "--annotations and --fold are for"),
    ("prepare", "--out={0}/o --videos={0}/folder --tokenizers=words", "'words' is none of"),
    ("prepare", "--out={0}/o --videos={0}/folder --frame_rate=0", "frame_rate"),
    ("prepare", "--out={0}/o --videos={0}/folder --frame_rate=nan", "frame_rate"),
    ("prepare", "--out={0}/o --videos={0}/folder --short_side=0", "short_side"),
    ("prepare", "--out={0}/o --videos={0}/folder --jpeg_quality=101", "jpeg_quality"),
    ("prepare", "--out={0}/o --videos={0}/folder --sample_rate=-1", "sample_rate"),
    ("prepare", "--out={0}/o --videos={0}/folder --clip_seconds=-1", "clip_seconds"),
    ("prepare", "--out={0}/o --videos={0}/folder --val_fraction=2", "val_fraction"),
    ("prepare", "--out={0}/o --videos={0}/folder --num_shards=-1", "num_shards"),
    ("prepare", "--out={0}/o --sample --videos={0}/folder", "--sample makes its own videos"),
    ("prepare", "--out={0}/o --videos={0}/folder -- --workers=2", "are for --runner=beam"),
    ("train", "--gin_file={0}/absent.gin", "absent.gin"),
    ("train", "--gin_file={0}/folder", "folder"),
    ("train", "--gin_file=tiny.gin --stop_at_step=0", "--stop_at_step=0: expected 1 or more"),
    ("train", "--gin_file=tiny.gin --worker_index=0", "worker_hosts"),
    ("train", "--gin_file=tiny.gin --gin_bindings=STEPS", "expected NAME=value"),
    ("train", "--gin_file=tiny.gin --gin_bindings=STEPS=0", "train.steps=0"),
    ("train", "--gin_file=tiny.gin --gin_bindings=train.data=[@vatt()]", "[a VattConfig]"),
    ("train", "--gin_file=tiny.gin --gin_bindings=vatt.head=@video_tower()", "a VideoTowerConfig"),
    (
        "train",
        "--gin_file=tiny.gin --gin_bindings=TRAIN_DATA=data/x",
        "--gin_bindings=\"TRAIN_DATA='data/x'\"",
    ),
    ("train", "--gin_file=tiny.gin --gin_bindings=train.model=3", "train.model=3"),
    ("convert", "--checkpoint={0}/absent --out={0}/o", "absent"),
    ("convert", "--checkpoint={0}/folder --out={0}/o", "folder"),
    ("convert", "--checkpoint={0}/text.txt --out={0}/o", "text.txt"),
    ("convert", "--checkpoint={0}/text.txt --out={0}/folder", "exists already"),
    ("deflate", "--run_dir={0}/absent --images={0}/folder --out={0}/o", "no images"),
    ("deflate", "--run_dir={0}/absent --images={0}/text.txt --out={0}/o", "no such folder"),
    ("evaluate", "--run_dir={0}/absent --data={0}/folder", "absent"),
    ("evaluate", "--run_dir={0}/folder --data={0}/folder", "folder"),
    ("evaluate", "--run_dir={0}/text.txt --data={0}/folder", "text.txt"),
    ("export", "--run_dir={0}/absent --out={0}/o", "absent"),
    ("export", "--weights={0}/folder --out={0}/o", "folder"),
    ("embed", "--videos={0}/folder --out={0}/o", "give --run_dir, --models or --server"),
    ("embed", "--videos={0}/absent --out={0}/o --run_dir={0}/folder", "absent"),
    ("embed", "--videos={0}/folder --out={0}/o --run_dir={0}/folder", "folder"),
    ("search", "--index={0}/absent words", "absent"),
    ("search", "--index={0}/folder words", "folder"),
    ("search", "--index={0}/text.txt words", "text.txt"),
    ("search", "--index={0}/folder", "expected one query"),
    ("benchmark", "--gin_file={0}/absent.gin", "absent.gin"),
    ("benchmark", "--gin_file=tiny.gin --parts=all", "'all' is none of"),
    ("benchmark", "--gin_file=tiny.gin --precision=half", "'half' is none of"),
    ("serving", "", "expected one of --models"),
    ("serving", "--models={0}/folder --batching_parameters_file={0}/text.txt", "--enable_batching"),
    ("serving", "--model_config_file={0}/absent", "absent"),
    ("serving", "--model_config_file={0}/folder", "folder"),
    ("data.service", "--port=65536 --workers=1", "there are no 2 ports"),
    ("data.service_benchmark", "--workers=none", "--workers=none"),
    ("serving.fuzz", "--server=localhost:1 --models=all", "all is none of"),
    ("serving.fuzz", "--server=localhost:1 --requests=0", "--requests=0: expected 1 or more"),
    ("serving.conformance", "--server=localhost:1 --only=(", "not a regular expression"),
    ("serving.conformance", "--server=localhost:1 --models={0}/folder", "no models.config there"),
    ("serving.conformance.models", "{0}/o --at=relative", "absolute paths only"),
]


@pytest.mark.parametrize(("command", "flags", "told"), WRONG_PLACES)
def test_what_is_not_there_is_one_line(command, flags, told, places, monkeypatch, capsys):
    from vatt_tf import config

    config.clear()
    monkeypatch.chdir(places)
    line = one_line(module_of(command).main, flags.format(places).split(), capsys)
    config.clear()
    assert told in line
    assert " object at 0x" not in line and "<class" not in line and "Config(" not in line
    assert not (places / "o").exists() or not list((places / "o").rglob("*.*"))


def test_the_list_of_commands(capsys):
    assert list_commands([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 120 for line in lines)
    for command in COMMANDS:
        assert any(line.startswith(f"  python -m vatt_tf.{command} ") for line in lines)
        assert module_of(command).main
    programs = set()
    for folder in ("vatt_tf", "export", "serving"):
        for path in pathlib.Path(CHECKOUT, folder).rglob("*.py"):
            programs |= set(re.findall(r'prog="python -m vatt_tf\.(\S+)"', path.read_text()))
    # Started by other commands only.
    started = {"benchmarking.worker"}
    assert programs - started == set(COMMANDS)
    assert "write python -m vatt_tf.train" in one_line(list_commands, ["trian"], capsys)


def test_flags_from_a_file(tmp_path, capsys):
    parser = cli.ArgumentParser(prog="x")
    parser.add_argument("--steps", type=cli.positive)
    file = tmp_path / "flags"
    file.write_text("# a comment\n--steps=3\n")
    assert vars(parser.parse_args([f"--flagfile={file}"])) == {"steps": 3}
    for wrong in (tmp_path, tmp_path / "absent"):
        assert str(wrong) in one_line(parser.parse_args, [f"--flagfile={wrong}"], capsys)


def test_verbosity_asks_for_the_lines_of_libraries(monkeypatch):
    import logging as python_logging

    from absl import logging

    from vatt_tf import native_log

    logger = python_logging.getLogger("tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.setattr(native_log, "_set_here", True)
    before, level = logging.get_verbosity(), logger.level
    try:
        assert vars(cli.ArgumentParser().parse_args(["--verbosity=warning"])) == {}
        cli.before_tensorflow()  # leaves what was asked for
        assert native_log.os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
        assert native_log.os.environ["GRPC_VERBOSITY"] == "ERROR"
        assert logging.get_verbosity() == logging.WARNING
        assert logger.level == python_logging.WARNING
    finally:
        logging.set_verbosity(before)
        logger.setLevel(level)


def test_libraries_are_quiet_unless_the_environment_asks_for_lines(monkeypatch):
    from vatt_tf import native_log

    for given, quiet in ((None, True), ("1", False)):
        monkeypatch.setattr(native_log, "_set_here", False)
        monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        if given:
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", given)
        assert native_log.limit() is quiet
        assert native_log.os.environ["TF_CPP_MIN_LOG_LEVEL"] == (given or "3")
        assert native_log.os.environ.get("GRPC_VERBOSITY") == ("NONE" if quiet else None)


def test_the_log_of_xla_can_be_limited():
    from vatt_tf import native_log

    # Fails with a TensorFlow of another Abseil: then the name in native_log is to be renewed.
    assert native_log.limit_abseil()


@pytest.mark.parametrize(("given", "fix"), [("--quiett", "--quiet"), ("--out-dir", "--out")])
def test_a_suggestion_only_where_one_is_near(given, fix, capsys):
    parser = cli.ArgumentParser(prog="x")
    for flag in ("--quiet", "--out", "--batch_size"):
        parser.add_argument(flag)
    line = one_line(parser.parse_args, [f"{given}=1"], capsys)
    assert (f"did you mean {fix}?" in line) == (given == "--quiett")
