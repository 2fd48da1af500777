import types

import jax
import numpy as np
import pytest

from tests.train.evaluation.test_contract import Network
from train.errors import BadInput
from train.evaluation import evaluator as streaming
from train.evaluation.evaluator import evaluated, examples, grouped
from train.evaluation.samples import Frechet, Reference, balanced_rows, curve
from train.modalities import Images
from train.pipeline import open_examples, whole
from train.runtime import hosts
from vqdit.metrics import frechet_distance, statistics
from vqdit.signal import to_uint8
from vqdit.trained.contract import LatentContract

DATA = Images(threads=0)


@pytest.mark.parametrize("processes", [1, 3])
def test_every_example_is_read_once_by_one_process(processes, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 50)
    wanted, seen, sizes = whole(DATA, False), [], set()
    for process in range(processes):
        monkeypatch.setattr(
            hosts, "share", lambda process=process: (process, processes)
        )
        for batch in examples(DATA, False):
            sizes.add(len(batch["x"]))
            index = batch["index"][batch["valid"]]
            np.testing.assert_array_equal(batch["x"], wanted["x"][batch["index"]])
            seen += index.tolist()
    assert sorted(seen) == list(range(360)) and sizes == {50}


def test_some_examples_are_evenly_spaced():
    held = open_examples(DATA, False)
    assert held.spaced(4).tolist() == [0, 90, 180, 270]
    assert held.spaced(1000).tolist() == list(range(360))
    found = np.concatenate([b["index"] for b in examples(DATA, False, held.spaced(7))])
    np.testing.assert_array_equal(found, held.spaced(7))
    with pytest.raises(BadInput, match="at least 1 example"):
        held.spaced(0)


def test_groups_hold_as_much_as_is_affordable(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 50)
    monkeypatch.setattr(streaming, "GROUP", 120 * 64)
    groups = list(grouped(examples(DATA, False)))
    assert [len(group["x"]) for group in groups] == [100, 100, 100, 60]
    index = np.concatenate([group["index"] for group in groups])
    np.testing.assert_array_equal(index, np.arange(360))


class Judge(Network):
    protocol = 7

    def features(self, x):
        return x.reshape(len(x), -1)[:, 18:46:7].astype(np.float32)


def test_the_reference_is_that_of_the_whole_sets(monkeypatch):
    """Also where the training set is read in parts, again and again."""
    judge, (train, held) = Judge(), (whole(DATA, part) for part in (True, False))
    of = lambda x: statistics(judge.features(x))
    wanted = {
        "judge": judge.protocol,
        "judge_accuracy": np.mean(judge.predict(held["x"]) == held["label"]),
        "train_distance": frechet_distance(of(train["x"]), of(held["x"])),
        "floor_distance": frechet_distance(
            of(train["x"][balanced_rows(train["label"], 100)]), of(held["x"])
        ),
        "floor_count": 100,
        "heldout_count": 360,
    }
    found = Reference.of(judge, DATA)
    assert found.figures(100) == pytest.approx(wanted, rel=1e-9)
    gap = held["x"].reshape(360, 1, 64).astype(np.float32)
    gap = np.square(gap - train["x"].reshape(1, -1, 64)).sum(-1).min(1)
    assert found.apart == pytest.approx(np.median(np.sqrt(gap)), rel=1.001e-3)
    monkeypatch.setattr(streaming, "GROUP", 500 * 64)
    again = Reference.of(judge, DATA)
    assert again.figures(100) == pytest.approx(wanted, rel=1e-9)
    assert again.apart == found.apart


def test_samples_are_scored_by_the_stream_of_their_kind():
    """Whatever its name, and whatever else is drawn with it."""
    contract = LatentContract("image", (8, 8, 1), (8, 8), 1, (), (0.0,), (1.0,), "")
    x = jax.random.uniform(jax.random.key(0), (20, 8, 8, 1), minval=-1)
    generator = types.SimpleNamespace(
        codecs={"photo": types.SimpleNamespace(contract=contract)},
        trained_labels=np.arange(10),
        sampler=lambda **how: lambda *ids, **how: {"words": x[..., 0], "photo": x},
    )
    reference = Reference.of(Judge(), DATA)
    (row,) = curve(generator, reference, (1.0,), 20)
    wanted = statistics(Judge().features(np.asarray(to_uint8(x))))
    wanted = frechet_distance(wanted, reference.heldout)
    assert row["distance"] == pytest.approx(wanted, rel=1e-6)


def test_processes_add_up(monkeypatch):
    score = lambda: evaluated(Frechet(Judge()), grouped(examples(DATA, False)))
    alone, sums = score(), []
    monkeypatch.setattr(hosts, "total", lambda x: sums.append(x) or np.asarray(x))
    for process in range(2):
        monkeypatch.setattr(hosts, "share", lambda process=process: (process, 2))
        score()
    first, second = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    both = iter([a + b for a, b in zip(first, second, strict=True)])
    monkeypatch.setattr(hosts, "total", lambda x: next(both))
    jax.tree.map(np.testing.assert_allclose, score(), alone)


def test_a_few_examples_without_captions_join_those_that_have_them():
    x = np.zeros((2, 4, 4, 1), np.uint8)
    batches = [{"x": x, "caption": np.array(["a", None], object)}, {"x": x}]
    for order in (batches, batches[::-1]):
        (found,) = grouped(order)
        assert len(found["x"]) == 4 and "caption" not in found
