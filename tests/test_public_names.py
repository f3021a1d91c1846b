"""What users type and import stays where it is, whatever moves inside."""

import importlib
import importlib.util
import re

import pytest

from tests.conftest import CHECKOUT
from vatt_tf import lazy
from vatt_tf.__main__ import COMMANDS

NAMES = [
    "vatt_tf.load",
    "vatt_tf.api.VattEmbedder",
    "vatt_tf.data.datasets.definition",
    "vatt_tf.data.media.ClipReader",
    "vatt_tf.data.media.iter_clips",
    "vatt_tf.data.media.probe",
    "vatt_tf.data.media.read_audio",
    "vatt_tf.data.media.read_clip",
    "vatt_tf.data.plan.Settings",
    "vatt_tf.encoders.audio.WaveformEncoder",
    "vatt_tf.encoders.video.VideoEncoder",
    "vatt_tf.evaluation.report.write_comparison",
    "vatt_tf.evaluation.report.write_report",
    "vatt_tf.export.export_models",
    "vatt_tf.export.load",
    "vatt_tf.layers.random.seed_scope",
    "vatt_tf.prepare.prepare",
    "vatt_tf.search.search",
    "vatt_tf.serving.client.AsyncClient",
    "vatt_tf.serving.client.Client",
    "vatt_tf.serving.server.start_server",
]
IMPORT = re.compile(r"^ *from (vatt_tf[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def documented():
    """``module.name`` of every import in the documents and examples."""
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]
    pages += (CHECKOUT / "examples").glob("*.py")
    for page in pages:
        for module, names in IMPORT.findall(page.read_text(encoding="utf-8")):
            yield from (f"{module}.{name.split(' as ')[0].strip()}" for name in names.split(","))


@pytest.mark.parametrize("name", sorted({*NAMES, *documented()}))
def test_name(name):
    module, _, attribute = name.rpartition(".")
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        importlib.import_module(name)


TYPED = (  # In earlier documents too.
    "data.service",
    "data.service_benchmark",
    "search_index.benchmark",
    "serving.benchmark",
    "serving.client",
    "serving.conformance",
    "serving.conformance.models",
    "serving.fuzz",
)


@pytest.mark.parametrize("command", sorted({*COMMANDS, *TYPED}))
def test_command(command):
    name = f"vatt_tf.{command}"
    found = importlib.util.find_spec(name)
    if found.submodule_search_locations is not None:
        found = importlib.util.find_spec(f"{name}.__main__")
    assert found is not None


def test_a_name_that_is_not_there():
    get = lazy.names("vatt_tf", load="api")
    assert get("load") is importlib.import_module("vatt_tf.api").load
    with pytest.raises(AttributeError, match="module vatt_tf has no attribute missing"):
        get("missing")
