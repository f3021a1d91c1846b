"""An image network from a video network (docs/reference.md, MMV).

A still image looks the same at every time, so every kernel may be summed over time and every shift
over time be left out (but for the order of the channels behind it). What is left of a difference
comes from the ends of the clip, where the video network sees zeros in place of frames;
``vatt_tf.training.tasks.deflation`` fits it away.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from vatt_tf.encoders import s3d, tsm_resnet
from vatt_tf.encoders.s3d import S3DTowerConfig
from vatt_tf.encoders.tower import TowerConfig
from vatt_tf.encoders.tsm_resnet import TSMResNetTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import build_vatt

_DEFLATE_WEIGHTS: dict[type, Any] = {
    s3d.S3DGEncoder: s3d.deflate_weights,
    tsm_resnet.TSMResNetEncoder: tsm_resnet.deflate_weights,
}


def deflated_tower(tower: TowerConfig) -> TowerConfig:
    """Configuration of the image network of a video tower.

    Raises:
        UserError: If it is one already, or reads no video.
    """
    if isinstance(tower, S3DTowerConfig) and not tower.deflated:
        return dataclasses.replace(tower, frames=1, deflated=True)
    if isinstance(tower, TSMResNetTowerConfig) and tower.shift:
        return dataclasses.replace(tower, frames=1, shift=False)
    if isinstance(tower, VideoTowerConfig) and tower.frames > 1:
        return dataclasses.replace(tower, frames=1, patch=(1, *tower.patch[1:]))
    raise UserError(f"the tower reads single images already, or no video at all: {tower}")


def deflate(model: Any) -> Any:
    """The model with an image network in place of its video tower; nothing is fitted.

    Args:
        model: Built ``VATT`` or ``Classifier`` with a video tower.

    Returns:
        A new model; its video input is ``[B, 1, H, W, 3]``. All other weights are copied.

    Raises:
        UserError: If there is no video tower, or it is an image network already.
    """
    config = model.config
    if isinstance(config, VattConfig):
        image = build_vatt(_with_image_tower(config))
    elif isinstance(config, ClassifierConfig):
        image = build_classifier(dataclasses.replace(config, tower=deflated_tower(config.tower)))
    else:
        raise UserError("a classifier of several modalities cannot be deflated; deflate its source")
    video = model.towers["video"]
    rest = image.weights
    if type(video) in _DEFLATE_WEIGHTS:
        _DEFLATE_WEIGHTS[type(video)](video, image.towers["video"])
        done = {weight.path for weight in image.towers["video"].weights}
        rest = [weight for weight in rest if weight.path not in done]
    values = {weight.path: weight for weight in model.weights}
    for weight in rest:
        weight.assign(_over_time(weight, ops.convert_to_numpy(values[weight.path])))
    return image


def _with_image_tower(config: VattConfig) -> VattConfig:
    """Of the agnostic model the configured patch, of which its tower is made."""
    tower: Any = deflated_tower(config.tower("video"))
    if config.kind == "agnostic":
        tower = dataclasses.replace(config.video, frames=tower.frames, patch=tower.patch)
    return dataclasses.replace(config, video=tower)


def _over_time(weight: Any, value: np.ndarray) -> np.ndarray:
    """A weight of the video network as the image network has it."""
    if tuple(weight.shape) == value.shape:
        return value
    if weight.path.endswith("patch_embedding/kernel"):
        return value.sum(axis=0, keepdims=True)
    if weight.path.endswith("temporal_embeddings"):
        return value.mean(axis=0, keepdims=True)  # All times are the same time.
    raise ValueError(f"{weight.path}: {value.shape} has no form {tuple(weight.shape)}")


def normalisations(tower: Any) -> list[Any]:
    """The BatchNorm scales and offsets of a tower: what deflation fits."""
    layer_of = {weight.path: weight.path.rpartition("/")[0] for weight in tower.weights}
    norms = {layer for path, layer in layer_of.items() if path.endswith("/moving_mean")}
    return [weight for weight in tower.trainable_weights if layer_of[weight.path] in norms]
