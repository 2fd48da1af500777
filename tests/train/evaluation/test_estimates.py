import copy
import json

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from train.evaluation.estimates import Estimate, Posterior, Proportion, mean, roc_auc
from train.evaluation.evaluator import evaluated
from train.evaluation.means import right

DRAW = np.random.default_rng(0)
PARTS = np.split(np.random.default_rng(1).permutation(400), [150])


def share(true, count):
    x = np.arange(count) < true
    return evaluated(Proportion("s", lambda batch: batch["x"]), [{"x": x}])


def test_a_share_has_the_interval_of_wilson():
    """Newcombe 1998, table I: 81 of 263, 15 of 148, none of 20."""
    for true, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (20, 20, 0.8389, 1.0),
    ):
        found = share(true, count)
        assert found["s"] == true / count
        assert found["s_interval"] == pytest.approx([low, high], abs=5e-5)


def test_of_no_example_there_is_no_figure():
    assert share(0, 0) == {}
    nothing = mean("m", lambda batch: batch["x"])
    batch = {"x": np.full(3, np.nan), "index": np.arange(3)}
    assert evaluated(nothing, [batch]) == {}


def test_a_bootstrap_of_a_mean_has_the_width_of_its_standard_error():
    """Of 200 sets the ends are uncertain by about a seventh of the width."""
    x = DRAW.normal(5.0, 2.0, 400)
    batch = {"x": x, "index": np.arange(400)}
    found = evaluated(mean("m", lambda b: b["x"], lambda x: 10 * x), [batch])
    low, high = found["m_interval"]
    assert found["m"] == pytest.approx(10 * x.mean())
    assert high - low == pytest.approx(2 * 1.96 * 10 * x.std() / 20, rel=0.25)
    assert low < found["m"] < high


def test_the_area_under_a_curve_is_that_of_two_normal_scores():
    """Of a shift of d it is Phi(d / sqrt 2); its standard error here is 0.006."""
    is_one = np.repeat([True, False], 3000)
    score = DRAW.normal(np.where(is_one, 1.0, 0.0))
    found = roc_auc(is_one, {1: score})
    assert found["auc"] == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)
    assert found["auc"] == pytest.approx(roc_auc_score(is_one, score))
    low, high = found["auc_interval"]
    assert low < found["auc"] < high and 0.015 < high - low < 0.035


def test_ties_count_by_half_and_several_classes_by_their_mean():
    label = np.array([0, 0, 1, 1, 2])
    scores = DRAW.integers(0, 3, (5, 3)).astype(float)
    each = [roc_auc_score(label == y, scores[:, y]) for y in range(3)]
    found = roc_auc(label, {y: scores[:, y] for y in range(3)})
    assert found["auc"] == pytest.approx(np.mean(each))


def test_of_one_class_alone_there_is_no_curve():
    assert roc_auc(np.ones(4, int), {1: np.arange(4.0)}) == {}
    assert roc_auc(np.array([0, 1]), {7: np.arange(2.0)}) == {}


def test_figures_of_the_same_examples_differ_by_a_pair_at_a_time():
    """Each is uncertain by 0.1, and their difference of 0.05 by 0.01 / 20."""
    x = DRAW.normal(5.0, 2.0, 400)
    y = x + DRAW.normal(0.05, 0.01, 400)
    index = np.arange(400)
    batches = [{"x": x[rows], "y": y[rows], "index": index[rows]} for rows in PARTS]
    of = lambda name: evaluated(mean(name, lambda b: b[name]), batches)[name]
    apart = of("y") - of("x")
    assert apart == pytest.approx((y - x).mean())
    low, high = apart.interval
    assert low < apart < high and 0.4 < (high - low) / (2 * 1.96 * 0.0005) < 2
    low, high = of("x").interval
    assert high - low > 0.3


def test_shares_of_the_same_examples_differ_so_too():
    """Of two that agree but in one of fifty examples, as McNemar has it; a number is
    the same in every set."""
    one = DRAW.random(400) < 0.5
    two = one ^ (np.arange(400) % 50 == 0)
    found = []
    for x in (one, two):
        batches = [{"x": x[rows], "index": rows} for rows in PARTS]
        found.append(evaluated(Proportion("s", lambda batch: batch["x"]), batches)["s"])
    low, high = (found[1] - found[0]).interval
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(8) / 400, rel=0.3)
    low, high = found[0].interval
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.25)
    ends = np.array([low, high])
    assert (found[0] - 0.25).interval == pytest.approx(ends - 0.25)
    assert (1 - found[0]).interval == pytest.approx(1 - ends[::-1])
    assert (found[0] * 2 + 1).interval == pytest.approx(2 * ends + 1)
    assert isinstance(share(3, 7)["s"], float)
    assert not isinstance(share(3, 7)["s"], Estimate)  # of examples without an index
    # Where all are, every set says so, which is no certainty.
    every = [{"x": np.ones(10), "index": np.arange(10)}]
    sure = evaluated(Proportion("s", lambda batch: batch["x"]), every)
    assert sure["s"] == 1 and not isinstance(sure["s"], Estimate)


def test_what_is_drawn_and_what_a_classifier_says_differ_so_too():
    """Where both say the same of every example, there is nothing between them."""
    label = DRAW.integers(0, 3, 400)
    said = np.where(DRAW.random(400) < 0.6, label, (label + 1) % 3)
    each = {"label": label, "said": said, "there": np.ones(400, bool)}
    each |= {"rank": np.arange(400), "index": 7 * np.arange(400)}
    batches = [{name: x[rows] for name, x in each.items()} for rows in PARTS]
    drawn = Proportion("accuracy", right(lambda batch: batch["said"]))
    classifier = Posterior(lambda batch: np.eye(3)[batch["said"]], 3, 400)
    mine, other = (evaluated(x, batches)["accuracy"] for x in (drawn, classifier))
    assert mine == other and (mine - other).interval == [0, 0]


def test_curves_of_the_same_examples_differ_so_too():
    is_one = np.repeat([True, False], 300)
    score = DRAW.normal(np.where(is_one, 1.0, 0.0))
    found = roc_auc(is_one, {1: score})["auc"], roc_auc(is_one, {1: score + 5})["auc"]
    assert (found[0] - found[1]).interval == [0, 0] and found[0].interval[0] < 0.8


def test_a_figure_is_a_number_where_it_is_written():
    assert json.dumps({"x": Estimate(0.25, [0.2, np.nan])}) == '{"x": 0.25}'
    assert Estimate(0.25, [np.nan]).interval is None
    again = copy.deepcopy(Estimate(0.25, [0.2, 0.3]))
    assert again == 0.25 and again.sets.tolist() == [0.2, 0.3]
