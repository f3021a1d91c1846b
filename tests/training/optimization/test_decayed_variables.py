"""The variables with weight decay: of every gin file, by path, on any backend.

`tests/test_backends.py` runs this file on the other backends. A list that is to change is written
by `python -m tests.training.optimization.test_decayed_variables`.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from typing import Any

import pytest

from tests.test_config import RUN_FILES
from vatt_tf import config
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import abstract, build_vatt
from vatt_tf.training.optimization.optimizer import is_decayed
from vatt_tf.training.tasks.config import TrainConfig
from vatt_tf.training.tasks.finetune_config import FinetuneConfig

LIST = pathlib.Path(__file__).with_name("decayed_variables.txt")
KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def shallow(part: Any) -> Any:
    """The same parts with fewer layers of a kind."""
    fewer = {"num_layers": 1, "blocks": (1, 1, 1, 1)}
    changes = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = shallow(value)
        elif field.name in fewer and value:
            changes[field.name] = fewer[field.name]
    return dataclasses.replace(part, **changes)


def model_of(name: str) -> Any:
    """Configuration of the model of a gin file."""
    config.clear()
    config.import_configurables()
    config.parse([name], ["INITIAL_WEIGHTS=None"] if name.startswith("finetune/") else [])
    if config.only_configured(("train", "finetune")) == "train":
        return shallow(TrainConfig().model)
    classifier = FinetuneConfig().model
    return shallow(classifier.resolve(classifier.num_classes or 7, None))


@functools.cache
def variables(model: Any) -> tuple[list[str], list[str]]:
    """Paths of the trainable variables with and without weight decay, numbers left out."""
    build = build_vatt if isinstance(model, VattConfig) else build_classifier
    paths: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for variable in abstract(lambda: build(model)).trainable_variables:
        path = re.sub(r"\d+[a-f]?", "N", variable.path)
        paths[is_decayed(variable)][path] = None
        assert not is_decayed(variable) or len(variable.shape) >= 2, path
    return list(paths[True]), list(paths[False])


def lines(paths: list[str]) -> str:
    """A line for each tower and the head: what is in it, kernels without their name."""
    parts: dict[str, list[str]] = {}
    for path in paths:
        _, part, name = path.split("/", 2)
        parts.setdefault(part, []).append(name.removesuffix("/kernel"))
    return "".join(f"\n  {part}: {' '.join(names)}" for part, names in parts.items())


def read() -> dict[str, str]:
    """The lines by gin file."""
    found: dict[str, str] = {}
    for part in LIST.read_text().rstrip().split("\n\n")[1:]:
        files, rest = part.split("\n", 1)
        found |= dict.fromkeys(files.split(), "\n" + rest)
    return found


@pytest.mark.parametrize("name", RUN_FILES)
def test_decayed_variables(name):
    decayed, others = variables(model_of(name))
    config.clear()
    assert lines(decayed) == read()[name]
    assert all(path.endswith(KERNELS) for path in decayed)
    assert not any(path.endswith(KERNELS) for path in others)


def write() -> None:
    """Writes the list anew."""
    files: dict[str, list[str]] = {}
    for name in RUN_FILES:
        files.setdefault(lines(variables(model_of(name))[0]), []).append(name)
    head = "Variables with weight decay by gin file; N is a number, a kernel goes by its layer."
    parts = [" ".join(names) + text for text, names in files.items()]
    LIST.write_text("\n\n".join([head, *parts]) + "\n")


if __name__ == "__main__":
    write()
