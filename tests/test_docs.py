"""The documentation says what the code does: links, files, flags and parameters exist."""

from __future__ import annotations

import ast
import functools
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = (
    "prepare",
    "train",
    "convert",
    "deflate",
    "evaluate",
    "export",
    "serving",
    "embed",
    "search",
    "serving.client",
    "serving.conformance",
    "serving.fuzz",
    "serving.benchmark",
    "search_index.benchmark",
    "data.service",
    "data.service_benchmark",
    "benchmark",
)
TOOLS = (
    "tools/first_hour.py",
    "tools/soak.py",
    "tools/run_costs.py",
    "tools/measure_strategies.py",
    "tools/mutated_media.py",
    "tools/scaling_table.py",
    "tools/test_cases.py",
)
SUBCOMMANDS = {"serving.benchmark": ("overhead", "batching", "load", "hostile", "transport")}
# Folders of the checkout that are installed inside the package.
AT_THE_TOP = ("export", "serving")

# Top-level folders and files of the checkout; data/ and runs/ are written by the program.
PATH = re.compile(
    r"(?<![\w/.$}-])(?:(?:vatt_tf|gin_configs|tests|docs|tools|examples|export|serving)/[\w./-]*\w"
    r"|setup\.py|pyproject\.toml|constraints\.txt|Makefile|CONTRIBUTING\.md|LICENSE)(?![\w*<{/])"
)
FLAG = re.compile(r"(?<![\w-])--([A-Za-z][\w-]*)")
# Flags of other programs that the documents name.
OTHER_FLAGS = {"editable", "upgrade", "dist", "durations", "logdir", "help"}
# Options of Apache Beam that `prepare --runner=beam` hands on.
BEAM_FLAGS = {
    "flink_master",
    "direct_num_workers",
    "direct_running_mode",
    "project",
    "region",
    "temp_location",
    "num_workers",
    "parallelism",
    "environment_type",
    "environment_config",
    "sdk_container_image",
    "spark_master_url",
}


