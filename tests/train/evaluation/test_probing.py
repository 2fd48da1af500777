"""Probes of planted features, and which class of what examples are."""

import numpy as np
import pytest
import soundfile

from train.errors import BadInput
from train.evaluation import evaluator
from train.evaluation import targets as module
from train.evaluation.probing import components, probed, validation
from train.evaluation.targets import Labelled, labelled_parts, targets
from train.modalities import Audio, Images

DIGITS = Images(name="digits", size=8, channels=1, threads=0)


def planted(count, seed, noise=0.3):
    """Features of which two numbers tell three classes apart, the rest is noise, and
    one is the same of all."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = draw.normal(0, noise, (count, 6))
    x[np.arange(count), labels] += 2
    x[:, 5] = 7.0
    return (x * [1, 1, 1, 50, 1, 1]).astype(np.float32), labels


def test_what_is_there_is_found_and_what_is_not_is_not():
    x, y = planted(300, 0)
    held, truth = planted(150, 1)
    found = probed(x, y, held, truth)
    assert found.linear == 1.0 and found.neighbours == 1.0 and found.dim == 6
    assert found.scaled  # in their own units the loudest feature, a noise, decides
    shuffled = np.random.default_rng(2).permutation(truth)
    found = probed(x, y, held, shuffled)
    for score in (found.linear, found.neighbours):
        assert abs(score - 1 / 3) < 5 * np.sqrt(2 / 9 / 150)  # standard errors


def test_nothing_is_chosen_by_the_held_out_part():
    x, y = planted(90, 0, noise=2.0)
    held, truth = planted(60, 1, noise=2.0)
    one, other = probed(x, y, held, truth), probed(x, y, held[::-1], (truth + 1) % 3)
    chosen = lambda found: (found.strength, found.nearest, found.scaled)
    assert chosen(one) == chosen(other)


def test_what_is_chosen_is_not_seen_by_what_chooses():
    """Each example is its own nearest, so that one neighbour were always the best."""
    x, y = planted(300, 0, noise=2.0)
    found = probed(x, y, *planted(30, 1, noise=2.0))
    assert found.nearest > 1 and found.neighbours < 1


def test_a_fifth_of_each_class_validates():
    labels = np.repeat([0, 1, 2], [50, 10, 4])
    found = validation(labels)
    assert [found[labels == c].sum() for c in range(3)] == [10, 2, 0]
    np.testing.assert_array_equal(found, validation(labels))
    with pytest.raises(BadInput, match="4 training examples of 2 classes"):
        validation(np.arange(4) % 2)


def test_components_are_in_the_order_of_what_they_carry():
    x = np.random.default_rng(0).normal(0, [5, 1, 3], (200, 3))
    low = components(x, 2)(x)
    assert low.shape == (200, 2) and components(x, 9)(x).shape == (200, 3)
    for column, axis in ((0, 0), (1, 2)):
        assert abs(np.corrcoef(low[:, column], x[:, axis])[0, 1]) > 0.95


def test_rows_of_batches_go_together(monkeypatch):
    """Whatever is in a batch to fill it up."""
    monkeypatch.setattr(evaluator, "CHUNK", 7)
    rows = np.array([3, 8, 9, 20, 31, 44, 45, 61, 70, 5])
    part = Labelled(DIGITS, True, rows, rows)
    ask = lambda batch: {"row": batch["index"][:, None]}
    np.testing.assert_array_equal(part.gathered(ask, "")["row"][:, 0], rows)


@pytest.fixture
def clips(tmp_path):
    """Two takes of two speakers in each class, and one held-out speaker."""
    for who in ("ann", "bob", "eve"):
        for take in (0, 1):
            for digit in (3, 7):
                path = tmp_path / f"{digit}_{who}_{take}.wav"
                soundfile.write(path, np.sin(np.arange(60.0)), 1000)
    fields = {"rate": 1000, "length": 50, "threads": 0}
    return Audio(name="folder", data_dir=str(tmp_path), holdout="speaker:eve", **fields)


def test_names_say_who_speaks(clips):
    found = targets(clips, True, np.arange(8), "speaker")
    assert found.tolist() == ["ann", "ann", "bob", "bob"] * 2
    digit = targets(clips, True, np.arange(8), "name:^([37])_")
    assert digit.tolist() == ["3"] * 4 + ["7"] * 4
    with pytest.raises(BadInput, match="one group"):
        targets(clips, True, np.arange(8), "name:_")
    with pytest.raises(BadInput, match="no held-out example is of a training class"):
        labelled_parts(clips, "speaker")
    train, held, said = labelled_parts(clips, "name:^([37])_")
    assert said["classes"] == ["3", "7"] and said["chance"] == 0.5
    assert (len(train.rows), len(held.rows)) == (8, 4)


def test_chance_is_of_who_knows_the_training_part_alone(tmp_path):
    """And always says its commonest class, which is the rarest that is held out."""
    for part, counts in (("train", (6, 4)), ("test", (2, 6))):
        label = np.repeat([0, 1], counts)
        image = np.zeros((len(label), 8, 8, 1), np.uint8)
        np.savez(tmp_path / f"{part}.npz", image=image, label=label)
    data = Images("npz", str(tmp_path), size=8, channels=1, threads=0)
    assert labelled_parts(data)[2]["chance"] == 0.25


def test_what_is_not_to_be_told_is_said():
    with pytest.raises(BadInput, match="write speaker, name:REGEX or one of label"):
        labelled_parts(DIGITS, "acton")
    with pytest.raises(BadInput, match="examples of digits have no names"):
        labelled_parts(DIGITS, "speaker")
    train, held, said = labelled_parts(DIGITS, train_most=50, held_most=20)
    assert said["examples"] == [50, 20] and said["left_out"] == 0
    np.testing.assert_array_equal(
        train.classes, labelled_parts(DIGITS, "label", 50)[0].classes
    )


def test_what_is_told_is_a_field_of_each_example(monkeypatch):
    """Of those that fill up a batch nothing; and of one class there is nothing to tell
    apart."""
    asked = []

    def examples(data, train, rows, **how):
        asked.append((data, train, rows, how))
        for x, valid in ((["a", "b"], [1, 1]), (["b", "a"], [1, 0])):
            valid, index = np.array(valid, bool), np.arange(2)
            pixels, share = np.zeros((2, 4, 4, 1)), np.zeros(2)
            yield {"x": pixels, "who": np.array(x), "share": share} | {
                "valid": valid,
                "index": index,
            }

    monkeypatch.setattr(module, "examples", examples)
    rows = np.arange(3)
    found = module.targets(DIGITS, False, rows, "who")
    assert found.tolist() == ["a", "b", "b"] and found.dtype == object
    assert asked == [(DIGITS, False, rows, {"divided": False, "doing": "reading"})]
    for target in ("x", "share", "index", "nobody"):
        with pytest.raises(BadInput) as refusal:
            module.targets(DIGITS, False, rows, target)
        line = f"--target={target}: write speaker, name:REGEX or one of who"
        assert str(refusal.value) == line
    monkeypatch.setattr(module, "targets", lambda *_: np.array(["a", None], object))
    with pytest.raises(BadInput) as refusal:
        labelled_parts(DIGITS, "who", 2, 2)
    assert str(refusal.value) == (
        "--target=who: the training examples have 1 classes; a probe tells two or "
        "more apart"
    )
