import types

import numpy as np
import pytest

from train.evaluation.crossings import answers
from train.evaluation.crossings.answers import Answer, usual
from train.evaluation.crossings.overlap import overlap, paired
from train.evaluation.evaluator import evaluated
from train.modalities import Images
from train.pipeline import whole
from vqdit.tokenizer import Bytes, Labels


def figures(answer, said, truth, there=None, label=None):
    count = len(truth)
    batch = {"said": said, "truth": truth, "index": np.arange(count)}
    batch["there"] = np.ones(count, bool) if there is None else np.array(there)
    batch["label"] = np.full(count, -1) if label is None else np.array(label)
    found = {}
    for each in answer.evaluators():
        found |= evaluated(each, [batch])
    return {name: x for name, x in found.items() if not name.endswith("_interval")}


def answer(tokenizer, data=None, read=None, common=None):
    found = Answer("s", data, tokenizer, read)
    found.__dict__["usual"] = common  # what is else read of the data
    return found


def test_boxes_overlap_by_their_areas():
    """A wide box and a high one, which swapped axes would take for the same."""
    wide, high = [0.0, 0.4, 1.0, 0.6], [0.4, 0.0, 0.6, 1.0]
    assert overlap(wide, high) == pytest.approx(0.04 / 0.36)
    assert overlap(wide, wide) == 1
    assert overlap([0, 0, 0.5, 1], [0.25, 0, 0.75, 1]) == pytest.approx(1 / 3)
    assert overlap([0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]) == 0
    assert overlap([0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3]) == 0
    # Sides that are both the wrong way round have no area.
    assert overlap([0.6, 0.6, 0.4, 0.4], [0, 0, 1, 1]) == 0


def test_boxes_are_paired_so_that_the_sum_is_greatest():
    """Greedily the first would take what is all that the second can have."""
    true = np.array([[0, 0, 1, 1, 0], [0, 0, 0.5, 1, 0], [0, 0, 1, 1, -1]])
    drawn = np.array([[0, 0, 0.6, 1, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, -1]])
    found, of_class = paired(drawn, true)
    np.testing.assert_allclose(found, [1, 5 / 6])
    assert of_class.tolist() == [0, 0]
    assert paired(drawn[:1], true)[0].tolist() == [0, pytest.approx(5 / 6)]
    other = drawn + [0, 0, 0, 0, 1]
    assert paired(other[:2], true)[0].tolist() == [0, 0]
    assert paired(drawn, true[2:])[0].tolist() == []


def test_boxes_that_are_drawn_are_found_missed_or_too_many():
    """Two clips of two frames: of class 0 three of four are found, and six drawn; of
    class 1 the one is, at exactly the first limit that counts."""
    whole, none = [0, 0, 1, 1, 0], [0, 0, 0, 0, -1]
    half, far = [0, 0, 0.5, 1, 1], [0, 0, 0.1, 0.1, 0]
    true = np.array(
        [[[whole, none], [whole, [0, 0, 1, 1, 1]]], [[whole, none], [whole, none]]]
    )
    said = np.array([[[whole, far], [whole, half]], [[far, none], [whole, far]]])
    boxes = answer(types.SimpleNamespace(source="boxes", classes=2))
    found = figures(boxes, said, true)
    first, second = (1 + 1 + 0.5) / 3, (0.01 + 1) / 2
    assert found["iou"] == pytest.approx((first + second) / 2)
    assert found["map"] == pytest.approx((3 / 6 * 3 / 4 + 1.0) / 2)
    alone = figures(boxes, said, true, there=[True, False])
    assert alone["iou"] == pytest.approx(first)
    assert alone["map"] == pytest.approx((2 / 3 * 1.0 + 1.0) / 2)
    # A class of which there is none in the truth has no precision.
    three = answer(types.SimpleNamespace(source="boxes", classes=3))
    assert figures(three, said, true) == pytest.approx(found)


def test_texts_are_right_whole_or_by_their_codes():
    """Their end is a code too; a text without one, as long as its stream, has none."""
    texts = answer(Bytes(4))
    truth, said = ["ab", "abcd", "", "no"], ["ab", "abxx", "a", "none"]
    found = figures(texts, said, truth)
    assert found["text"] == 1 / 4
    assert found["tokens"] == pytest.approx((3 / 3 + 2 / 4 + 0 / 1 + 2 / 3) / 4)
    last = figures(texts, said, truth, there=[False, False, False, True])
    assert last == {"text": 0, "tokens": pytest.approx(2 / 3)}


