"""How commands end: one line and an exit code."""

import pytest

from vatt_tf import benchmark, cli, convert, deflate, embed, evaluate
from vatt_tf.export import __main__ as export
from vatt_tf.export import writer


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "name", "flags", "kept"),
    [
        (benchmark, "_benchmark", ["--gin_file=tiny.gin"], "nothing was written"),
        (convert, "convert", ["--checkpoint=a", "--out=b"], "b is written whole or not at all"),
        (deflate, "deflate", ["--run_dir=a", "--images=b", "--out=c"], "c is written whole or not"),
        (embed, "embed", ["--videos=a", "--out=b"], "finished videos are kept: the same command"),
        (evaluate, "evaluate", ["--run_dir=a", "--data=b"], "finished evaluations are in results"),
        (export, "export_models", ["--run_dir=a", "--out=b"], "versions are written whole or not"),
    ],
)
def test_ctrl_c_is_one_line_that_says_what_is_kept(module, name, flags, kept, monkeypatch, capsys):
    # The command imports this one when it runs.
    monkeypatch.setattr(writer if module is export else module, name, interrupt)
    assert module.main(flags) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"interrupted; {kept}") and "same command" in line


def test_an_import_that_ctrl_c_cuts_short_has_no_traceback(capsys):
    def command():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    assert cli.run(command) == 130
    assert capsys.readouterr().err == "interrupted\n"
    with pytest.raises(ImportError):
        cli.run(lambda: __import__("no_such_module"))
