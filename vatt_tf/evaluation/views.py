"""Views of a clip at test time and their aggregation: the papers' protocols by name."""

from __future__ import annotations

import dataclasses

from vatt_tf.errors import UserError

AGGREGATES = {
    "logits": "mean of logits over the views",
    "embeddings": "mean of embeddings, then L2 norm",
    "features": "mean of features over the views",
    "scores": "mean of class scores over the views; each training window is an example",
}
TASKS = {
    "logits": ("classify",),
    "embeddings": ("retrieval", "zero_shot"),
    "features": ("probe",),
    "scores": ("probe",),
}


@dataclasses.dataclass(frozen=True)
class Views:
    """Views of a clip: windows that are linearly spaced in time, times crops in space.

    Attributes:
        windows: Windows of a clip.
        crops: 1 (centre) or 3 (start, middle and end of the longer side).
        aggregate: What is averaged over the views, a key of ``AGGREGATES``.
        train_windows: Windows of a training clip, for probes.
        source: Paper or recipe of the protocol.
    """

    windows: int = 4
    crops: int = 1
    aggregate: str = "logits"
    train_windows: int = 4
    source: str = ""

    def protocol(self, name: str) -> dict[str, str | int]:
        """Returns the ``protocol`` entry of a classification block."""
        training = {"train_windows": self.train_windows} if "probe" in self.tasks else {}
        return {
            "views": name,
            "windows": self.windows,
            "crops": self.crops,
            "aggregation": AGGREGATES[self.aggregate],
            **training,
        }

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks to which the views apply."""
        return TASKS[self.aggregate]


# docs/reference.md, Evaluation views. The strides of the papers (every second frame of 25 fps) are
# in the clip of the model.
VIEWS = {
    "kinetics": Views(4, 3, "logits", source="VATT A.2.5: Kinetics and Moments in Time"),
    "audioset": Views(4, 1, "logits", source="VATT, released code"),
    "imagenet": Views(1, 1, "logits", source="VATT 4.2.3: the image over one temporal patch"),
    "ucf101_probe": Views(4, 1, "scores", 1, source="VATT, released code: UCF101 and HMDB51"),
    "esc50": Views(4, 1, "scores", 1, source="VATT, released code"),
    "mmv_ucf101": Views(10, 1, "scores", 10, source="MMV, eval_ucf101"),
    "mmv_hmdb51": Views(10, 1, "scores", 10, source="DMVR, linear_mmv_hmdb"),
    "retrieval": Views(4, 1, "embeddings", source="VATT A.3.3: YouCook2 and MSR-VTT"),
}
# Without --views.
DEFAULTS = {
    "classify": Views(4, 1, "logits"),
    "probe": Views(4, 1, "features", 4),
    "retrieval": VIEWS["retrieval"],
    "zero_shot": VIEWS["retrieval"],
}


def views_of(
    task: str, name: str | None = None, windows: int | None = None, crops: int | None = None
) -> Views:
    """Returns the views of a task.

    Args:
        task: Task of ``vatt_tf.evaluate``.
        name: A key of ``VIEWS``; the task's default without one.
        windows: Overrides the windows (of a probe's training clips too, if they are several).
        crops: Overrides the crops.

    Raises:
        UserError: If the name is unknown or not for the task, or the crops are not possible.
    """
    if name is not None and name not in VIEWS:
        raise UserError(f"--views={name}: expected one of {', '.join(VIEWS)}")
    views = DEFAULTS[task] if name is None else VIEWS[name]
    if task not in views.tasks:
        fitting = [known for known, other in VIEWS.items() if task in other.tasks]
        raise UserError(
            f"--views={name} is for --task={'|'.join(views.tasks)}, the task is {task}: take one "
            f"of {', '.join(fitting)}, or give --windows"
        )
    if windows is not None:
        several = windows if views.train_windows > 1 else 1
        views = dataclasses.replace(views, windows=windows, train_windows=several)
    if crops is not None:
        views = dataclasses.replace(views, crops=crops)
    if views.crops not in (1, 3):
        raise UserError(f"--crops={crops}: expected 1 (centre) or 3")
    if views.crops > 1 and views.aggregate == "embeddings":
        raise UserError(f"--crops={crops}: {task} takes the centre crop; leave --crops out")
    return views
