"""What embedders of all kinds share: batches of windows, their means, the choice of a space."""

from __future__ import annotations

import numpy as np
import pytest

from vatt_tf.data.media.windows import Inputs, text_inputs
from vatt_tf.embedder import Embedder, WindowSums, batches, choose_spaces, dimensions_of
from vatt_tf.errors import UserError

SPACES = {"va": ("video", "audio"), "vt": ("video", "text")}


def inputs_of(*counts, single=False):
    """Inputs of the given numbers of windows; window w of input i is [i, w]."""
    clips = ([np.array([i, w], np.float32) for w in range(n)] for i, n in enumerate(counts))
    return Inputs(single, len(counts), map(iter, clips))


def test_batches_cross_inputs():
    found = [(owners, rows[:, 1].tolist()) for owners, rows in batches(inputs_of(2, 3, 1), 4)]
    assert found == [([0, 0, 1, 1], [0, 1, 0, 1]), ([1, 2], [2, 0])]


def test_batches_are_bounded_by_bytes():
    """A window that is larger alone goes alone."""
    assert [owners for owners, _ in batches(inputs_of(3), 8, most_bytes=16)] == [[0, 0], [0]]
    strings = text_inputs(["a", "b" * 40, "cc", "d"])
    assert [rows.tolist() for _, rows in batches(strings, 8, most_bytes=3)] == [
        [b"a"],
        [b"b" * 40],
        [b"cc", b"d"],
    ]


@pytest.mark.parametrize("size", [1, 2, 9])
def test_windows_are_averaged_and_the_mean_has_length_one(size):
    sums = WindowSums(inputs := inputs_of(3, 1))
    for owners, rows in batches(inputs, size):
        sums.add(owners, {"va": rows + 1.0})
    np.testing.assert_allclose(sums.means()["va"], [[1, 2], [2, 1]])
    root = np.sqrt(5)
    expected = np.array([[1, 2], [2, 1]]) / root
    np.testing.assert_allclose(sums.embeddings("video", "va"), expected, rtol=1e-6)
    assert sums.embeddings("video", "all").keys() == {"va"}


def test_one_input_gives_vectors():
    sums = WindowSums(inputs_of(2, single=True))
    sums.add([0, 0], {"vt": [[3.0, 0.0], [3.0, 8.0]]})
    assert sums.means()["vt"].tolist() == [3.0, 4.0]
    np.testing.assert_allclose(sums.embeddings("text", None), [0.6, 0.8], rtol=1e-6)


def test_embeddings_that_are_not_finite():
    sums = WindowSums(inputs_of(1))
    sums.add([0], {"vt": [[np.nan, 1.0]]})
    with pytest.raises(UserError, match="the text embeddings in space vt are not finite"):
        sums.embeddings("text", None)


@pytest.mark.parametrize(
    ("modality", "space", "found"),
    [
        ("video", None, ["vt"]),
        ("video", "audio", ["va"]),
        ("video", "va", ["va"]),
        ("video", "all", ["va", "vt"]),
        ("audio", None, ["va"]),
        ("audio", "all", ["va"]),
        ("text", "video", ["vt"]),
    ],
)
def test_choice_of_a_space(modality, space, found):
    assert choose_spaces(modality, SPACES, space) == found


def test_without_the_usual_partner_it_is_the_first_space():
    assert choose_spaces("video", {"va": ("video", "audio")}, None) == ["va"]


@pytest.mark.parametrize("space", ["audio", "text", "va", "sound"])
def test_spaces_that_are_not_there(space):
    message = rf"space='{space}' for text: expected .* \(video\), a space name \(vt\) or 'all'"
    with pytest.raises(UserError, match=message):
        choose_spaces("text", SPACES, space)


def test_dimensions_of_exported_towers():
    output = {"space": "vt", "dim": 6, "partners": ["text"]}
    video = {"embedding": output, "features": {"dim": 8}}
    assert dimensions_of([("video", video)]) == {"vt": {"video": 6, "text": 6}}


def test_three_kinds():
    from vatt_tf.api import VattEmbedder
    from vatt_tf.export.loading import ExportedModels
    from vatt_tf.serving.client import AsyncClient, Client

    for kind in (VattEmbedder, ExportedModels, Client, AsyncClient):
        for name in ("embed_video", "embed_audio", "embed_text", "similarity"):
            assert getattr(kind, name) is getattr(Embedder, name), (kind, name)
