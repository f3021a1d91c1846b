"""Word vectors from word2vec text, GloVe text and .npy files."""

import numpy as np
import pytest

from vatt_tf.data.text.word_vectors import load_word_vectors
from vatt_tf.errors import UserError

WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "red", "star", "unseen", "paris")
GLOVE = "the 9 9 9\nred 1 2 3\nstar -1 0.5 1e-3\n. . . 4 4 4\nParis 7 7 7\nred 5 5 5\n"


@pytest.mark.parametrize("head", ["", "6 3\n"], ids=["glove", "word2vec"])
def test_text_files(tmp_path, head):
    path = tmp_path / "vectors.txt"
    path.write_text(head + GLOVE)
    table, missing = load_word_vectors(path, WORDS)
    assert table.shape == (8, 3) and table.dtype == np.float32
    np.testing.assert_allclose(table[[0, 4, 5, 7]], [[0] * 3, [1, 2, 3], [-1, 0.5, 1e-3], [7] * 3])
    assert missing == ["unseen"]
    # Words without a vector: small, not all alike, the same again and in any vocabulary.
    own = table[[1, 2, 3, 6]]
    assert 0 < np.abs(own).max() <= 0.05 and len(np.unique(own)) == 12
    other, _ = load_word_vectors(path, ("<pad>", "unseen"))
    np.testing.assert_array_equal(other[1], table[6])


def test_a_vector_of_the_word_itself_wins_over_another_case(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("Red 9 9\nred 1 2\nSTAR 3 4\nStar 5 6\n")
    table, missing = load_word_vectors(path, ("<pad>", "red", "star"))
    assert table.tolist() == [[0, 0], [1, 2], [3, 4]] and missing == []


def test_npy(tmp_path):
    path = tmp_path / "vectors.npy"
    matrix = np.arange(16, dtype=np.float64).reshape(8, 2) + 1
    np.save(path, matrix)
    table, missing = load_word_vectors(path, WORDS)
    np.testing.assert_array_equal(table[1:], matrix[1:])
    assert not table[0].any() and missing == [] and table.dtype == np.float32
    np.save(path, matrix[:2])
    with pytest.raises(UserError, match=r"shape \(2, 2\).*expected numbers \[8, dimensions\]"):
        load_word_vectors(path, WORDS)
    # With the words beside it.
    (tmp_path / "vectors.txt").write_text("star\nred\n")
    table, missing = load_word_vectors(path, WORDS)
    assert table[4].tolist() == [3, 4] and table[5].tolist() == [1, 2]
    assert missing == ["unseen", "paris"]
    matrix[0, 1] = np.nan
    np.save(path, matrix[:2])
    with pytest.raises(UserError, match="row of 'star' holds NaN"):
        load_word_vectors(path, WORDS)
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match="no .npy matrix"):
        load_word_vectors(path, WORDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("red 1 2 3\nstar 1 2\n", "line 2 .*2 numbers, expected 3"),
        ("red 1 2 3\nstar 1 2 3 4\n", "line 2 .*4 numbers, expected 3"),
        ("red 1 2 3\nstar 1 x 3\n", "line 2 .*could not convert string to float"),
        ("2 4\nred 1 2 3\n", "line 2 .*3 numbers, expected 4"),
        ("red 1 nan 3\n", "line 1 .*NaN"),
        ("red\n", "line 1 .*0 numbers"),
        ("", "holds no word vectors"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=f"vectors.txt.*{message}"):
        load_word_vectors(path, WORDS)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="no word vectors at"):
        load_word_vectors(tmp_path / "nothing.txt", WORDS)
