"""Tokenizers: vocabulary files, tokens against plain Python, saving inside a SavedModel."""

import re
import string

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.data.text import tokenizer as tokenizers
from vatt_tf.data.text.tokenizer import WordTokenizer, build_vocabulary, load_tokenizer
from vatt_tf.errors import UserError

KINDS = ("word", "wordpiece", "sentencepiece")
SHAPES, MOVES = ("circle", "square", "star"), ("moves left", "jumps", "is rotating slowly")
CAPTIONS = [
    f"A {colour} {shape} {move}."
    for colour in ("red", "green", "blue")
    for shape in SHAPES
    for move in MOVES
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    files = build_vocabulary(iter(CAPTIONS), path, kinds=KINDS, max_size=100)
    assert files == {k: tokenizers.TOKENIZERS[k].file_name for k in KINDS}
    return path


def plain_words(caption):
    return "".join(c for c in caption if c not in string.punctuation).lower().split()


def test_word_vocabulary_by_count_then_alphabet(tmp_path):
    build_vocabulary(["b a, a!", "C b a", "d"], tmp_path)
    lines = (tmp_path / "words.txt").read_text().split("\n")
    assert lines == ["<pad>", "<bos>", "<eos>", "<unk>", "a", "b", "c", "d", ""]
    build_vocabulary(["b a, a!", "C b a", "d"], tmp_path, max_size=6)
    assert load_tokenizer(tmp_path).words == ("<pad>", "<bos>", "<eos>", "<unk>", "a", "b")


def test_words_equal_plain_python(folder):
    tokenizer = load_tokenizer(folder, "word", max_tokens=5)
    ids = {word: i for i, word in enumerate(tokenizer.words)}
    captions = [*CAPTIONS[:3], "A RED circle's unseen-word", "", "...", "red\tstar\n jumps " * 3]
    expected = np.zeros((len(captions), 5), int)
    for row, caption in zip(expected, captions, strict=True):
        numbers = [ids.get(word, ids["<unk>"]) for word in plain_words(caption)][:5]
        row[: len(numbers)] = numbers
    tokens = tokenizer(tf.constant(captions))
    assert tokens.dtype == tf.int32
    np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_any_shape_and_any_bytes(folder, kind):
    tokenizer = load_tokenizer(folder, kind, max_tokens=7)
    assert (tokenizer.kind, tokenizer.max_tokens) == (kind, 7)
    assert 15 < tokenizer.vocab_size <= 100
    strings = np.array([[CAPTIONS[0], "", "ÄÖ red"], [CAPTIONS[5].upper(), "x", "!"]], object)
    tokens = tokenizer(tf.constant(strings)).numpy()
    assert tokens.shape == (2, 3, 7) and not tokens[0, 1].any()
    assert 0 <= tokens.min() and tokens.max() < tokenizer.vocab_size
    # The same alone, in lower case, and as a scalar.
    np.testing.assert_array_equal(tokenizer(tf.constant(CAPTIONS[5].lower())), tokens[1, 0])
    assert tokenizer(tf.constant(np.zeros((0, 2), object), tf.string)).shape == (0, 2, 7)
    invalid = tokenizer(tf.constant([b"red \xff\xfe\x80 star", b"red star"])).numpy()
    assert invalid.shape == (2, 7) and invalid[0, 0] == invalid[1, 0] != 0
    # Padding is only at the end.
    for row in tokens.reshape(-1, 7):
        assert (np.diff((row == 0).astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_lives_inside_a_saved_model(folder, kind, tmp_path):
    tokenizer = load_tokenizer(folder, kind, max_tokens=6)
    module = tf.Module()
    module.tokenizer = tokenizer
    module.tokens = tf.function(
        lambda strings: {"tokens": tokenizer(strings)},
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, tmp_path, signatures={"serving_default": module.tokens})
    loaded = tf.saved_model.load(tmp_path).signatures["serving_default"]
    strings = tf.constant([*CAPTIONS[:4], "", "other words"])
    np.testing.assert_array_equal(loaded(strings)["tokens"], tokenizer(strings))


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_building_again_give_the_same_file(folder, kind, tmp_path):
    name = load_tokenizer(folder, kind).save(tmp_path / "saved")
    original = (folder / tokenizers.TOKENIZERS[kind].file_name).read_bytes()
    assert (tmp_path / "saved" / name).read_bytes() == original
    assert load_tokenizer(tmp_path / "saved").kind == kind
    build_vocabulary(CAPTIONS, tmp_path / "again", kinds=(kind,), max_size=100)
    assert (tmp_path / "again" / name).read_bytes() == original
    assert [p.name for p in (tmp_path / "again").iterdir()] == [name]


def test_wordpieces_cover_new_words(folder):
    tokenizer = load_tokenizer(folder, "wordpiece")
    pieces = [tokenizer.words[i] for i in tokenizer(tf.constant("Stars rotated")).numpy() if i]
    assert "[UNK]" not in pieces and len(pieces) > 2
    assert re.sub("##", "", "".join(pieces)) == "starsrotated"


def test_official_file_with_indices(tmp_path):
    path = tmp_path / "howto100m_en.txt"
    path.write_text("2 <bos>\n0 <pad>\n1 <unk>\n4 red\n3 <eos>\n")
    tokenizer = load_tokenizer(path, max_tokens=3)
    assert tokenizer.kind == "word" and tokenizer.words[4] == "red"
    assert tokenizer(tf.constant("red thing")).numpy().tolist() == [4, 1, 0]


def test_captions_of_any_bytes_build_a_vocabulary(tmp_path):
    captions = [b"caf\xe9 bar", "two\nlines", "lone \udc80 surrogate", "naïve ＮＡÏＶＥ", ""]
    build_vocabulary(captions, tmp_path, kinds=("word", "sentencepiece"), max_size=60)
    words = load_tokenizer(tmp_path, "word").words
    assert {"caf", "bar", "two", "lines", "surrogate", "naïve"} <= set(words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<pad>\n<bos>\n<eos>\nred\n", "<unk> are missing"),
        ("red\n<pad>\n<bos>\n<eos>\n<unk>\n", "first entry is 'red'"),
        ("<pad>\n<bos>\n<eos>\n<unk>\nred\nred\n", "line 6: 'red' is also in line 5"),
        ("<pad>\n<bos>\n<eos>\n<unk>\nRed\n", "line 5: 'Red' is not in lower case"),
        ("<pad>\n<bos>\n\n<eos>\n<unk>\n", "line 3: empty"),
        ("0 <pad>\n1 <bos>\n2 <eos>\n5 <unk>\n", "indices are not 0 to 3"),
        ("\xff", "missing"),
    ],
)
def test_bad_word_files_are_named(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        load_tokenizer(path)
    assert message in str(error.value)


def test_other_errors(folder, tmp_path):
    with pytest.raises(UserError, match="room for 10"):
        load_tokenizer(folder, "word", vocab_size=10)
    assert load_tokenizer(folder, "word", vocab_size=100).vocab_size <= 100
    with pytest.raises(UserError, match="words.txt and wordpiece.txt and sentencepiece.model"):
        load_tokenizer(folder)
    with pytest.raises(UserError, match="no tokenizer file"):
        load_tokenizer(tmp_path / "nothing.txt")
    with pytest.raises(UserError, match="no tokenizer file"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="kind = .letters.: expected one of .word."):
        load_tokenizer(folder, "letters")
    (tmp_path / "x.txt").write_text("some\nwords\n")
    with pytest.raises(UserError, match="cannot tell which kind"):
        load_tokenizer(tmp_path / "x.txt")
    (tmp_path / "x.model").write_bytes(b"no model")
    with pytest.raises(UserError, match="no SentencePiece model"):
        load_tokenizer(tmp_path / "x.model")
    with pytest.raises(UserError, match="max_tokens is 0"):
        WordTokenizer(("<pad>", "<unk>"), 0)
    with pytest.raises(UserError, match="no captions"):
        build_vocabulary(["", "?"], tmp_path)
    with pytest.raises(UserError, match="kind letters"):
        build_vocabulary(["a"], tmp_path, kinds=("letters",))
    for kind in KINDS:
        with pytest.raises(UserError):
            build_vocabulary(CAPTIONS, tmp_path / "small", kinds=(kind,), max_size=4)
    assert not list((tmp_path / "small").iterdir())


def test_sentencepiece_with_another_padding_id(tmp_path):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS), model_writer=model, vocab_size=30, minloglevel=2
    )
    (tmp_path / "a.model").write_bytes(model.getvalue())
    with pytest.raises(UserError, match="padding id -1; expected 0"):
        load_tokenizer(tmp_path / "a.model")


def test_stop_words_are_left_out(tmp_path):
    words = ("<pad>", "<bos>", "<eos>", "<unk>", "the", "red", "star", "left", "three")
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n")
    tokenizer = load_tokenizer(tmp_path, "content_words", max_tokens=4)
    captions = ["The red star moves to the left.", "it's the", "", "Three of the stars"]
    expected = [[5, 6, 3, 7], [0, 0, 0, 0], [0, 0, 0, 0], [8, 3, 0, 0]]
    np.testing.assert_array_equal(tokenizer(tf.constant(captions)), expected)
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved" / "words.txt", tokenizer.kind, 4)
    np.testing.assert_array_equal(again(tf.constant(captions)), expected)
