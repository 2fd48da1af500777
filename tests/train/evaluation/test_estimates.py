import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from train.evaluation.estimates import Share, mean, roc_auc
from train.evaluation.evaluator import evaluated

DRAW = np.random.default_rng(0)


def share(true, count):
    x = np.arange(count) < true
    return evaluated(Share("s", lambda batch: batch["x"]), [{"x": x}])


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
