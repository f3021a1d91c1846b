"""ResNet v2 with temporal shift in NumPy and float64, written for comparison, not for speed."""

from __future__ import annotations

import numpy as np

from tests.layers.plain_network import PlainNetwork, read_weights


def windows(images, size, stride, fill):
    """The [N, h, w, C] slices that a SAME window of size x size sees, one per place in it."""
    pads, counts = [], []
    for side in images.shape[1:3]:
        count = -(-side // stride)
        total = max((count - 1) * stride + size - side, 0)
        pads.append((total // 2, total - total // 2))
        counts.append(count)
    padded = np.pad(images, ((0, 0), *pads, (0, 0)), constant_values=fill)
    for row in range(size):
        for column in range(size):
            rows = slice(row, row + (counts[0] - 1) * stride + 1, stride)
            columns = slice(column, column + (counts[1] - 1) * stride + 1, stride)
            yield (row, column), padded[:, rows, columns]


def convolve(images, kernel, stride=1):
    return sum(part @ kernel[at] for at, part in windows(images, kernel.shape[0], stride, 0.0))


def max_pool(images, size=3, stride=2):
    return np.max([part for _, part in windows(images, size, stride, -np.inf)], axis=0)


def shift(images, frames, part):
    """Frame by frame: the next frame's last channels come first, the previous one's first last."""
    clips = images.reshape(-1, frames, *images.shape[1:])
    moved = clips.copy()
    moved[..., :part] = moved[..., -part:] = 0.0
    for frame in range(frames):
        if frame + 1 < frames:
            moved[:, frame, ..., :part] = clips[:, frame + 1, ..., -part:]
        if frame > 0:
            moved[:, frame, ..., -part:] = clips[:, frame - 1, ..., :part]
    return moved.reshape(images.shape)


class PlainResNet(PlainNetwork):
    """A forward pass."""

    def block(self, images, prefix="", stride=1, frames=None):
        active = self.norm_relu(images, prefix + "norm_0")
        shortcut = images
        if prefix + "shortcut_conv/kernel" in self.weights:
            shortcut = convolve(active, self.weights[prefix + "shortcut_conv/kernel"], stride)
        if frames:
            active = shift(active, frames, active.shape[-1] // 8)
        hidden = convolve(active, self.weights[prefix + "conv_0/kernel"])
        hidden = self.norm_relu(hidden, prefix + "norm_1")
        hidden = convolve(hidden, self.weights[prefix + "conv_1/kernel"], stride)
        hidden = self.norm_relu(hidden, prefix + "norm_2")
        return shortcut + convolve(hidden, self.weights[prefix + "conv_2/kernel"])

    def features(self, images, blocks, frames=None):
        """[N, H, W, C] -> [N, h, w, d]; with ``frames``, N is clips of that many frames."""
        values = max_pool(convolve(images, self.weights["stem/kernel"], 2))
        for unit, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if unit > 0 and block == 0 else 1
                values = self.block(values, f"unit_{unit}_block_{block}/", stride, frames)
        return self.norm_relu(values, "norm")


def assert_features_equal(outputs, expected, dtype):
    """1e-5 in float32, of the largest feature: a norm over few rows lets single ones stand out.

    In float64 the same layers leave no room for any other order of operations.
    """
    tolerance = {"float32": 1e-5, "float64": 1e-11}[dtype]
    assert outputs.keys() == expected.keys()
    for name, value in outputs.items():
        largest = np.max(np.abs(expected[name]))
        np.testing.assert_allclose(
            value, expected[name], rtol=0, atol=tolerance * largest, err_msg=name
        )


def assert_statistics_equal(layer, plain):
    """The moving statistics after the step that ``plain`` has made."""
    after = read_weights(layer)
    for name, value in plain.after.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
