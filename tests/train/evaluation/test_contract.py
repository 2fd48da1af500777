"""What every evaluator keeps to: figures are of the examples, not of their batches.

A new evaluator is a line of CASES: itself, the entries of its batches, and its figures
in closed form.
"""

import types
from collections import Counter

import jax
import numpy as np
import pytest

from tests.members import missing
from train import evaluation
from train.evaluation import texts
from train.evaluation.crossings.crossings import Beside
from train.evaluation.estimates import Posterior, Proportion, Resampled, roc_auc
from train.evaluation.evaluator import Evaluator, Several, evaluated, merged
from train.evaluation.likeness import (
    Likeness,
    Memorisation,
    RealFeatures,
    accuracy,
)
from train.evaluation.means import Mean, Median, decibels, distance, squared_error
from train.evaluation.reconstruction.codebook import CodebookUse
from train.evaluation.texts import Wording
from train.modalities import Images
from train.pipeline import whole
from vqdit.metrics import frechet_distance, neighbourhoods, statistics
from vqdit.metrics.histogram import DECIBELS
from vqdit.trained.contract import LatentContract

N = 24
DRAW = np.random.default_rng(0)
DIGITS = Images(threads=0)
X = DRAW.integers(0, 256, (N, 8, 8, 1)).astype(np.uint8)
VALUES = np.where(DRAW.random(N) < 0.2, np.nan, DRAW.normal(size=N))
PLACES = DRAW.normal(size=(N, 3)).astype(np.float32)
WAS, IS, WHERE = DRAW.normal(size=(2, N, 5)), DRAW.normal(size=(N, 5)), [True, False]
WHERE = DRAW.random((N, 5)) < 0.5
CODES = DRAW.integers(0, 3, (N, 2, 2, 2)).astype(np.int32)
LABELS = DRAW.integers(0, 3, N)


class Network:
    """A judge that sees the first pixels."""

    dim = 4

    def features(self, x):
        return x.reshape(len(x), -1)[:, :4].astype(np.float32)

    def predict(self, x):
        return x.reshape(len(x), -1)[:, 0] % 3


def contract(*codes):
    grid = (2, 2)
    return LatentContract("image", (8, 8, 1), grid, 1, codes, (0.0,), (1.0,), "")


def entropy(codes):
    share = np.unique(codes, return_counts=True)[1] / codes.size
    return -(share * np.log2(share)).sum()


def apart():
    """Distances of X to the nearest digit, by brute force."""
    train = whole(DIGITS, True)["x"].reshape(-1, 64).astype(float)
    gap = [np.square(train - x).sum(1).min() for x in X.reshape(N, 64).astype(float)]
    return np.sqrt(gap)


def pairs(text):
    return np.bincount(list(texts._pairs(text)), minlength=texts.PAIRS) / 3


def proportion(true, count):
    """Wilson's interval, as the solutions of (p - share)^2 = z^2 p (1 - p) / count."""
    z, share = 1.959964, true / count
    roots = np.roots([1 + z**2 / count, -2 * share - z**2 / count, share**2])
    return sorted(map(float, roots.real))


def bits_apart(*words):
    """Jensen-Shannon divergence of the pairs of letters of two lists of words."""
    shares = []
    for each in words:
        found = Counter(f"^{w}$"[i : i + 2] for w in each for i in range(len(w) + 1))
        shares.append({pair: n / found.total() for pair, n in found.items()})
    p, q = shares
    kl = lambda p, q: sum(x * np.log2(2 * x / (x + q.get(k, 0))) for k, x in p.items())
    return (kl(p, q) + kl(q, p)) / 2


