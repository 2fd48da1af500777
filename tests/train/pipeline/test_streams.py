"""Batches of streams: what belongs together, and what is known of it."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.train.fresh import batches
from train.errors import BadInput
from train.modalities import Images, Series, Video
from train.pipeline import JointExamples, open_examples, streams
from train.pipeline.statistics import records_of
from train.pipeline.streams import check_values
from vqdit.tokenizer import BPE, Bytes, Labels

DIGITS = Images(name="digits", size=8, channels=1, threads=0)
SMALL = Series(length=16, channels=2, examples=40, threads=0)


def first(joined, batch=16, seed=3):
    return next(joined.batches(batch, seed))


def test_streams_of_their_own_data_are_joined_by_index():
    """Each as it is alone, in the one order, augmented by the same draws."""
    large = dataclasses.replace(DIGITS, flip=True)
    small = dataclasses.replace(large, size=4)
    joined = JointExamples({"left": large, "right": small}, {}, train=True)
    found = first(joined)
    for name, data in (("left", large), ("right", small)):
        alone = next(batches(data, True, 16, 3))
        np.testing.assert_array_equal(found["streams"][name], alone["x"])
        np.testing.assert_array_equal(found["label"], alone["label"])
    assert len(joined) == 1437 and joined.classes == 10 and not found["known"]


def test_data_that_several_streams_name_are_read_once(monkeypatch):
    joined = JointExamples({"a": DIGITS, "b": DIGITS}, {}, train=True)
    part, calls = joined.parts["a"], []
    augmented = part.augmented
    monkeypatch.setattr(
        part, "augmented", lambda *x: calls.append(x) or augmented(*x), raising=True
    )
    found = first(joined)["streams"]
    assert len(calls) == 1
    np.testing.assert_array_equal(found["a"], found["b"])
    for shared in (open_examples, records_of):  # by name it would be another one
        with pytest.raises(TypeError, match="positional-only"):
            shared(DIGITS, train=True)


def test_a_few_batches_in_order_are_spaced_over_the_set(monkeypatch):
    joined, asked = JointExamples({"a": DIGITS}, {}, train=False), []
    monkeypatch.setattr(joined, "take", asked.append)
    count = len(joined)
    list(joined.in_order(20, most=4))
    assert len(asked) == 4
    found = np.concatenate(asked)
    np.testing.assert_array_equal(found, np.arange(80) * count // 80)
    assert found[-1] >= count - count // 80 - 1  # of a sorted set, the last class too
    asked.clear()
    for rows in (np.arange(10), np.arange(10, 20)):  # of two processes
        list(joined.in_order(20, rows, most=1))
    np.testing.assert_array_equal(np.concatenate(asked), np.arange(20) * count // 20)
    asked.clear()
    list(joined.in_order(count + 5))
    assert len(asked) == 1 and set(asked[0]) == set(range(count))


def test_data_of_another_length_are_refused():
    with pytest.raises(BadInput, match=r"data.b has .* and data.a has 1437: .* index"):
        JointExamples({"a": DIGITS, "b": SMALL}, {}, train=True)


def test_gaps_come_as_what_is_known():
    joined = JointExamples({"pulse": SMALL}, {}, train=True)
    found, alone = first(joined), next(batches(SMALL, True, 16, 3))
    np.testing.assert_array_equal(found["known"]["pulse"], alone["known"])
    assert 0 < (alone["known"] == 0).mean() < 0.5


@pytest.fixture
def captioned(tmp_path):
    """Five pictures of their number; the third has no caption."""
    for i in range(5):
        grey = np.full((4, 4), 40 * i, np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{i}.png")
        if i != 2:
            (tmp_path / f"{i}.txt").write_text("abcde"[: i + 1])
    return Images("folder", str(tmp_path), size=4, channels=1, holdout=0.0, threads=0)


def test_a_caption_that_is_absent_is_not_known(captioned):
    both = {"image": captioned, "text": captioned}
    found = first(JointExamples(both, {"text": Bytes(5)}, train=True), 5)
    number = found["streams"]["image"][:, 0, 0, 0] // 40
    assert sorted(number) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found["known"]["text"], number != 2)
    codes = found["streams"]["text"]
    assert codes.shape == (5, 5, 1) and codes.dtype == np.int32
    for n, row in zip(number, codes[..., 0], strict=True):
        assert Bytes(5).decode(row[None]) == ["" if n == 2 else "abcde"[: n + 1]]


def test_a_text_too_long_and_a_label_beyond_are_refused(captioned):
    both = {"image": captioned, "text": captioned}
    with pytest.raises(BadInput, match="streams.text.tokenizer: the text 'ab.*' takes"):
        first(JointExamples(both, {"text": Bytes(2)}, train=True), 5)
    joined = JointExamples({"word": DIGITS}, {"word": Labels(5)}, train=True)
    with pytest.raises(BadInput, match="streams.word.tokenizer: label .: write 0 to 4"):
        first(joined)


def test_every_label_is_known_the_first_class_too():
    found = first(JointExamples({"word": DIGITS}, {"word": Labels(10)}, train=True), 64)
    assert found["known"]["word"].all() and 0 in found["label"]
    np.testing.assert_array_equal(found["streams"]["word"][:, 0, 0], found["label"])


def test_without_labels_no_word_is_known(captioned):
    found = first(
        JointExamples({"word": captioned}, {"word": Labels(5)}, train=True), 5
    )
    assert not found["known"]["word"].any()


def test_a_class_has_a_word_for_examples_without_a_caption(captioned):
    words = tuple("nil one two three four five six seven eight nine".split())
    data = dataclasses.replace(DIGITS, words=words)
    found = first(JointExamples({"word": data}, {"word": Bytes(5)}, train=True))
    texts = Bytes(5).decode(found["streams"]["word"][..., 0])
    assert texts == [words[label] for label in found["label"]]
    assert found["known"]["word"].all() and len(set(texts)) > 1
    with pytest.raises(BadInput, match="data.words has 9 and the data has 10 classes"):
        JointExamples({"word": dataclasses.replace(data, words=words[:9])}, {}, True)
    with pytest.raises(BadInput, match="data.words has 1 and the data has 0 classes"):
        JointExamples({"w": dataclasses.replace(captioned, words=("a",))}, {}, True)


def test_values_that_are_not_told_are_looked_at_in_a_few_examples(monkeypatch, capsys):
    """Some at once: of large signals 256 would not fit into memory. It says that the
    others were not."""
    words = tuple("nil one two three four five six seven eight nine".split())
    part, asked = open_examples(dataclasses.replace(DIGITS, words=words), True), []
    take = part.take
    monkeypatch.setattr(
        part, "take", lambda rows: asked.append(len(rows)) or take(rows)
    )
    assert check_values(Bytes(5), part, "word")
    assert max(asked) <= 16 and sum(asked) == 256
    assert "caption of 256 examples of 1,437 is known to have codes" in (
        capsys.readouterr().err
    )
    with pytest.raises(BadInput, match="streams.word.tokenizer: the text .* takes"):
        check_values(Bytes(4), part, "word")
    assert not check_values(Bytes(5), open_examples(DIGITS, True), "word")
    assert not capsys.readouterr().err


def test_of_told_texts_those_that_may_be_too_long_are_encoded(monkeypatch, capsys):
    """The longest first: a million take a second. Bytes say how many codes there are,
    and of pairs how many at most."""
    texts, asked = [None, "abab", "ab" * 3, "abcdefg", "ab" * 4], []
    part = SimpleNamespace(told=lambda name: texts)
    pairs = BPE.train(["ab ab abab"] * 9, 258, 4)
    encode = BPE.encode
    noted = lambda own, values: asked.append(list(values)) or encode(own, values)
    monkeypatch.setattr(BPE, "encode", noted)
    monkeypatch.setattr(streams, "LIGHT_CHUNK", 1)
    monkeypatch.setattr(streams, "LONGEST", 1)
    assert check_values(pairs, part, "word") and asked == [["ab" * 4]]
    assert "longest caption of 1 examples of 5 is known" in capsys.readouterr().err
    monkeypatch.setattr(streams, "LONGEST", 9)
    with pytest.raises(BadInput, match="the text 'abcdefg' takes 6 codes"):
        check_values(pairs, part, "word")
    monkeypatch.setattr(Bytes, "encode", None)
    assert check_values(Bytes(8), part, "word") and not capsys.readouterr().err


def folder_of(path, names, **fields):
    for i, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(path / name)
    fields = {"size": 4, "channels": 1, "holdout": 0.0, "threads": 0} | fields
    return Images("folder", str(path), **fields)


def test_folders_are_joined_by_the_names_of_their_files(tmp_path):
    a = folder_of(tmp_path / "a", ["0.png", "1.png"], bad_share=0.0)
    b = folder_of(tmp_path / "b", ["0.bmp", "1.bmp"], bad_share=0.0)
    found = first(JointExamples({"a": a, "b": b}, {}, train=True), 2)["streams"]
    np.testing.assert_array_equal(found["a"], found["b"])
    c = folder_of(tmp_path / "c", ["0.png", "2.png"], bad_share=0.0)
    with pytest.raises(BadInput, match="data.c has the file '2' where data.a has '1'"):
        JointExamples({"a": a, "c": c}, {}, train=True)
    # A folder of frames has no suffix, whatever stands behind a point in its name.
    folder_of(tmp_path / "clips", ["0.x/0.png", "1.x/0.png"])
    still = folder_of(tmp_path / "stills", ["0.x.png", "1.x.png"], bad_share=0.0)
    how = {"frames": 1, "size": 4, "holdout": 0.0, "bad_share": 0.0}
    clips = Video("folder", str(tmp_path / "clips"), **how)
    assert len(JointExamples({"clip": clips, "still": still}, {}, train=True)) == 2
    loose = dataclasses.replace(b, bad_share=0.1)
    with pytest.raises(BadInput, match="data.b.bad_share=0.1: .* write .*bad_share=0"):
        JointExamples({"a": a, "b": loose}, {}, train=True)


def test_a_pattern_that_is_none_is_one_line():
    data = Images("digits", size=8, channels=1)
    with pytest.raises(BadInput, match=r"--among=\(: "):
        JointExamples({"image": data}, {}, False).like("(")
