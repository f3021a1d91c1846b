"""The configuration of heads: which widths each reads, and what earlier versions wrote."""

from __future__ import annotations

import gin
import pytest

from tests.conftest import CHECKOUT
from vatt_tf import config as gin_config
from vatt_tf import train
from vatt_tf.errors import UserError
from vatt_tf.heads.config import HEADS, HeadConfig, head_from_dict, unread_options
from vatt_tf.models.config.vatt import VattConfig

GIN_FILES = [
    path
    for path in sorted((CHECKOUT / "gin_configs").rglob("*.gin"))
    if path.parent.name not in ("runs", "models")  # parts of the others
]


def parse(path):
    gin_config.import_configurables()
    for folder in (path.parent, CHECKOUT / "gin_configs"):
        gin.add_config_file_search_path(str(folder))
    with gin_config._plain_files_only():
        gin.parse_config_file(str(path))


@pytest.fixture(autouse=True)
def nothing_bound():
    gin_config.clear()
    yield
    gin_config.clear()


@pytest.mark.parametrize("kind", HEADS.names())
def test_unread_widths_are_none_and_the_rest_has_a_value(kind):
    head = HeadConfig(kind, va_dim=7, vt_dim=6, vat_dim=5)
    assert head == head_from_dict({**vars(head)})
    assert {name for name, value in vars(head).items() if value} == {"kind", *head.widths}
    layer = head.build(name="head")
    assert {name: getattr(layer, name) for name in head.widths} == head.widths


def test_mmv_fac_takes_the_width_of_its_space_by_its_name():
    assert HeadConfig("mmv_fac", vat_dim=128).widths == {"va_dim": 512, "vat_dim": 128}
    layer = HeadConfig("mmv_fac", va_dim=8, vat_dim=5).build()
    layer.build({"video": (None, 3), "text": (None, 4)})
    assert layer.text_to_vat.kernel.shape == (4, 5)


def test_mmv_fac_of_earlier_versions():
    stored = {"kind": "mmv_fac", "va_dim": 512, "vt_dim": 256, "vat_dim": 512}
    assert head_from_dict(stored).widths == {"va_dim": 512, "vat_dim": 256}
    assert HeadConfig("mmv_fac", vt_dim=128).widths["vat_dim"] == 128


def test_shared_of_earlier_versions():
    stored = {"kind": "shared", "va_dim": 512, "vt_dim": 256, "vat_dim": 128}
    assert head_from_dict(stored) == HeadConfig("shared", vat_dim=128)


def test_unknown_kind_lists_the_heads():
    with pytest.raises(UserError, match="common_space.kind = 'fine': expected one of 'fac', 'dis"):
        HeadConfig("fine")


def test_unread_options():
    gin.parse_config("common_space.kind = 'shared'\ncommon_space.vt_dim = 3")
    assert unread_options() == ["common_space.vt_dim"]
    gin.parse_config("common_space.kind = 'mmv_fac'")
    assert unread_options() == []  # its name in earlier versions
    gin.parse_config("common_space.vat_dim = 4")
    assert unread_options() == ["common_space.vt_dim"]
    message = "--gin_bindings=common_space.vt_dim: common_space.kind = 'mmv_fac' does not read it"
    with pytest.raises(UserError, match=f"{message}; expected va_dim or vat_dim"):
        train._unread_head_options(["common_space.vt_dim=3"])
    assert train._unread_head_options(["common_space.vat_dim=4"]) == ["common_space.vt_dim"]


@pytest.mark.parametrize("path", GIN_FILES, ids=lambda path: path.stem)
def test_no_shipped_file_binds_a_width_that_its_head_does_not_read(path):
    parse(path)
    assert unread_options() == []


def test_the_published_mmv_net():
    parse(CHECKOUT / "gin_configs" / "mmv" / "s3d_fac.gin")
    assert VattConfig().head.widths == {"va_dim": 512, "vat_dim": 256}