NETWORK = Network()
REAL = DRAW.normal(100, 70, (50, 4))
REFERENCE = RealFeatures(statistics(REAL), REAL)
WORDS = DRAW.choice(["ab", "ba", "b", ""], N)
ERROR = np.square(WAS[0] - IS)
COUNT, RIGHT = (~np.isnan(VALUES)).sum(), PLACES.argmax(1) == LABELS
ENTROPIES = [entropy(CODES[..., i]) for i in range(2)]
PERPLEXITIES = [2**e for e in ENTROPIES]
CASES = {
    "mean": lambda: (
        Mean("m", lambda b: b["v"]),
        {"v": VALUES},
        {"m": np.nanmean(VALUES)},
    ),
    "means of places": lambda: (
        Mean("m", lambda b: b["v"], decibels, 3),
        {"v": np.square(PLACES)},
        {"m": list(-10 * np.log10(np.square(PLACES, dtype=float).mean(0)))},
    ),
    "squared error": lambda: (
        Mean("e", squared_error("a", "b", "where"), lambda e: float(np.sqrt(e))),
        {"a": WAS[0], "b": IS, "where": WHERE},
        {"e": np.sqrt(ERROR[WHERE].mean())},
    ),
    "median": lambda: (
        Median("m", distance("a", "b")),
        {"a": WAS[0], "b": IS},
        {"m": np.median(np.abs(WAS[0] - IS))},
    ),
    "median of decibels": lambda: (
        Median("m", lambda b: 20 * b["v"], bins=DECIBELS),
        {"v": VALUES},
        {"m": np.nanmedian(20 * VALUES)},
    ),
    "codes": lambda: (
        CodebookUse(contract(4, 3)),
        {"codes": CODES},
        {
            "tokens": 4,
            "bits_per_example": 4 * (2 + np.log2(3)),
            "usage": (3 / 4 + 1) / 2,
            "perplexity": np.mean(PERPLEXITIES),
        },
    ),
    "codes of each book": lambda: (
        CodebookUse(contract(3, 6), named=True),
        {"codes": CODES},
        {
            "tokens": 4,
            "bits_per_example": 4 * np.log2(18),
            **{"usage": 0.75, "usage_0": 1.0, "usage_1": 0.5},
            "perplexity_0": PERPLEXITIES[0],
            "perplexity_1": PERPLEXITIES[1],
            "perplexity": np.mean(PERPLEXITIES),
        },
    ),
    "codes of sound": lambda: (
        CodebookUse(contract(3, 3), sound=(100, 2000.0)),
        {"codes": CODES},
        {
            "tokens": 8,
            "bits_per_example": 8 * np.log2(3),
            "usage": [1.0, 1.0],
            "perplexity": PERPLEXITIES,
            "kbps": 8 * np.log2(3) * 20 / 1000,
            "entropy_kbps": 4 * sum(ENTROPIES) * 20 / 1000,
        },
    ),
    "accuracy": lambda: (
        accuracy(NETWORK),
        {"x": X, "label": LABELS},
        {"accuracy": np.mean(X[:, 0, 0, 0] % 3 == LABELS)},
    ),
    "accuracy of those that have a label": lambda: (
        accuracy(NETWORK),
        {"x": X, "label": np.where(np.arange(N) % 2, LABELS, -1)},
        {"accuracy": np.mean(X[1::2, 0, 0, 0] % 3 == LABELS[1::2])},
    ),
    "likeness": lambda: (
        Likeness(NETWORK, np.arange(10), REFERENCE, prefix="p_"),
        {"x": X, "index": np.arange(N)},
        {
            "p_distance": frechet_distance(
                statistics(NETWORK.features(X)), REFERENCE.statistics
            ),
            **{
                f"p_{name}": value
                for name, value in neighbourhoods(
                    REAL[::5], NETWORK.features(X)[:10], 5
                ).items()
            },
        },
    ),
    "memorisation": lambda: (
        Memorisation(DIGITS, 4.0, prefix="p_"),
        {"x": X},
        {"p_memorisation": np.median(apart()) / 4, "p_copied_share": 0.0},
    ),
    "memorisation of what is held out": lambda: (
        Memorisation(DIGITS),
        {"x": X},
        {"apart": np.median(apart()), "copied_share": 0.0},
    ),
    "wording": lambda: (
        Wording("w", pairs("ab"), np.array([texts._mark("ba")]), 10),
        {"w": WORDS, "index": np.arange(N)},
        {
            "pair_bits": bits_apart(WORDS, ["ab"]),
            "copied_share": np.mean(WORDS == "ba"),
            "distinct_share": len(set(WORDS[:10])) / 10,
        },
    ),
    "wording of fewer than are kept": lambda: (
        Wording("w", pairs("ab"), np.array([texts._mark("ba")]), 2 * N),
        {"w": WORDS, "index": np.arange(N)},
        {
            "pair_bits": bits_apart(WORDS, ["ab"]),
            "copied_share": np.mean(WORDS == "ba"),
            "distinct_share": len(set(WORDS)) / N,
        },
    ),
    "share": lambda: (
        Proportion("s", lambda b: np.where(np.isnan(b["v"]), np.nan, b["v"] > 0)),
        {"v": VALUES},
        {
            "s": (VALUES > 0).sum() / COUNT,
            "s_interval": proportion((VALUES > 0).sum(), COUNT),
        },
    ),
    "resampled": lambda: (
        Resampled(
            "r", lambda b: np.stack([b["v"], b["v"] ** 0], 1), 2, lambda x: x[0] / x[1]
        ),
        {"v": VALUES, "index": np.arange(N)},
        {"r": np.nanmean(VALUES), "r_interval": resampled(np.mean)},
    ),
    "posterior": lambda: (
        Posterior(lambda b: b["p"], 3, N),
        {"p": PLACES, "label": LABELS, "there": LABELS >= 0}
        | dict.fromkeys(("rank", "index"), np.arange(N)),
        roc_auc(LABELS, {y: PLACES[:, y] for y in range(3)})
        | {
            "accuracy": RIGHT.mean(),
            "accuracy_interval": proportion(RIGHT.sum(), N),
        },
    ),
    "beside": lambda: (
        Beside({"a": Mean("m", lambda b: b["v"])}),
        {"v": VALUES, "there": VALUES > 0},
        {"a": {"m": np.nanmean(VALUES)}, "examples": (VALUES > 0).sum()},
    ),
    "several": lambda: (
        Several((Mean("m", lambda b: b["v"]), Mean("n", lambda b: b["w"])), {"k": 7}),
        {"v": VALUES, "w": PLACES[:, 0]},
        {"m": np.nanmean(VALUES), "n": PLACES[:, 0].mean(dtype=float), "k": 7},
    ),
    "rows": lambda: (
        Several([Mean("m", lambda b, i=i: i * b["v"]) for i in (1, 2)], rows="r"),
        {"v": VALUES},
        {"r": [{"m": i * np.nanmean(VALUES)} for i in (1, 2)]},
    ),
}


