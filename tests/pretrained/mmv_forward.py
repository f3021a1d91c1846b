"""MMV's nets in NumPy, float64, straight from the arrays of a file (inference only).

The order of operations is that of the released modules; nothing here knows of vatt_tf.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tests.pretrained.mmv_file import BRANCHES, MIXED, NORM, ROOT


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def _windows(x: np.ndarray, size: Sequence[int], strides: Sequence[int], fill: float):
    """Offset in the window -> the strided slice of x under it, for SAME padding."""
    outputs = [-(-length // step) for length, step in zip(x.shape[1:-1], strides, strict=True)]
    pads = [(0, 0)]
    for length, count, step, width in zip(x.shape[1:-1], outputs, strides, size, strict=True):
        total = max((count - 1) * step + width - length, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    for offset in itertools.product(*(range(width) for width in size)):
        slices = (
            slice(first, first + (count - 1) * step + 1, step)
            for first, count, step in zip(offset, outputs, strides, strict=True)
        )
        yield offset, padded[(slice(None), *slices)]


def convolve(x: np.ndarray, kernel: np.ndarray, strides: Sequence[int]) -> np.ndarray:
    """[B, ..., C] and [..., C, filters], SAME padding."""
    return sum(
        part @ kernel[offset] for offset, part in _windows(x, kernel.shape[:-2], strides, 0.0)
    )


def max_pool(x: np.ndarray, size: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    return np.max([part for _, part in _windows(x, size, strides, -np.inf)], axis=0)


class Reference:
    """The nets of a file.

    Args:
        values: ``{"params": {module: {name: array}}, "state": ...}``.
    """

    def __init__(self, values: dict) -> None:
        self.values = values

    def _weights(self, module: str, name: str = "w") -> np.ndarray:
        return self.values["params"][f"{ROOT}/{module}"][name].astype(np.float64)

    def _linear(self, x: np.ndarray, module: str, bias: bool = True) -> np.ndarray:
        return x @ self._weights(module) + (self._weights(module, "b") if bias else 0.0)

    def _norm(self, x: np.ndarray, inside: str, number: int = 0) -> np.ndarray:
        module = f"{inside}/{NORM}" + (f"_{number}" if number else "")
        mean, variance = (
            self.values["state"][f"{ROOT}/{module}/~/{name}_ema"]["average"].astype(np.float64)
            for name in ("mean", "var")
        )
        scale, offset = self._weights(module, "scale"), self._weights(module, "offset")
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + offset

    # --- Video ---

    def _unit(self, x: np.ndarray, name: str) -> np.ndarray:
        module = f"visual_module/~/S3D/{name}"
        for number, conv in enumerate(("conv3_d", "conv3_d_1")):
            if f"{ROOT}/{module}/~/{conv}" in self.values["params"]:
                kernel = self._weights(f"{module}/~/{conv}")
                strides = (2, 2, 2) if kernel.shape[0] == 7 else (1, 1, 1)
                x = relu(self._norm(convolve(x, kernel, strides), module, number))
        if f"{ROOT}/{module}/self_gating" in self.values["params"]:
            gates = self._linear(x.mean(axis=(1, 2, 3)), f"{module}/self_gating")
            x = x / (1 + np.exp(-gates))[:, None, None, None]
        return x

    def s3d(self, video: np.ndarray) -> np.ndarray:
        """[B, T, H, W, 3] in [0, 1], even sizes -> features [B, t, h, w, d]."""
        x = np.asarray(video, np.float64)
        if self._weights("visual_module/~/S3D/Conv2d_1a_7x7/~/conv3_d").shape[-2] == 24:
            batch, frames, height, width, _ = x.shape
            x = x.reshape(batch, frames // 2, 2, height // 2, 2, width // 2, 2, 3)
            x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
            x = x.reshape(batch, frames // 2, height // 2, width // 2, 24)
        x = max_pool(self._unit(x, "Conv2d_1a_7x7"), (1, 3, 3), (1, 2, 2))
        x = self._unit(self._unit(x, "Conv2d_2b_1x1"), "Conv2d_2c_3x3")
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        for block in MIXED:
            if block == "Mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            elif block == "Mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            first, narrow_1, wide_1, narrow_2, wide_2, last = (
                f"{block}/{name}" for name, _ in BRANCHES
            )
            branches = (
                self._unit(x, first),
                self._unit(self._unit(x, narrow_1), wide_1),
                self._unit(self._unit(x, narrow_2), wide_2),
                self._unit(max_pool(x, (3, 3, 3), (1, 1, 1)), last),
            )
            x = np.concatenate(branches, axis=-1)
        return x

    def tsm(self, video: np.ndarray) -> np.ndarray:
        """[B, T, H, W, 3] in [0, 1] -> features [B, T, h, w, d]."""
        frames = video.shape[1]

        def shift(x: np.ndarray) -> np.ndarray:
            x = x.reshape(-1, frames, *x.shape[1:])
            count = x.shape[-1] // 8
            moved = np.zeros_like(x)
            for time in range(frames):
                if time + 1 < frames:
                    moved[:, time, ..., :count] = x[:, time + 1, ..., -count:]
                moved[:, time, ..., count:-count] = x[:, time, ..., count:-count]
                if time > 0:
                    moved[:, time, ..., -count:] = x[:, time - 1, ..., :count]
            return moved.reshape(-1, *x.shape[2:])

        x = np.asarray(video, np.float64).reshape(-1, *video.shape[2:])
        x = self._resnet(
            x, "visual_module/~/TSMResNetV2", "tsm_resnet_stem", "tsm_resnet_unit_{}/block_{}", "/",
            shift,
        )  # fmt: skip
        return x.reshape(-1, frames, *x.shape[1:])

    def _resnet(self, x, root, stem, block, between, shift) -> np.ndarray:
        x = convolve(x, self._weights(f"{root}/{stem}"), (2, 2))
        x = max_pool(x, (3, 3), (2, 2))
        for unit in range(4):
            for number in itertools.count():
                inside = f"{root}/{block.format(unit, number)}"
                conv = f"{inside}{between}"
                if f"{ROOT}/{conv}conv_0" not in self.values["params"]:
                    break
                stride = 2 if number == 0 and unit > 0 else 1
                active = relu(self._norm(x, inside))
                if number == 0:
                    x = convolve(active, self._weights(f"{conv}shortcut_conv"), (stride, stride))
                y = convolve(shift(active), self._weights(f"{conv}conv_0"), (1, 1))
                y = relu(self._norm(y, inside, 1))
                y = convolve(y, self._weights(f"{conv}conv_1"), (stride, stride))
                y = relu(self._norm(y, inside, 2))
                x = x + convolve(y, self._weights(f"{conv}conv_2"), (1, 1))
        return relu(self._norm(x, root))

    # --- Audio, text, spaces ---

    def audio(self, spectrogram: np.ndarray) -> np.ndarray:
        """[B, frames, bins, 1] -> features [B, t, f, d]."""
        return self._resnet(
            np.asarray(spectrogram, np.float64), "audio_module/~/res_net_v2", "~/initial_conv",
            "~/block_group_{}/block_{}", "/~/", lambda x: x,
        )  # fmt: skip

    def text(self, ids: np.ndarray) -> np.ndarray:
        """[B, L] -> [B, d]."""
        words = self._weights("text_module/~/embed", "embeddings")[ids]
        conv = "text_module/~/text_conv1"
        return relu(words @ self._weights(conv)[0] + self._weights(conv, "b")).max(axis=1)

    def spaces(self, video: np.ndarray, audio: np.ndarray, text: np.ndarray) -> dict:
        """Pooled features [B, d] -> space -> modality -> embedding."""
        to_audio, to_text = "vid2audio_embd", "vis_embd"
        x = self._linear(video, f"{to_audio}/final_projection_inner")
        x = relu(self._norm(x, to_audio))
        x = self._linear(x, f"{to_audio}/final_projection", bias=False)
        fine = {
            "video": self._norm(x, to_audio, 1),
            "audio": self._linear(audio, "audio_embd/final_projection"),
        }
        coarse = {
            name: self._norm(self._linear(relu(x), f"{to_text}/final_projection"), to_text)
            for name, x in fine.items()
        }
        coarse["text"] = self._linear(text, "txt_embd/final_projection")
        return {"va": fine, "vat": coarse}
