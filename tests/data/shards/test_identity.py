"""When two data sets are the same one."""

import json

import numpy as np
import pytest

from vatt_tf.data.shards.identity import SAMPLE, DataIdentity

SETTINGS = {"frame_rate": 10.0, "media": "video"}
FILES = [(f"v{i}.mp4", 1000 + i) for i in range(8)]


def identity(files=FILES, root="/a", settings=SETTINGS, columns=(), dataset=""):
    return DataIdentity.from_files(root, files, settings, columns, dataset)


def stored(one):
    """As it comes back from a file."""
    return DataIdentity.from_dict(json.loads(json.dumps(one.to_dict())))


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (identity(), True),
        (identity(root="/moved/to/b"), True),
        (identity(FILES[::-1]), True),
        (identity(FILES + [(f"new{i}.mp4", 5) for i in range(100)]), True),
        (identity(FILES[:4]), True),
        (identity(FILES[:3]), False),
        (identity([(name, size + 1) for name, size in FILES]), False),
        (identity([(f"sub/{name}", size) for name, size in FILES]), False),
        (identity(settings={**SETTINGS, "frame_rate": 5.0}), False),
        (identity(columns=("path", "label")), False),
        (identity(dataset="ucf101 2"), False),
        (identity([]), False),
    ],
)
def test_same_or_other(now, same):
    for one in (now, stored(now)):
        for before in (identity(), stored(identity())):
            assert (before.differences(one) == []) is same


def test_settings_that_came_later_are_no_difference():
    assert identity().differences(identity(settings={**SETTINGS, "new": 3})) == []


def test_differences_name_what_was_and_what_is():
    now = identity(FILES[:2], settings={**SETTINGS, "frame_rate": 5.0}, columns=("path",))
    text = "; ".join(identity().differences(now))
    assert "--frame_rate was 10.0, is 5.0" in text
    assert "the manifest had no columns (there was none), has the columns path" in text
    assert "25 % of its 8 files are among the 2 of now" in text


def test_stored_and_read_again():
    one = identity(columns=("path", "label"), dataset="esc50 2")
    again = stored(one)
    assert again == one and again.name == one.name and len(one.name) == 8
    assert str(again) == f"/a (esc50 2, 8 files, set {one.name})"
    for bad in (None, [], {"sample": 3}, {"settings": {}, "sample": "", "files": "x"}):
        assert DataIdentity.from_dict(bad) is None


def test_large_sets_are_compared_by_a_sample():
    """Exact while the files are known, within a few percent once they are stored."""
    rng = np.random.default_rng(0)
    files = [(f"{rng.integers(1 << 60):x}.mp4", i) for i in range(20_000)]
    before = identity(files)
    assert len(stored(before).sample) == SAMPLE
    for there in (1.0, 0.8, 0.3):
        kept = files[: round(there * len(files))]
        for more in (0, 20_000):
            now = identity(kept + [(f"more{i}", i) for i in range(more)])
            assert abs(stored(before).still_there(now) - there) < 0.03
            assert abs(stored(before).still_there(stored(now)) - there) < 0.06
    few = identity(files[:500])
    assert few.still_there(before) == 1.0 and stored(few).still_there(before) == 1.0
    assert stored(few).still_there(stored(before)) == 1.0