def identify(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _start_of(command: str) -> list[str]:
    return [sys.executable, *([command] if command in TOOLS else ["-m", f"vatt_tf.{command}"])]


@functools.cache
def flags_of(command: str) -> frozenset[str]:
    found: set[str] = set()
    for sub in ("", *SUBCOMMANDS.get(command, ())):
        printed = subprocess.run(
            [*_start_of(command), *sub.split(), "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found |= set(FLAG.findall(printed))
    return frozenset(found)


def commands_in(text: str) -> list[str]:
    """Lines of the shell blocks, continuation lines joined."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def anchors_of(text: str) -> set[str]:
    """Anchors of a document's headings, made as the usual Markdown viewers make them."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+\s+(.*?)\s*#*$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", item.lower()).replace(" ", "-") for item in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_links(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{identify(path)} links {target}, which does not exist"
        assert linked.is_relative_to(ROOT), f"{identify(path)} links {target}, outside the project"
        if anchor:
            known = anchors_of(linked.read_text(encoding="utf-8"))
            assert anchor in known, f"{identify(path)} links {target}; headings: {sorted(known)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_lines_fit(path):
    long = [
        number
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert not long, f"{identify(path)}: lines of more than 120 characters: {long}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_tables_have_no_column_of_thresholds(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"^\|.*\|\s*(?:bar|aim)\s*\|", text, flags=re.MULTILINE)


def test_readme_begins_with_both_commands_and_a_picture():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    assert {"make venv", "make quickstart"} <= {line.split("  ")[0] for line in lines[:20]}
    assert sum(line.startswith("![") for line in lines) == 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_named_files_exist(path):
    missing = [
        name
        for name in PATH.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert not missing, f"{identify(path)} names files that do not exist: {missing}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_named_gin_files_exist(path):
    named = re.findall(r"--gin_file=([\w/]+\.gin)", path.read_text(encoding="utf-8"))
    folders = (ROOT, ROOT / "gin_configs")
    missing = {name for name in named if not any((at / name).is_file() for at in folders)}
    assert not missing, f"{identify(path)} names gin files that do not exist: {sorted(missing)}"


@pytest.mark.check
@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_named_flags_exist(path):
    text = path.read_text(encoding="utf-8")
    prose = " ".join(re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL).split())
    for line in commands_in(text) + re.findall(r"`(python -m [^`]+)`", prose):
        match = re.search(r"-m vatt_tf\.([\w.]+)", line)
        if match and match.group(1) in COMMANDS:
            allowed = flags_of(match.group(1)) | BEAM_FLAGS
            unknown = set(FLAG.findall(line)) - allowed
            assert not unknown, f"{identify(path)}: {line.strip()}: unknown {sorted(unknown)}"
    every = frozenset().union(*map(flags_of, COMMANDS + TOOLS)) | OTHER_FLAGS | BEAM_FLAGS
    unknown = set(FLAG.findall(prose)) - every
    assert not unknown, f"{identify(path)} names flags that do not exist: {sorted(unknown)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_named_make_targets_exist(path):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *commands_in(text)])
    for name in re.findall(r"(?:^|\s)make ([a-z][\w-]*)", code, flags=re.MULTILINE):
        assert name in targets, f"{identify(path)} names `make {name}`"


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_commands_name_modules_that_exist(path):
    for name in re.findall(r"-m vatt_tf\.(\w+(?:\.\w+)*)", path.read_text(encoding="utf-8")):
        top = ROOT if name.split(".")[0] in AT_THE_TOP else ROOT / "vatt_tf"
        source = top / name.replace(".", "/")
        assert source.with_suffix(".py").is_file() or (source / "__main__.py").is_file(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_python_parses_and_imports_what_exists(path):
    for block in re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), flags=re.DOTALL):
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(block, identify(path), "exec", flags)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("vatt_tf"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def test_index_lists_every_document():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        if path.name != "README.md":
            in_folder = path.with_name("README.md").read_text(encoding="utf-8")
            linked = f"({path.relative_to(ROOT / 'docs').as_posix()})" in index
            assert linked or f"({path.name})" in in_folder, path.name


def test_symptoms_are_messages_of_the_code():
    """Quoted symptoms of docs/troubleshooting.md stand in the sources; ``...`` is any value."""
    folders = [ROOT / name for name in ("vatt_tf", *AT_THE_TOP)]
    files = [ROOT / "Makefile", *(path for folder in folders for path in folder.rglob("*.py"))]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in files)
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # literals of several lines
    table = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
    quoted = [item for cell in cells for item in re.findall(r"`([^`]+ [^`]+)`", cell)]
    assert len(quoted) > 20
    for symptom in set(quoted) - {"No module named vatt_tf"}:  # Python's own
        for part in filter(None, map(str.strip, symptom.split("..."))):
            assert part in sources, f"docs/troubleshooting.md: no message holds {part!r}"


def test_cited_headings_exist():
    """Code, tests and gin files cite headings that docs/reference.md has."""
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    headings = "|".join(map(re.escape, re.findall(r"^## (.+)$", reference, flags=re.MULTILINE)))
    known = re.compile(rf"({headings})\b")
    folders = ("vatt_tf", "export", "serving", "tools", "examples", "tests", "gin_configs")
    files = [path for name in folders for path in (ROOT / name).rglob("*")]
    files = [
        path for path in files if path.suffix in (".py", ".gin") and path.name != "test_docs.py"
    ]
    cited = 0
    for path in files:
        text = re.sub(r"\n\s*#?\s*", " ", path.read_text(encoding="utf-8"))
        assert "facts section" not in text, f"{identify(path)} cites a file that is not here"
        for match in re.finditer(r"docs/reference\.md, ", text):
            cited += 1
            assert known.match(text, match.end()), (
                f"{identify(path)} cites {text[match.start() : match.end() + 30]!r}"
            )
    assert cited > 30


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import generate_config_docs
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return generate_config_docs


def test_configuration_is_up_to_date(generator):
    pytest.importorskip("docstring_parser")
    written = generator.DOCUMENT.read_text(encoding="utf-8")
    assert written == generator.render(), "run `make docs` and commit docs/configuration.md"


def test_every_parameter_is_documented(generator):
    pytest.importorskip("docstring_parser")
    missing = generator.undocumented()
    assert not missing, f"add to the docstrings (Args or Attributes): {missing}"
