"""Files of the form of MMV's released weights, made from what is known of its modules.

The names and shapes follow from the released modules (google-deepmind/deepmind-research, mmv/) and
Haiku's rules of naming; nothing here knows how vatt_tf maps them.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import types
import zlib
from collections.abc import Callable

import numpy as np

ROOT = "text_audio_video"
NORM = "__cross_replica_batch_norm"  # Haiku's name for a class called _CrossReplicaBatchNorm.
COUNTER = 7

# Channels of S3D's blocks: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 behind the pooling.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
BRANCHES = (
    ("Branch_0_Conv2d_0a_1x1", 0),
    ("Branch_1_Conv2d_0a_1x1", 1),
    ("Branch_1_Conv2d_0b_3x3", 2),
    ("Branch_2_Conv2d_0a_1x1", 3),
    ("Branch_2_Conv2d_0b_3x3", 4),
    ("Branch_3_Conv2d_0b_1x1", 5),
)


@dataclasses.dataclass(frozen=True)
class Net:
    """Sizes of a net.

    Attributes:
        backbone: ``"s3d"`` or ``"tsm"``.
        video_width: Multiplier of the residual video net's channels.
        audio_width: Multiplier of the audio net's channels.
        scale: S3D's channels from the published ones.
        blocks: Blocks of the units of the residual nets.
        words: Rows of the word table.
        word_dim: Width of a word vector.
        sentence_dim: Width of the text features.
        va_dim: Width of the fine space.
        vat_dim: Width of the coarse space.
        depth: Channels of S3D's input: 24 with, 3 without space to depth.
    """

    backbone: str
    video_width: float = 1
    audio_width: float = 1
    scale: Callable[[int], int] = int
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    words: int = 65_536
    word_dim: int = 300
    sentence_dim: int = 2048
    va_dim: int = 512
    vat_dim: int = 256
    depth: int = 24


RELEASED = {
    "mmv_s3d": Net("s3d"),
    "mmv_tsm_resnet_x1": Net("tsm"),
    "mmv_tsm_resnet_x2": Net("tsm", video_width=2),
}


def small(name: str) -> Net:
    """A narrow net of the same form with fewer residual blocks."""
    tiny: dict = {
        "blocks": (2, 1, 1, 2),
        "audio_width": 1 / 8,
        "words": 11,
        "word_dim": 6,
        "sentence_dim": 12,
        "va_dim": 16,
        "vat_dim": 8,
    }
    if name == "mmv_s3d":
        return Net("s3d", scale=lambda channels: max(8, channels // 8), **tiny)
    return Net("tsm", video_width=1 / 4 if name.endswith("x2") else 1 / 8, **tiny)


class _Shapes:
    """Collects the shapes: ``{"params": {module: {name: shape}}, "state": ...}``."""

    def __init__(self) -> None:
        self.params: dict[str, dict[str, tuple[int, ...]]] = {}
        self.state: dict[str, dict[str, tuple[int, ...]]] = {}

    def norm(self, inside: str, channels: int, axes: int, number: int = 0) -> None:
        module = f"{inside}/{NORM}" + (f"_{number}" if number else "")
        shape = (*(1,) * (axes - 1), channels)
        self.params[module] = {"scale": shape, "offset": shape}
        for average in ("mean_ema", "var_ema"):
            self.state[f"{module}/~/{average}"] = {
                "counter": (),
                "hidden": shape,
                "average": shape,
            }

    def weights(self, module: str, *shape: int, bias: bool = False) -> None:
        self.params[module] = {"w": shape, **({"b": shape[-1:]} if bias else {})}


def _s3d(out: _Shapes, net: Net) -> int:
    root = f"{ROOT}/visual_module/~/S3D"
    channels = net.scale

    def unit(path: str, kernel: tuple[int, ...], inputs: int, filters: int, gated: bool) -> int:
        module = f"{root}/{path}"
        out.weights(f"{module}/~/conv3_d", *kernel, inputs, filters)
        out.norm(module, filters, 5)
        if kernel == (1, 3, 3):
            out.weights(f"{module}/~/conv3_d_1", 3, 1, 1, filters, filters)
            out.norm(module, filters, 5, 1)
        if gated:
            out.weights(f"{module}/self_gating", filters, filters, bias=True)
        return filters

    stem = (2, 4, 4) if net.depth == 24 else (7, 7, 7)
    width = unit("Conv2d_1a_7x7", stem, net.depth, channels(64), False)
    width = unit("Conv2d_2b_1x1", (1, 1, 1), width, channels(64), False)
    width = unit("Conv2d_2c_3x3", (1, 3, 3), width, channels(192), True)
    for block, counts in MIXED.items():
        outputs, previous = 0, width
        for branch, index in BRANCHES:
            is_second = branch.endswith("3x3")
            filters = channels(counts[index])
            kernel = (1, 3, 3) if is_second else (1, 1, 1)
            inputs = previous if is_second else width
            first_of_two = index in (1, 3)
            previous = unit(f"{block}/{branch}", kernel, inputs, filters, not first_of_two)
            outputs += 0 if first_of_two else filters
        width = outputs
    return width


def _resnet(
    out: _Shapes, root: str, stem: str, block_of: Callable[[int, int], str], inside: str,
    inputs: int, width: float, blocks: tuple[int, ...],
) -> int:  # fmt: skip
    """ResNet v2; ``inside`` is what stands between a block and its convolutions."""
    channels = int(64 * width)
    out.weights(f"{root}/{stem}", 7, 7, inputs, channels)
    for unit, count in enumerate(blocks):
        filters = int((256, 512, 1024, 2048)[unit] * width)
        for number in range(count):
            block = f"{root}/{block_of(unit, number)}"
            if number == 0:
                out.weights(f"{block}{inside}shortcut_conv", 1, 1, channels, filters)
            narrow = filters // 4
            out.norm(block, channels, 4)
            out.weights(f"{block}{inside}conv_0", 1, 1, channels, narrow)
            out.norm(block, narrow, 4, 1)
            out.weights(f"{block}{inside}conv_1", 3, 3, narrow, narrow)
            out.norm(block, narrow, 4, 2)
            out.weights(f"{block}{inside}conv_2", 1, 1, narrow, filters)
            channels = filters
    out.norm(root, channels, 4)
    return channels


def shapes_of(net: Net) -> dict[str, dict[str, dict[str, tuple[int, ...]]]]:
    """Shapes of all arrays: ``params`` and ``state``, module, name."""
    out = _Shapes()
    if net.backbone == "s3d":
        video = _s3d(out, net)
    else:
        video = _resnet(
            out, f"{ROOT}/visual_module/~/TSMResNetV2", "tsm_resnet_stem",
            lambda unit, block: f"tsm_resnet_unit_{unit}/block_{block}", "/", 3, net.video_width,
            net.blocks,
        )  # fmt: skip
    audio = _resnet(
        out, f"{ROOT}/audio_module/~/res_net_v2", "~/initial_conv",
        lambda unit, block: f"~/block_group_{unit}/block_{block}", "/~/", 1, net.audio_width,
        net.blocks,
    )  # fmt: skip
    out.params[f"{ROOT}/text_module/~/embed"] = {"embeddings": (net.words, net.word_dim)}
    out.weights(f"{ROOT}/text_module/~/text_conv1", 1, net.word_dim, net.sentence_dim, bias=True)

    to_audio, last = f"{ROOT}/vid2audio_embd", "final_projection"
    out.weights(f"{to_audio}/{last}_inner", video, net.va_dim, bias=True)
    out.norm(to_audio, net.va_dim, 2)
    out.weights(f"{to_audio}/{last}", net.va_dim, net.va_dim)
    out.norm(to_audio, net.va_dim, 2, 1)
    out.weights(f"{ROOT}/vis_embd/{last}", net.va_dim, net.vat_dim, bias=True)
    out.norm(f"{ROOT}/vis_embd", net.vat_dim, 2)
    out.weights(f"{ROOT}/audio_embd/{last}", audio, net.va_dim, bias=True)
    out.weights(f"{ROOT}/txt_embd/{last}", net.sentence_dim, net.vat_dim, bias=True)
    # Made, and never trained: audio and text meet in the coarse space instead.
    out.weights(f"{ROOT}/audio2txt_embd/{last}", audio, net.va_dim, bias=True)
    out.weights(f"{ROOT}/txt2audio_embd/{last}", net.sentence_dim, net.va_dim, bias=True)
    return {"params": out.params, "state": out.state}


def values_of(net: Net) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Random arrays of a net, each a function of its name."""
    values: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for part, modules in shapes_of(net).items():
        values[part] = {}
        for module, shapes in modules.items():
            arrays = {name: _value(module, name, shape) for name, shape in shapes.items()}
            if "average" in arrays:  # What the average is made of: not yet corrected for its start.
                arrays["hidden"] = (arrays["average"] * (1 - 0.9**COUNTER)).astype(np.float32)
            values[part][module] = arrays
    return values


