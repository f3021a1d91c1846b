"""S3D-G in NumPy and float64 with explicit 3D windows, written for comparison, not for speed."""

from __future__ import annotations

import itertools

import numpy as np

from tests.layers.plain_network import PlainNetwork

STAGES = (("3b", "3c"), ("4b", "4c", "4d", "4e", "4f"), ("5b", "5c"))


def windows(x, size, strides, fill):
    """The slices [B, t, h, w, C] that a SAME window sees, one per place in it."""
    pads, counts = [], []
    for side, length, stride in zip(x.shape[1:4], size, strides, strict=True):
        count = -(-side // stride)
        total = max((count - 1) * stride + length - side, 0)
        pads.append((total // 2, total - total // 2))
        counts.append(count)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    for place in itertools.product(*(range(length) for length in size)):
        parts = tuple(
            slice(start, start + (count - 1) * stride + 1, stride)
            for start, count, stride in zip(place, counts, strides, strict=True)
        )
        yield place, padded[(slice(None), *parts)]


def convolve(x, kernel, strides=(1, 1, 1)):
    return sum(part @ kernel[place] for place, part in windows(x, kernel.shape[:3], strides, 0.0))


def max_pool(x, size, strides):
    return np.max([part for _, part in windows(x, size, strides, -np.inf)], axis=0)


def space_to_depth(x, block):
    pads = [(0, -side % step) for side, step in zip(x.shape[1:4], block, strict=True)]
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    t, h, w = block
    places = itertools.product(range(t), range(h), range(w))
    return np.concatenate([x[:, i::t, j::h, k::w] for i, j, k in places], axis=-1)


class PlainS3D(PlainNetwork):
    """A forward pass."""

    def gate(self, x, name):
        """Self-gating where the weights have it."""
        if f"{name}/kernel" not in self.weights:
            return x
        logits = x.mean((1, 2, 3)) @ self.weights[f"{name}/kernel"] + self.weights[f"{name}/bias"]
        return x / (1 + np.exp(-logits))[:, None, None, None]

    def unit(self, x, prefix="", strides=(1, 1, 1)):
        x = convolve(x, self.weights[f"{prefix}conv/kernel"], strides)
        return self.gate(self.norm_relu(x, f"{prefix}norm"), f"{prefix}gating")

    def separable(self, x, prefix=""):
        for part in ("spatial", "temporal"):
            x = convolve(x, self.weights[f"{prefix}{part}/kernel"])
            x = self.norm_relu(x, f"{prefix}{part}_norm")
        return self.gate(x, f"{prefix}gating")

    def block(self, x, prefix="", time=3):
        branches = [self.unit(x, f"{prefix}branch_0_conv_0a/")]
        for branch in (1, 2):
            inner = self.unit(x, f"{prefix}branch_{branch}_conv_0a/")
            branches.append(self.separable(inner, f"{prefix}branch_{branch}_conv_0b/"))
        pooled = max_pool(x, (time, 3, 3), (1, 1, 1))
        branches.append(self.unit(pooled, f"{prefix}branch_3_conv_0b/"))
        return np.concatenate(branches, axis=-1)

    def encoder(self, x, depth=True, deflated=False):
        """Clips in [0, 1], float64, to features."""
        time = 1 if deflated else 2
        if depth:
            x = self.unit(space_to_depth(x, (time, 2, 2)), "conv_1a/")
        else:
            x = self.unit(x, "conv_1a/", (time, 2, 2))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.separable(self.unit(x, "conv_2b/"), "conv_2c/")
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        window = 1 if deflated else 3
        for stage, pool in zip(STAGES, ((window, 3, 3), (time, 2, 2), None), strict=True):
            for name in stage:
                x = self.block(x, f"mixed_{name}/", window)
            if pool:
                x = max_pool(x, pool, (time, 2, 2))
        return {"features": x, "features_pooled": x.mean((1, 2, 3))}
