"""Rivals of a crossing, on examples whose classes are planted."""

import numpy as np

from train.evaluation.crossings.rivals import Rivals


def test_a_class_that_training_lacks_is_never_said():
    """And the others keep their numbers."""
    draw, labels = np.random.default_rng(0), np.repeat([0, 2, 3], 20)
    features = lambda x: np.eye(4)[x] + draw.normal(0, 0.1, (len(x), 4))
    rivals = Rivals(None, ("a",), "b", 4, {}, {})
    scores = rivals._regression({"a": features}, {"a": labels}, labels)
    found = scores({"streams": {"a": labels}, "label": labels})
    assert found.shape == (60, 4) and not found[:, 1].any()
    np.testing.assert_array_equal(found.argmax(1), labels)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_what_is_born_discrete_has_a_column_for_each_code():
    flat = Rivals(None, ("a",), "b", 2, {"a": 3}, {})._flat("a")
    found = flat(np.array([[[0], [2]], [[1], [1]]]))
    np.testing.assert_array_equal(found, [[1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0]])
