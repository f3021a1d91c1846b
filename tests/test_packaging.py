"""The package as users install it: wheel content, requirements, pinned versions, make targets."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vatt_tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXTRAS = ("beam", "transcribe", "test", "lint", "site", "backends")

# Modules that a requirement brings under another name than its own.
MODULES = {
    "PIL": "pillow",
    "absl": "absl-py",
    "apache_beam": "apache-beam",
    "faiss": "faiss-cpu",
    "gin": "gin-config",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "official": "tf-models-official",
    "orbit": "tf-models-official",
    "sklearn": "scikit-learn",
    "tensorflow_io": "tensorflow-io",
    "tensorflow_serving": "tensorflow-serving-api",
    "tensorflow_text": "tensorflow-text",
    "yaml": "pyyaml",
}


def read_constraints() -> dict[str, Version]:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
            assert match, f"constraints.txt: {line!r} is not NAME==VERSION"
            name = canonicalize_name(match.group(1))
            assert name not in pins, f"constraints.txt: {name} twice"
            pins[name] = Version(match.group(2))
    return pins


@pytest.fixture(scope="module")
def wheel(made_once) -> pathlib.Path:
    """Unpacked wheel, built from a copy so that the checkout stays clean."""
    return made_once("wheel", unpack_wheel)


def unpack_wheel(folder: pathlib.Path) -> None:
    source = folder.with_name("source")
    source.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("vatt_tf", "gin_configs", "export", "serving"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "out"],
        cwd=source,
        capture_output=True,
        text=True,
    )
    if "invalid command 'bdist_wheel'" in built.stderr:
        pytest.skip("needs setuptools >= 70.1, as constraints.txt says, to build a wheel")
    assert built.returncode == 0, built.stderr
    (path,) = (source / "out").glob("*.whl")
    zipfile.ZipFile(path).extractall(folder)


@pytest.fixture(scope="module")
def metadata(wheel) -> importlib.metadata.Distribution:
    (folder,) = wheel.glob("*.dist-info")
    return importlib.metadata.Distribution.at(folder)


def requirements(distribution: importlib.metadata.Distribution, extras=("",)) -> list[Requirement]:
    found = [Requirement(text) for text in distribution.requires or ()]
    return [
        item
        for item in found
        if item.marker is None or any(item.marker.evaluate({"extra": extra}) for extra in extras)
    ]


@pytest.mark.check
def test_wheel_holds_every_module_and_gin_file(wheel):
    expected = {path.relative_to(ROOT) for path in (ROOT / "vatt_tf").rglob("*.py")}
    for folder, pattern in (("gin_configs", "*.gin"), ("export", "*.py"), ("serving", "*.py")):
        expected |= {"vatt_tf" / path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern)}
    found = {path.relative_to(wheel) for path in (wheel / "vatt_tf").rglob("*") if path.is_file()}
    assert expected == found
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"vatt_tf"}


@pytest.mark.check
def test_wheel_version_and_licence(wheel, metadata):
    assert metadata.version == vatt_tf.__version__
    assert metadata.metadata["License"] == "Apache-2.0"
    assert list(wheel.glob("*.dist-info/**/LICENSE"))
    assert set(metadata.metadata.get_all("Provides-Extra")) == set(EXTRAS)


@pytest.mark.check
def test_console_scripts_name_functions_that_exist(wheel, metadata):
    scripts = [entry for entry in metadata.entry_points if entry.group == "console_scripts"]
    assert {entry.name.removeprefix("vatt-") for entry in scripts} == {
        "prepare", "train", "convert", "evaluate", "export", "serve", "embed", "search",
    }  # fmt: skip
    for entry in scripts:
        tree = ast.parse((wheel / f"{entry.module.replace('.', '/')}.py").read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert entry.attr in functions, entry.value


@pytest.mark.check
def test_installed_package_works_from_any_folder(wheel, tmp_path):
    # A shipped gin file is found although the current folder has no gin_configs.
    code = (
        "import vatt_tf.config as config; path = config.find_gin_file('gin_configs/tiny.gin'); "
        "print(path)"
    )
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert pathlib.Path(found.stdout.strip()) == wheel / "vatt_tf/gin_configs/tiny.gin"
    helped = subprocess.run(
        [sys.executable, "-m", "vatt_tf.train", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert helped.returncode == 0, helped.stderr
    assert "--gin_file" in helped.stdout


@pytest.mark.check
def test_every_import_of_the_package_is_required(wheel, metadata):
    required = {
        canonicalize_name(item.name) for item in requirements(metadata, ("", "beam", "transcribe"))
    }
    missing = {}
    for path in (wheel / "vatt_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in {name.split(".")[0] for name in names}:
                if name == "vatt_tf" or name in sys.stdlib_module_names:
                    continue
                if canonicalize_name(MODULES.get(name, name)) not in required:
                    missing.setdefault(name, []).append(str(path.relative_to(wheel)))
    assert not missing, f"imported, but not in install_requires of setup.py: {missing}"


@pytest.mark.check
def test_constraints_pin_what_setup_asks_for(metadata):
    pins = read_constraints()
    for item in requirements(metadata, ("", *EXTRAS)):
        name = canonicalize_name(item.name)
        assert name in pins, f"{name} is not in constraints.txt"
        assert pins[name] in item.specifier, f"{name}: {pins[name]} is not {item.specifier}"
    # A pin is an exact version from the user's own index: no address, no local build.
    assert not any(version.local for version in pins.values())


@pytest.mark.check
def test_constraints_are_complete_and_fit_together(metadata):
    """Follows the requirements of the installed distributions, extras included."""
    pins = read_constraints()
    todo = requirements(metadata, ("", *EXTRAS))
    seen = set()
    while todo:
        item = todo.pop()
        name = canonicalize_name(item.name)
        assert name in pins, f"{name} is installed, but not in constraints.txt"
        if (name, *sorted(item.extras)) in seen:
            continue
        seen.add((name, *sorted(item.extras)))
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that this environment does without
        if Version(installed.version) != pins[name]:
            continue  # another version than the pinned one: says nothing about the pins
        for needed in requirements(installed, ("", *item.extras)):
            version = pins.get(canonicalize_name(needed.name))
            assert version is not None, f"{needed.name} ({name} needs it) is not in constraints.txt"
            assert needed.specifier.contains(version, prereleases=True), (
                f"{name} {installed.version} needs {needed}, pinned is {version}"
            )
            todo.append(needed)
    assert len(seen) > 50


@pytest.mark.check
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("videos", ["", "/films/my holiday"])
def test_quickstart_commands(videos):
    """``make --dry-run`` prints the commands that the documentation shows."""
    arguments = ["make", "--dry-run", "quickstart"] + ([f"VIDEOS={videos}"] if videos else [])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    printed = subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    data = "data/mine" if videos else "data/sample"
    run = "runs/mine" if videos else "runs/quickstart"
    source = f"--videos='{videos}' --val_fraction=0.2" if videos else "--sample"
    assert f"-m vatt_tf.prepare {source} --out={data}\n" in printed
    assert f"-m vatt_tf.train --gin_file=gin_configs/tiny.gin --run_dir={run}" in printed
    assert f"TRAIN_DATA='{data}/train'" in printed and "STEPS=" not in printed
    assert f"-m vatt_tf.evaluate --run_dir={run} --data={data}/val --task=retrieval" in printed


@pytest.mark.check
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_quickstart_trains_for_the_steps_that_are_given():
    command = ["make", "--dry-run", "quickstart", "STEPS=7"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    printed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert '--gin_bindings="STEPS=7"' in printed


def test_ci_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    for command in ("make test", "make check"):
        assert command in script.read_text()
        assert command in (ROOT / "README.md").read_text()
