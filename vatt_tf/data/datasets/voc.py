"""PASCAL VOC 2007: images with any number of 20 classes each."""

from __future__ import annotations

from collections.abc import Sequence

from vatt_tf.data.datasets.originals import Definition, Originals, read_lines
from vatt_tf.data.prepare.plan import PlanError

# In the order of the development kit.
CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
_FOLDERS = ("", "ImageSets/Main/", "VOC2007/ImageSets/Main/", "VOCdevkit/VOC2007/ImageSets/Main/")
_PRESENT, _ABSENT, _DIFFICULT = "1", "-1", "0"


def _read(originals: Originals) -> Sequence[str]:
    difficult = 0
    for split, part in (("train", "trainval"), ("test", "test")):
        names = [f"{folder}{CLASSES[0]}_{part}.txt" for folder in _FOLDERS]
        if split == "test" and originals.optional(names) is None:
            continue  # the images of 2007's test set come in another archive
        images: dict[str, list[str]] = {}
        for number, label in enumerate(CLASSES):
            path = originals.official(
                [f"{folder}{label}_{part}.txt" for folder in _FOLDERS],
                f"a line 'image 1', 'image -1' or 'image 0' (difficult) for every {part} image",
            )
            seen = set()
            for line, text in enumerate(read_lines(path), 1):
                if not text.strip():
                    continue
                image, _, mark = (field.strip() for field in text.strip().partition(" "))
                if mark not in (_PRESENT, _ABSENT, _DIFFICULT):
                    raise PlanError(
                        f"{path} line {line}: '{text.strip()}' where 'image 1', 'image -1' or "
                        "'image 0' was expected"
                    )
                if image in seen or (number and image not in images):
                    what = "twice" if image in seen else f"and not in that of {CLASSES[0]}"
                    raise PlanError(f"{path} line {line}: the image {image} is in it {what}")
                seen.add(image)
                labels = images.setdefault(image, [])
                if mark == _PRESENT:
                    labels.append(label)
                difficult += mark == _DIFFICULT
            if len(seen) != len(images):
                lacking = next(image for image in images if image not in seen)
                raise PlanError(f"{path}: has no line for the image {lacking}")
        for line, (image, labels) in enumerate(images.items(), 1):
            file = originals.find(f"JPEGImages/{image}", image)
            originals.add(file, split, labels, name=image, line=line)
    if difficult:
        note = (
            f"{difficult} pairs of image and class are marked difficult (0): they are stored "
            "without the class and count as negative; VOC's protocol leaves them out"
        )
        originals.rows.warnings.append({"file": "ImageSets/Main", "warning": note})
    return CLASSES


VOC2007 = Definition(
    name="voc2007",
    media="image",
    settings={"cut": "whole", "short_side": 256},
    read=_read,
    needs=(
        "JPEGImages/*.jpg, ImageSets/Main/{class}_trainval.txt and {class}_test.txt of "
        "VOCdevkit/VOC2007"
    ),
    protocol="trainval: train, test; multi-label linear probe, mean average precision over classes",
)
