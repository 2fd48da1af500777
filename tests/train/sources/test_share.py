"""A share of the training part: which records, and that nothing else goes on as if all
were there."""

import dataclasses

import numpy as np
import pytest

from tests.train.pipeline.test_streams import folder_of
from train.errors import BadInput
from train.modalities import Images
from train.modalities.draws import chance
from train.pipeline import JointExamples, open_examples
from train.pipeline.statistics import probe as probe_of
from train.pipeline.statistics import refuse_others
from train.sources import open_source
from train.sources.arrays import Arrays
from train.sources.share import Portion
from train.sources.split import name_draw

DIGITS = Images(name="digits", size=8, channels=1, threads=0)


def of(data, share, train=True):
    return open_source(dataclasses.replace(data, share=share), train)


def values(source):
    return np.stack([record.values for record in source])


def test_a_share_is_the_same_each_time_and_part_of_a_larger_one():
    whole = of(DIGITS, 1.0)
    half, tenth = of(DIGITS, 0.5), of(DIGITS, 0.1)
    np.testing.assert_array_equal(of(DIGITS, 0.1).rows, tenth.rows)
    assert set(tenth.rows) < set(half.rows)
    assert abs(len(tenth) - 144) < 5 * np.sqrt(144 * 0.9)  # standard errors
    assert abs(len(half) - 718) < 5 * np.sqrt(718 * 0.5)
    np.testing.assert_array_equal(values(tenth), values(whole)[tenth.rows])
    labels = np.array([record.label for record in tenth])
    np.testing.assert_array_equal(labels, tenth.labels)
    assert tenth.read_labels() == labels.tolist()
    assert (tenth.classes, tenth.class_names) == (10, whole.class_names)
    # What is held out stays whole.
    assert len(of(DIGITS, 0.1, train=False)) == 360


def test_captions_of_a_share_are_told_without_reading_it(tmp_path, monkeypatch):
    """Those of its records, where the whole tells its own."""
    names = [f"{i}.png" for i in range(30)]
    data = folder_of(tmp_path, names, bad_share=0.0, holdout=0.0)
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"word {i}")
    data = dataclasses.replace(data, share=0.4)
    examples = open_examples(data, True)
    monkeypatch.setattr(examples.source, "take", None)
    assert examples.values("caption") == [f"word {key}" for key in examples.keys]
    assert of(DIGITS, 0.5).told("caption") is None


def test_a_file_is_drawn_by_its_name(tmp_path):
    """So a file that is added moves no other, and names go together over kinds."""
    names = [f"{i}.png" for i in range(60)]
    some = folder_of(tmp_path / "a", names[::2], bad_share=0.0, holdout=0.0)
    more = folder_of(tmp_path / "b", names, bad_share=0.0, holdout=0.0)
    before, after = (set(of(each, 0.4).keys) for each in (some, more))
    assert before == after & {str(i) for i in range(0, 60, 2)} and before
    joined = {
        name: dataclasses.replace(each, share=0.4)
        for name, each in {"a": some, "b": more}.items()
    }
    assert len(JointExamples(joined, {}, True, "key")) == len(after)
    assert len(of(more, 1e-9)) == 1


def test_streams_of_other_shares_are_not_joined_by_index(tmp_path):
    """As many rows may be others; keys of the one and none of the other, too."""
    x = np.arange(64, dtype=np.uint8).repeat(16).reshape(64, 4, 4)
    small = {"size": 4, "channels": 1, "threads": 0, "holdout": 0.0, "share": 0.5}
    data = {}
    for name, more in (("a", {}), ("b", {"key": np.arange(64)}), ("c", {})):
        np.savez(tmp_path / f"{name}.npz", image=x, **more)
        data[name] = Images("npz", str(tmp_path / f"{name}.npz"), **small)
    found = JointExamples({n: data[n] for n in "ac"}, {}, True).take(np.arange(8))
    np.testing.assert_array_equal(found["streams"]["a"], found["streams"]["c"])
    shares = np.linspace(0.1, 0.9, 50).tolist()
    alike = next(s for s in shares if len(of(data["a"], s)) == len(of(data["b"], s)))
    both = {n: dataclasses.replace(data[n], share=alike) for n in "ab"}
    with pytest.raises(BadInput, match="data.b has other examples .* data.share"):
        JointExamples(both, {}, True)


def test_what_was_made_of_all_is_not_taken_for_a_share():
    """As a cache of latents is compared."""
    some = dataclasses.replace(DIGITS, share=0.1)
    with pytest.raises(BadInput, match="made of 1437 records and the data has 1"):
        refuse_others(probe_of(DIGITS, train=True), some, "the cache")


def test_one_record_has_no_share(tmp_path):
    np.savez(tmp_path / "one.npz", image=np.zeros((1, 4, 4), np.uint8))
    data = Images("npz", str(tmp_path / "one.npz"), holdout=0.0, size=4, channels=1)
    with pytest.raises(BadInput, match="data.share=0.1: .* 1 record; write 1"):
        of(data, 0.1)
    for share in (0.0, 1.5):
        with pytest.raises(BadInput, match="share"):
            of(data, share)


def test_what_has_one_key_is_in_a_share_or_not():
    """Also in one that would be empty else."""
    x, keys = np.zeros((9, 8, 8, 1), np.uint8), list("aaabbbccc")
    for share in (1e-9, 0.5):
        rows = Portion(Arrays(DIGITS, x, np.arange(9), keys=keys), share).rows
        assert {keys.count(keys[row]) for row in rows} == {3} and len(rows) % 3 == 0


def test_draws_of_a_share_are_no_others():
    """Not those that hold out: else a share would take the lowest rows of an .npz, and
    none of a table that has keys, of which the lowest are held out."""
    rows = np.arange(1437)
    keys = list(map(str, rows))
    keyed = Arrays(DIGITS, np.zeros((1437, 8, 8, 1), np.uint8), rows, keys=keys)
    by_name = np.array(list(map(name_draw, keys)))
    for source, draws in (
        (of(DIGITS, 0.3), chance(0, rows)),
        (Portion(keyed, 0.3), by_name),
    ):
        taken = np.isin(rows, source.rows)
        both = (taken & (draws < 0.3)).sum()
        assert abs(both - 0.09 * 1437) < 5 * np.sqrt(0.09 * 1437)
