"""Every command of README and of the three paths, typed in order, in a clean folder.

The pages are the only copy of the commands. What makes them small comes from outside:
``VATT_TF_GIN_BINDINGS`` for the trainings.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from vatt_tf.config import BINDINGS_VARIABLE

PATHS = ("search_my_videos", "reproduce_and_extend", "deploy")
SMALL = "STEPS=4;BATCH_SIZE=8"
# What a clone does not have, and the environment, which is made anew.
LEFT_OUT = {".venv", ".git", "data", "runs", "models", "indexes"}
TIMEOUT = 1800  # seconds a page


def typed(page: pathlib.Path) -> str:
    """The bash blocks of a page as one script."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```", page.read_text("utf-8"), re.M | re.S))


def page_of(name: str) -> pathlib.Path:
    return CHECKOUT / "docs" / f"{name}.md"


@pytest.fixture
def clean_folder(tmp_path) -> pathlib.Path:
    """A clone with its environment installed, made of links; what the commands write stays here."""
    folder = tmp_path / "clone"
    for source, target in ((CHECKOUT, folder), (pathlib.Path(sys.prefix), folder / ".venv")):
        target.mkdir()
        for item in source.iterdir():
            if item.name not in LEFT_OUT | {".installed"}:
                (target / item.name).symlink_to(item)
    (folder / ".venv" / ".installed").touch()  # after the packaging files: nothing to install
    return folder


def environment() -> dict[str, str]:
    """The environment of a new shell: no active virtual environment, small trainings."""
    active = os.path.join(sys.prefix, "bin")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    kept.pop("VIRTUAL_ENV", None)
    kept["PATH"] = os.pathsep.join(
        part for part in kept["PATH"].split(os.pathsep) if part != active
    )
    return kept | {BINDINGS_VARIABLE: SMALL}


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


@pytest.mark.check
@pytest.mark.skipif(not shutil.which("make") or not shutil.which("curl"), reason="make and curl")
@pytest.mark.parametrize("name", PATHS)
def test_page_can_be_typed_from_top_to_bottom(name, clean_folder):
    script = typed(page_of(name))
    ports = [int(port) for port in re.findall(r"port=(\d+)", script)]
    if busy := [port for port in ports if taken(port)]:
        pytest.skip(f"{name}.md serves on port {busy[0]}, which another program has")
    output = clean_folder / "output.txt"
    with open(output, "w") as file:
        shell = subprocess.Popen(
            ["bash", "-e", "-x", "-c", script],
            cwd=clean_folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(TIMEOUT)
        finally:
            kill_group(shell)
    assert code == 0, f"{name}.md: exit code {code}\n{output.read_text()[-4000:]}"


def kill_group(shell: subprocess.Popen) -> None:
    """Ends the shell and what it has started, e.g. a server behind a command that failed."""
    try:
        os.killpg(shell.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shell.wait()


def commands(script: str) -> set[str]:
    """Lines without their comments."""
    return {line.split("  #")[0].strip() for line in script.splitlines()} - {""}


def test_readme_types_nothing_that_the_paths_do_not():
    known = set().union(*(commands(typed(page_of(name))) for name in PATHS))
    assert commands(typed(CHECKOUT / "README.md")) <= known


@pytest.mark.parametrize("name", PATHS)
def test_page_begins_with_commands_and_names_no_placeholder(name):
    text = page_of(name).read_text("utf-8")
    assert re.match(r"# .+\n\n```bash\n", text)
    assert not re.findall(r"/path/to|my_videos|FOLDER|DIR\b", typed(page_of(name)))
