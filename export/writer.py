"""Writes servable models as MODELS/<name>/<version>/, atomically for all of them."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Sequence

import tensorflow as tf

from vatt_tf import paths
from vatt_tf.errors import UserError
from vatt_tf.export import parity, warmup
from vatt_tf.export.servables import Servable, read_servables
from vatt_tf.export.versions import is_model_folder, versions_of

# Marks a temporary folder of an export, else a user's folder of this name might be removed.
_MARK = ".vatt_tf_export"


def export_models(
    path: str | os.PathLike,
    out: str | os.PathLike,
    *,
    version: int | None = None,
    models: Sequence[str] | None = None,
) -> dict[str, pathlib.Path]:
    """Writes a trained model as SavedModels that TensorFlow Serving takes.

    Every signature is compared with the trained model before any folder gets its name, so a server
    that watches ``out`` never sees half a model, and a failed export leaves nothing.

    Args:
        path: Run directory (its newest checkpoint) or weights folder.
        out: Folder of the models; made if need be.
        version: Number of the version folders; None for one more than the newest that any of the
            models has.
        models: Which models, of ``video``, ``audio`` and ``text`` (a fine-tuned model has
            ``classifier`` only); None for all.

    Returns:
        Name -> version folder.

    Raises:
        UserError: If the model cannot be loaded, the version exists, a folder holds something else
            than versions, or what was written differs from the trained model by more than 1e-5.
    """
    path, out = paths.expand(path), pathlib.Path(paths.expand(out))
    if version is not None and version < 1:
        raise UserError(f"version={version}: expected a whole number, at least 1")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, expected a folder for the models")
    servables = read_servables(path, models)
    folders = [out / servable.name for servable in servables]
    if version is None:
        version = 1 + max([0, *(number for folder in folders for number in versions_of(folder))])
    for folder in folders:
        if not is_model_folder(folder):
            raise UserError(
                f"{folder}: holds something else than versions of a model (folders with a number "
                "and a SavedModel in each); nothing was changed. Give another folder"
            )
        if version in versions_of(folder):
            raise UserError(f"{folder / str(version)}: exists already; choose another version")
    _remove_abandoned(folders)
    # Not ``atomic.new_folder``, one folder at a time: the models of an export appear together.
    staged = [folder / f"tmp_{version}_{os.getpid()}" for folder in folders]
    made = [folder for folder in [out, *folders] if not folder.exists()]
    taken: list[pathlib.Path] = []
    finished: list[pathlib.Path] = []
    try:
        for servable, folder in zip(servables, staged, strict=True):
            _take(folder)
            taken.append(folder)
            _write(servable, folder)
        for folder in staged:
            (folder / _MARK).unlink()
            target = folder.with_name(str(version))
            try:
                finished.append(folder.rename(target))
            except OSError as error:
                raise UserError(f"{target}: cannot be made ({error.strerror})") from error
    except BaseException:
        for folder in [*taken, *finished]:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in reversed(made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    return {folder.parent.name: folder for folder in finished}


def _take(folder: pathlib.Path) -> None:
    """Creates the temporary folder."""
    try:
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error


def _remove_abandoned(folders: Sequence[pathlib.Path]) -> None:
    """Removes the temporary folders of exports that were killed."""
    for folder in folders:
        for path in folder.glob("tmp_*_*") if folder.is_dir() else ():
            process = path.name.rpartition("_")[2]
            if (path / _MARK).is_file() and process.isdigit() and not _runs(int(process)):
                shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True


def _write(servable: Servable, folder: pathlib.Path) -> None:
    module, functions = servable.module()
    tf.saved_model.save(module, str(folder), signatures=functions)
    parity.check(servable, folder)
    warmup.write(servable, folder)