def resampled(then):
    """The interval of a bootstrap, by brute force: each example as often as drawn."""
    known = np.flatnonzero(~np.isnan(VALUES))
    times = np.stack([np.random.default_rng((0, i)).poisson(1, 200) for i in known])
    sets = [then(np.repeat(VALUES[known], each)) for each in times.T]
    return np.percentile(sets, (2.5, 97.5)).tolist()


def test_no_evaluator_is_left_out():
    members = {type(make()[0]) for make in CASES.values()}
    belongs = lambda kind: issubclass(kind, Evaluator)
    assert missing(evaluation, belongs, members) == {"Evaluator"}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    evaluator, batch, figures = CASES[request.param]()
    closeness = 1.001e-3 if request.param.startswith(("median", "memor")) else 1e-7
    return types.SimpleNamespace(
        evaluator=evaluator, batch=batch, figures=figures, rel=closeness
    )


def parts(batch, *borders):
    rows = np.split(np.arange(N), borders)
    return [{name: x[row] for name, x in batch.items()} for row in rows]


def close(found, wanted, rel):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        found, wanted = ([x[name] for name in sorted(x)] for x in (found, wanted))
    if isinstance(wanted, list):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            close(a, b, rel)
    else:
        assert found == pytest.approx(wanted, rel=rel, nan_ok=True)


def test_one_batch_has_the_closed_form(case):
    close(evaluated(case.evaluator, [case.batch]), case.figures, case.rel)


@pytest.mark.parametrize("borders", [(1,), (5, 12), tuple(range(1, N)), (12, 12)])
def test_any_split_and_any_order_give_the_same(case, borders):
    """Also of batches that two processes have, one of which may have none."""
    if "memorisation" in case.figures and len(borders) > 2:
        pytest.skip("a program for each number of rows")
    split = [
        part for part in parts(case.batch, *borders) if len(next(iter(part.values())))
    ]
    close(evaluated(case.evaluator, reversed(split)), case.figures, case.rel)
    add, start = case.evaluator.add, case.evaluator.start()
    one, two = add(start, split[0]), case.evaluator.start()
    for part in split[1:]:
        two = add(two, part)
    for both in (merged(one, two), merged(two, one), merged(merged(two, start), one)):
        close(case.evaluator.finish(both), case.figures, case.rel)


def test_sums_are_counts_and_float64_of_one_shape(case):
    start = case.evaluator.start()
    sums = case.evaluator.add(start, case.batch)
    for a, b in zip(*map(jax.tree.leaves, (start, sums)), strict=True):
        assert np.shape(a) == np.shape(b) and not np.any(a)
        assert np.asarray(b).dtype in (np.int64, np.float64)
        assert np.asarray(a).dtype == np.asarray(b).dtype


def test_sums_of_two_evaluators_are_not_added():
    with pytest.raises(ValueError):
        merged(Mean("a", None).start(), Median("b", None).start())


def test_signals_without_labels_have_no_accuracy():
    batch = {"x": X, "label": np.full(N, -1)}
    assert evaluated(accuracy(NETWORK), [batch]) == {"accuracy": None}
