"""Definitions of public data sets: official files, official splits, recommended settings."""

from __future__ import annotations

from vatt_tf.data.datasets.actions import HMDB51, UCF101
from vatt_tf.data.datasets.audioset import AUDIOSET
from vatt_tf.data.datasets.digits import FSDD, SIGN_DIGITS
from vatt_tf.data.datasets.esc import ESC10, ESC50
from vatt_tf.data.datasets.howto100m import HOWTO100M
from vatt_tf.data.datasets.imagenet import IMAGENET
from vatt_tf.data.datasets.kinetics import KINETICS
from vatt_tf.data.datasets.moments import MOMENTS_IN_TIME
from vatt_tf.data.datasets.originals import Definition, Layout
from vatt_tf.data.datasets.retrieval import MSRVTT, YOUCOOK2
from vatt_tf.data.datasets.voc import VOC2007
from vatt_tf.data.prepare.plan import PlanError

__all__ = ["DATASETS", "Definition", "Layout", "definition"]

DATASETS: dict[str, Definition] = {
    each.name: each
    for each in (
        *KINETICS,
        MOMENTS_IN_TIME,
        AUDIOSET,
        IMAGENET,
        VOC2007,
        UCF101,
        HMDB51,
        ESC50,
        ESC10,
        HOWTO100M,
        YOUCOOK2,
        MSRVTT,
        FSDD,
        SIGN_DIGITS,
    )
}


def definition(name: str) -> Definition:
    """The definition of a data set.

    Raises:
        PlanError: There is none of that name.
    """
    if name not in DATASETS:
        raise PlanError(f"--dataset={name}: expected one of {', '.join(DATASETS)}")
    return DATASETS[name]