def _value(module: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "counter":
        return np.array(COUNTER, np.int32)
    random = np.random.default_rng(zlib.crc32(f"{module}/{name}".encode()))
    value = random.normal(size=shape)
    if name == "w":
        value *= 1.5 / np.sqrt(np.prod(shape[:-1]))
    elif name == "scale":
        value = 1 + 0.2 * value
    elif module.endswith("var_ema"):
        value = 0.3 + 0.5 * np.abs(value)
    elif name != "embeddings":
        value *= 0.2
    return value.astype(np.float32)


def write(path: str, values: dict, form: str = "plain") -> str:
    """Writes a file.

    Args:
        path: Where to.
        values: ``{"params": {module: {name: array}}, "state": ...}``.
        form: ``"plain"``: dicts and arrays by pickle; ``"haiku"``: Haiku's mappings;
            ``"dill"``: these, and functions named as dill names them.
    """
    if form != "plain":
        values = {
            part: flat_mapping({name: flat_mapping(arrays) for name, arrays in modules.items()})
            for part, modules in values.items()
        }
    with open(path, "wb") as file:
        file.write(dumps(values, 4, dill_names=form == "dill"))
    return path


# --- Pickles that name what is not installed ---


class Named:
    """Pickles as ``module.name(*arguments)``."""

    def __init__(self, module: str, name: str, *arguments) -> None:
        self.parts = module, name, arguments


def flat_mapping(fields: dict) -> Named:
    """Haiku's immutable mapping."""
    return Named("haiku._src.data_structures", "FlatMapping", fields)


def dumps(value, protocol: int = 4, dill_names: bool = False) -> bytes:
    """Pickles a value with :class:`Named` in it.

    Args:
        value: The value.
        protocol: Of pickle.
        dill_names: Whether compiled functions are named as dill 0.3.3 names them.
    """

    class Pickler(pickle._Pickler):
        def save(self, item, save_persistent_id=True):
            if isinstance(item, Named):
                module, name, arguments = item.parts
                self.save_name(module, name)
                super().save(arguments)
                self.write(pickle.REDUCE)
            elif dill_names and isinstance(item, types.BuiltinFunctionType):
                inner = "numpy.core._multiarray_umath"
                module = Named("dill._dill", "_import_module", inner)
                self.save(Named("dill._dill", "_get_attr", module, item.__name__))
            else:
                super().save(item, save_persistent_id)

        def save_name(self, module, name):
            if protocol < 4:
                self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
                return
            super().save(module)
            super().save(name)
            self.write(pickle.STACK_GLOBAL)

    content = io.BytesIO()
    Pickler(content, protocol).dump(value)
    return content.getvalue()
