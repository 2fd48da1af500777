"""Rows of a table that are drawn, column by column, beside what is true."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from train.evaluation.estimates import Proportion, Resampled, explained, mean
from train.evaluation.evaluator import Evaluator
from train.evaluation.means import Values, where_there
from train.modalities import Batch


def rows(common: Mapping[str, Any], of: str) -> Iterator[Evaluator]:
    """Of rows with the columns of `common`, the answer of who knows nothing of them.

    NAME_rmse of a column of numbers, where it is known; one that is drawn as missing
    is taken for the training mean. NAME_accuracy of one of categories.

    explained: of the squared error of the training mean, or of the errors of the most
        frequent category, over all columns, see `estimates.explained`.
    """

    def wrong(name: str, one: Any) -> Values:
        """How far one is that was said: squared of a number, 0 or 1 of a category, nan
        where the truth is not known."""
        number = isinstance(one, float)
        filled = lambda x: one if number and x is None else x
        true = lambda batch: [row[name] for row in batch["truth"]]
        said = lambda batch: [filled(row[name]) for row in batch[of]]
        return (_squared if number else _differ)(true, said)

    columns = {name: wrong(name, one) for name, one in common.items()}

    def errors(batch: Batch) -> np.ndarray:
        """(n, 2 * columns): of what was said, and of who knows nothing; 0 where the
        truth is not known."""
        nothing = batch | {of: [common] * len(batch["truth"])}
        both = [f(x) for x in (batch, nothing) for f in columns.values()]
        return np.nan_to_num(np.stack(both, 1))

    def share(sums: np.ndarray) -> float:
        error, spread = sums.reshape(2, -1)
        return explained(error, spread, spread > 0)

    if columns:
        yield Resampled("explained", where_there(errors), 2 * len(columns), share)
    for name, far in columns.items():
        if isinstance(common[name], float):
            root = lambda error: float(np.sqrt(error))
            yield mean(f"{name}_rmse", where_there(far), root)
        else:
            right = lambda batch, far=far: 1 - far(batch)
            yield Proportion(f"{name}_accuracy", where_there(right))


def _squared(true: Values, said: Values) -> Values:
    numbers = lambda found: np.array([np.nan if x is None else x for x in found], float)
    return lambda batch: np.square(numbers(said(batch)) - numbers(true(batch)))


def _differ(true: Values, said: Values) -> Values:
    return lambda batch: np.array(
        [
            np.nan if x is None else float(x != y)
            for x, y in zip(true(batch), said(batch), strict=True)
        ]
    )
