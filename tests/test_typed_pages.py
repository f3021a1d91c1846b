"""Every command of README and of the pages of docs/, typed in order, from a clean folder.

The pages are the only copy of the commands. What makes them small comes from the environment:
``VATT_TF_GIN_BINDINGS`` for the trainings, the number of sample videos, the sizes of the
benchmarks, addresses. What a page takes from its readers is made by ``page_material``. A path is
typed in a clean clone. Another page names the path that it goes on from, and is typed in a copy of
what that one has left.
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
import tempfile
from collections.abc import Callable

import pytest

from tests import page_material
from tests.conftest import CHECKOUT, locked
from vatt_tf.config import BINDINGS_VARIABLE
from vatt_tf.training.cluster.local_workers import free_ports

# On a clean clone it does the same for each path that begins with it.
QUICKSTART = "make quickstart\n"
ACTIVATE = "source .venv/bin/activate\n"
PATHS = ("search_my_videos", "reproduce_and_extend", "deploy")
DOCS = CHECKOUT / "docs"
# Bindings for every training that is typed, but on pages of `SIZES`.
STEPS = "STEPS=4;BATCH_SIZE=8"
ONE_LAYER = [f"{modality}_tower.num_layers=1" for modality in ("video", "audio", "text")]
SMALL = {
    "VATT_TF_SAMPLE_CLIPS": "192",  # of two colours
    "VECTORS": "8192",  # of the benchmark of indexes
    "MINUTES": "0.1",  # of the server under load
    "ROUND": "1",  # seconds
    "ROUNDS": "1",  # of a benchmark
}
# The towers of the small published checkpoints, for gin files that name large ones.
TOWERS = page_material.towers()
# A run goes on with its layers, and an agnostic model refuses sizes of single towers.
SIZES = {
    **dict.fromkeys(("finetuning", "reliability", "reproduce_and_extend"), STEPS),
    **dict.fromkeys(("checkpoints", "published_weights"), TOWERS),
    **dict.fromkeys(
        ("datasets", "performance", "scaling"),
        f"STEPS=2;BATCH_SIZE=4;MICRO_BATCH_SIZE=None;{TOWERS}",
    ),
}
# What a page takes from its readers, beside what all have.
MATERIAL = {
    "checkpoints": page_material.published_weights,
    "datasets": page_material.official_files,
    "published_weights": page_material.published_weights,
}
# What the programs tell that stand in for others, or read what these wrote.
TOLD = {
    "checkpoints": ["weights/lbs", "weights/mmv_s3d"],
    "datasets": ["val: 1 clip (1 with sound", "train: 2 clips (2 with sound, 2 with captions)"],
    "preparing_data": ["train: 4 clips (4 with sound, 4 with captions)"],
    "published_weights": ["./howto100m_en.txt"],
    "serving_production": [" passed, 0 failed"],
}
# What cannot be had everywhere: the blocks (``# needs ...: no test runs this``) of each page.
NEEDS = {
    "performance": ["a GPU"],
    "scaling": ["GPUs", "a TPU", "root"],
    "serving_production": ["Docker", "Kubernetes", "Docker"],
}
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
    needs = ("# needs ",) if page_material.HEARS else ("# needs ", "whisper-small")
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
    page_material.own_material(folder)


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=copied)


def copied(source: str, target: str) -> None:
    """Copies a file; what no command changes, and most of the bytes, is linked."""
    (os.link if source.endswith((".tfrecord", ".mp4")) else shutil.copy2)(source, target)


def environment(name: str, folder: pathlib.Path) -> dict[str, str]:
    """The environment of a new shell: no active virtual environment, a page's sizes."""
    active = os.path.join(sys.prefix, "bin")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    kept.pop("VIRTUAL_ENV", None)
    parts = [part for part in kept["PATH"].split(os.pathsep) if part != active]
    kept["PATH"] = os.pathsep.join([str(folder / page_material.PROGRAMS), *parts])
    kept["HOSTS"] = ",".join(f"localhost:{port}" for port in free_ports(2))
    kept["PUBLISHED"] = (folder / "vatt").as_uri()
    if (folder / "few").is_dir():
        kept["VIDEOS"] = "few"
    bindings = SIZES.get(name, ";".join([STEPS, *ONE_LAYER]))
    return kept | SMALL | {BINDINGS_VARIABLE: bindings}


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def type_page(name: str, folder: pathlib.Path) -> None:
    """Types a page in a folder, of a path what follows on the first line that paths share."""
    script = typed(page_of(name)).removeprefix(QUICKSTART)
    # What another host types at the same time, with its own number.
    hosts = [block for block in blocks(page_of(name)) if "HOST_NUMBER" in block]
    type_scripts(name, folder, ("" if name in PATHS else ACTIVATE) + script, *hosts)


def type_scripts(name: str, folder: pathlib.Path, script: str, *others: str) -> None:
    """Types commands in a folder, and leaves the exit code and the output there.

    Pages that serve on the same port take turns; one whose port another program has is skipped.

    Args:
        name: The page, or what is typed.
        folder: Where.
        script: The commands.
        others: What is typed in further shells at the same time.
    """
    ports = sorted({int(port) for port in re.findall(r"port=(\d+)", script)})
    lock = pathlib.Path(tempfile.gettempdir()) / f"vatt_tf_port_{ports[0] if ports else name}.lock"
    own = environment(name, folder)
    with locked(lock), open(folder / OUTPUT, "w") as file:
        if busy := [port for port in ports if taken(port)]:
            pytest.skip(f"{name}.md serves on port {busy[0]}, which another program has")
        shells = [
            subprocess.Popen(
                ["bash", "-e", "-x", "-c", text],
                cwd=folder,
                env=own | {"HOST_NUMBER": str(number)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for number, text in enumerate([script, *(ACTIVATE + other for other in others)])
        ]
        code = 0
        try:
            for shell in shells:
                code = code or shell.wait(TIMEOUT)
        finally:
            for shell in shells:
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

    def begin(folder: pathlib.Path) -> None:
        clean_folder(folder)
        type_scripts("quickstart", folder, QUICKSTART)

    def make(name: str, folder: pathlib.Path) -> None:
        if typed(page_of(name)).startswith(QUICKSTART):
            begun = made_once("quickstart", begin)
            check("quickstart", begun)
            copy(begun, folder)
        else:
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
        copy(typed_path(base), folder)
    else:
        clean_folder(folder)
    try:
        MATERIAL.get(name, lambda folder: None)(folder)
        type_page(name, folder)
        check(name, folder)
    finally:
        shutil.rmtree(folder)  # up to a gigabyte


def check(name: str, folder: pathlib.Path) -> None:
    code, output = (folder / CODE).read_text(), (folder / OUTPUT).read_text()
    assert code == "0", f"{name}.md: exit code {code}\n{output[-4000:]}"
    missing = [line for line in TOLD.get(name, ()) if line not in output]
    assert not missing, f"{name}.md: the output lacks {missing}\n{output[-4000:]}"


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