def test_rows_are_right_by_column():
    """One that is drawn as missing is taken for the training mean; one that is truly
    missing does not count."""
    rows = answer(types.SimpleNamespace(source="row"), common={"age": 40.0, "sex": "f"})
    row = lambda age, sex: {"age": age, "sex": sex}
    truth = [row(10.0, "f"), row(50.0, "m"), row(None, "f"), row(20.0, None)]
    said = [row(13.0, "f"), row(None, None), row(99.0, "m"), row(24.0, "f")]
    found = figures(rows, said, truth)
    assert found["age_rmse"] == pytest.approx(np.sqrt((9 + 100 + 16) / 3))
    assert found["sex_accuracy"] == pytest.approx(1 / 3)
    # Of numbers 125 is left of 900 + 100 + 400, of categories two errors of one.
    assert found["explained"] == pytest.approx((1 - 125 / 1400 + 1 - 2 / 1) / 2)
    knows_nothing = figures(rows, [row(None, "f")] * 4, truth)
    assert knows_nothing["explained"] == 0
    assert figures(rows, truth, truth)["explained"] == 1
    same = [row(40.0, "f")] * 4  # where nothing varies, nothing is explained
    assert np.isnan(figures(rows, same, same)["explained"])


def test_the_usual_answer_is_the_mean_or_the_most_frequent():
    there = np.array([True, True, False, True])
    pixels = np.array([[[0]], [[3]], [[99]], [[5]]], np.uint8)
    assert usual(pixels, there).tolist() == [[3]] and usual(pixels, there).dtype == "u1"
    # Of floats the mean itself, which no whole number is.
    floats = usual(np.array([[0.25], [0.5], [99], [1.5]], np.float32), there)
    assert floats.tolist() == [0.75] and floats.dtype == np.float32
    assert usual(["a", "b", "b", "a"], there) == "a"
    assert usual(np.array([1, 2, 1, 2]), there) == 2
    rows = [{"n": x, "c": str(x)} for x in (1.0, 2.0, 7.0, None)]
    assert usual(rows, there) == {"n": 1.5, "c": "1.0"}


