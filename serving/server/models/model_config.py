"""Models of a server: the ModelServerConfig, its checks, and the versions on disk."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping

from tensorflow_serving.config import (
    file_system_storage_path_source_pb2,
    model_server_config_pb2,
)

from vatt_tf.serving.server.models.status import Code, ServingError, invalid

ModelConfig = model_server_config_pb2.ModelConfig
ModelServerConfig = model_server_config_pb2.ModelServerConfig
VersionPolicy = (
    file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
)

PLATFORM = "tensorflow"
_TYPES = {1: PLATFORM}
_VERSION = re.compile(r"[+-]?[0-9]{1,25}", re.ASCII)
_FILE = "file://"
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def models_config(models: Mapping[str, str]) -> ModelServerConfig:
    """Config of several models with the default version policy.

    Args:
        models: Name -> base path (the folder of the numbered version folders).
    """
    config = ModelServerConfig()
    config.model_config_list.SetInParent()
    for name, base_path in models.items():
        config.model_config_list.config.add(
            name=name, base_path=os.fspath(base_path), model_platform=PLATFORM
        )
    return config


def find_models(folder: str | os.PathLike) -> dict[str, str]:
    """Finds the models of an export folder.

    Args:
        folder: Contains one folder per model, each with numbered version folders.

    Returns:
        Name -> absolute base path, sorted by name; empty if there are none.
    """
    root = pathlib.Path(folder).resolve()
    return {
        path.name: str(path)
        for path in sorted(root.iterdir())
        if path.is_dir() and any(os.path.isdir(p) for p in (list_versions(path) or {}).values())
    }


def validate(config: ModelServerConfig) -> None:
    """Checks a list of models.

    Raises:
        ServingError: INVALID_ARGUMENT, if a model is listed twice, has no platform, two or an
            unknown one, or a base path that is not absolute.
    """
    seen = set()
    for model in config.model_config_list.config:
        if model.name in seen:
            invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        if not model.base_path:
            invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()="
            )
    for model in config.model_config_list.config:
        if not os.path.isabs(model.base_path) and not _URI.match(model.base_path):
            invalid(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )
    for model in config.model_config_list.config:
        if not model.model_platform and not model.model_type:
            invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        if model.model_platform and model.model_type:
            invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                "ModelServerConfig::model_platform."
            )
        platform = model.model_platform or _TYPES.get(model.model_type, str(model.model_type))
        if platform != PLATFORM:
            invalid(f"Model {model.name} requests unsupported platform {platform}")


def list_versions(base_path: str | os.PathLike) -> dict[int, str] | None:
    """Lists the versions of a model.

    Args:
        base_path: Folder of the model, also as ``file://`` URI. What has a whole number of 64 bits
            as its name is a version, also a file, which then does not load; so that a version can
            be written under another name and renamed when it is complete.

    Returns:
        Version number -> path; None if the base path does not exist or cannot be read.
    """
    versions: dict[int, str] = {}
    try:
        for name in sorted(os.listdir(os.fspath(base_path).removeprefix(_FILE))):
            if _VERSION.fullmatch(name) and -(2**63) <= int(name) < 2**63:
                path = os.path.join(os.fspath(base_path).removeprefix(_FILE), name)
                versions.setdefault(int(name), path)
    except OSError:
        return None
    return versions


def aspired_versions(model: ModelConfig) -> dict[int, str] | None:
    """Versions that should be loaded now: what is on disk, chosen by the model's policy.

    Returns:
        Version number -> path; None if the base path cannot be read (nothing is to be changed).
    """
    found = list_versions(model.base_path)
    if found is None:
        return None
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        chosen = set(found)
    elif choice == "specific":
        chosen = set(policy.specific.versions)
    else:
        count = policy.latest.num_versions or 1
        chosen = set(sorted(found)[-count:])
    return {version: path for version, path in found.items() if version in chosen}


def check_labels(
    config: ModelServerConfig,
    available: Mapping[str, frozenset[int]],
    current: Mapping[str, Mapping[str, int]],
    *,
    allow_unavailable: bool,
) -> dict[str, dict[str, int]]:
    """Reads the version labels of a config.

    Args:
        config: The new config.
        available: Model -> versions that can be requested now.
        current: Labels of the config that it replaces: model -> label -> version.
        allow_unavailable: Let labels that are not in use yet point to any version.

    Returns:
        Model -> label -> version.

    Raises:
        ServingError: FAILED_PRECONDITION, if a label points to a version that is not available.
    """
    labels: dict[str, dict[str, int]] = {}
    for model in config.model_config_list.config:
        for label, version in sorted(model.version_labels.items()):
            unused = current.get(model.name, {}).get(label, version) == version
            if version not in available.get(model.name, ()) and not (allow_unavailable and unused):
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {model.name}, which "
                    "is not currently available for inference",
                )
            labels.setdefault(model.name, {})[label] = version
    return labels
