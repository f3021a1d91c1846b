"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import pytest

from vatt_tf import cli

# Quiet and reproducible: set before TensorFlow is imported anywhere.
cli.before_tensorflow()
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Training first: long tests at the end would leave one of two workers without work."""
    items.sort(key=lambda item: "training" not in item.path.parts)


def pytest_collection_finish() -> None:
    """What the imports made stays: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def graphs_are_freed() -> Iterator[None]:
    """Frees a module's graphs when it ends: those of the whole suite at once take 40 s."""
    yield
    gc.collect()
    gc.freeze()  # what is left (caches) is not walked again


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """Folder of reference material and real data beside the checkout; skips when absent."""
    path = CHECKOUT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the reference material in {path}, which is not there")
    return path


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock that all workers see; it ends with the process that holds it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[pathlib.Path], object]], pathlib.Path]:
    """``made_once(name, make)``: the folder that ``make(folder)`` writes, once for all workers.

    The first worker that asks makes it, the others wait. ``make`` gets a folder that is not there
    yet, in one of its own. Tests only read it: what writes takes a copy.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has a folder of its own below that of the run

    def once(name: str, make: Callable[[pathlib.Path], object]) -> pathlib.Path:
        place = root / "made_once" / name
        done = place / "done"
        place.parent.mkdir(exist_ok=True)
        with locked(place.with_name(f"{name}.lock")):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)  # what a failed attempt has left
                place.mkdir()
                make(place / "folder")
                done.touch()
        return place / "folder"

    return once


@pytest.fixture(scope="session")
def weights_folder(made_once) -> pathlib.Path:
    """Weights folder of a tiny model with random weights and calibrated scores; read only."""
    from tests.export import tiny

    return made_once("weights", tiny.save_calibrated_weights)


@pytest.fixture(scope="session")
def exported_models(weights_folder, made_once) -> pathlib.Path:
    """Its export, version 1 of video, audio and text; read only."""
    from vatt_tf import export

    return made_once("models", lambda folder: export.export_models(weights_folder, folder))