def test_who_knows_the_training_part_answers_by_some_of_it(monkeypatch):
    """Of 1,437 digits 1,024, evenly spaced; of a stream of which nothing is known, or
    of boxes, there is no answer."""
    words = ("nil", "one", "two", "three", "four", "five", "six", "seven", "o", "nine")
    data = Images("digits", size=8, channels=1, threads=0, words=words)
    train, rows = whole(data, True), np.arange(1024) * 1437 // 1024
    counts = np.bincount(train["label"][rows])
    assert Answer("s", data, Bytes(5)).usual == words[counts.argmax()]
    assert Answer("s", data, Labels(10)).usual == counts.argmax()
    mean = Answer("s", data, types.SimpleNamespace()).usual
    wanted = np.round(train["x"][rows].mean(0, dtype=float))
    np.testing.assert_array_equal(mean, wanted)
    assert mean.dtype == np.uint8
    # Of large ones no more than are affordable, of words as many as before.
    monkeypatch.setattr(answers, "VALUES", 20 * 64 + 63)
    few = train["x"][np.arange(20) * 1437 // 20].mean(0, dtype=float)
    mean = Answer("s", data, types.SimpleNamespace()).usual
    np.testing.assert_array_equal(mean, np.round(few))
    assert Answer("s", data, Labels(10)).usual == counts.argmax()
    assert Answer("s", None, types.SimpleNamespace(source="boxes")).usual is None
    take = answers.JointExamples.take
    unknown = lambda self, rows: take(self, rows) | {"known": {"s": rows < 0}}
    monkeypatch.setattr(answers.JointExamples, "take", unknown)
    assert Answer("s", data, Bytes(5)).usual is None


def test_a_signal_has_the_measure_of_its_kind_in_its_own_unit():
    """PSNR of an error of 1 in a range of 4, and of a perfect one the most there is."""
    measure = lambda x, y: 10 * np.log10(16 / np.square(x - y).mean() + 1e-30)
    data = types.SimpleNamespace(measure=measure, score="SI-SDR", quantities=0)
    codec = types.SimpleNamespace(to_raw=lambda x: 2 * x + 7)
    truth = np.zeros((2, 3, 1), np.float32)
    signals = answer(codec, data)
    said = truth + [[[0.5]], [[0.5]]]
    found = figures(signals, said.astype(np.float32), truth)
    assert found == {"si_sdr_db": pytest.approx(10 * np.log10(16))}
    data.measure = lambda x, y: np.inf
    assert figures(signals, truth, truth) == {"si_sdr_db": 100}


def test_what_is_explained_is_that_of_channels_whatever_their_unit():
    """Of the mean example nothing, of the truth all; half of the error in the one
    channel and none of it in the other, a thousand times as large, three quarters."""
    data = types.SimpleNamespace(score="SNR", measure=lambda x, y: 0.0, quantities=2)
    codec = types.SimpleNamespace(source="", to_raw=lambda x: 3 * x)
    way = answer(codec, data, common=np.array([[1.0, 2000], [1, 2000]], np.float32))
    truth = np.array([[[3, 0], [3, 0]], [[-1, 4000], [1, 4000]]], np.float32)
    mean = np.tile(way.usual, (2, 1, 1))
    told = lambda said: figures(way, said, truth)["explained"]
    assert told(mean) == pytest.approx(0) and told(truth) == 1
    half = truth + (mean - truth) * np.sqrt([0.5, 0])
    assert told(half) == pytest.approx((0.5 + 1) / 2)
    still = truth * [0, 1] + mean * [1, 0]  # a channel that is always the mean
    assert figures(way, still, still)["explained"] == 1
    nearly = still + [1e-7, 0]  # nor is rounding a spread
    assert figures(way, still, nearly.astype(np.float32))["explained"] == 1
    data.quantities = 1  # a channel that says what is known is none
    assert told(truth + [0.0, 9]) == 1


def test_several_draws_agree_on_one_answer():
    """Means of signals and numbers, the most frequent of all else, and of boxes those
    that most of the others overlap with."""
    texts, labels = answer(Bytes(4)), answer(types.SimpleNamespace(source="label"))
    assert texts.agreed([["a", "x"], ["b", "y"], ["b", "x"]]) == ["b", "x"]
    assert texts.agreed([["a"]]) == ["a"]
    found = labels.agreed([np.array([1, 2]), np.array([3, 2]), np.array([1, 0])])
    assert found.tolist() == [1, 2] and isinstance(found, np.ndarray)
    pixels = np.array([[[[0]]], [[[4]]], [[[5]]]], np.uint8)
    signals = answer(types.SimpleNamespace())
    assert signals.agreed([*pixels]).tolist() == [[[3]]]
    rows = answer(types.SimpleNamespace(source="row"))
    drawn = [[{"n": 1.0, "c": "f"}], [{"n": 3.0, "c": "m"}], [{"n": None, "c": "m"}]]
    assert rows.agreed(drawn) == [{"n": 2.0, "c": "m"}]
    boxes = answer(types.SimpleNamespace(source="boxes"))
    left, right, none = [0, 0, 0.4, 1, 0], [0.6, 0, 1, 1, 0], [0, 0, 0, 0, -1]
    near = [0.05, 0, 0.45, 1, 0]
    one = [[[left, none]], [[right, none]], [[left, right]]]  # of three frames
    two = [[[near, none]], [[none, none]], [[left, none]]]
    three = [[[right, none]], [[none, none]], [[left, right]]]
    draws = [np.array(x).reshape(1, 3, 2, 5) for x in (one, two, three)]
    found = boxes.agreed(draws)
    np.testing.assert_array_equal(found[0, 0], draws[0][0, 0])
    np.testing.assert_array_equal(found[0, 1], draws[1][0, 1])
    np.testing.assert_array_equal(found[0, 2], draws[0][0, 2])


def test_a_class_counts_where_there_is_one():
    labels = answer(types.SimpleNamespace(source="label"), read=np.asarray)
    said, label = np.array([0, 1, 2, 2]), [0, 1, 1, -1]
    assert figures(labels, said, said, label=label) == {"accuracy": 2 / 3}
    there = [True, False, True, True]
    assert figures(labels, said, said, there, label) == {"accuracy": 1 / 2}


def test_what_is_no_signal_is_said_in_a_few_words(monkeypatch):
    names = types.SimpleNamespace(class_names=("cat", "dog"))
    monkeypatch.setattr(answers, "open_examples", lambda data, train: names)
    label = answer(types.SimpleNamespace(source="label"))
    said = [label.word(np.int32(i)) for i in (0, 1, 2, -1)]
    assert said == ["cat", "dog", "2", "-1"]
    boxes = answer(types.SimpleNamespace(source="boxes"))
    drawn = np.zeros((2, 3, 5))  # of two frames
    drawn[0, :2, 4] = -1
    assert boxes.word(drawn) == "4 boxes"
    assert answer(Bytes(4)).word("abc") == "abc"
