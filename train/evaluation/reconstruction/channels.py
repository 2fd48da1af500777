"""Errors of each channel in its own unit."""

from collections.abc import Sequence

import numpy as np

from train.evaluation.evaluator import Evaluator
from train.evaluation.means import Mean
from train.evaluation.reconstruction.measures import Compared
from train.modalities.transforms.normalise import Normaliser


def by_channel(
    compared: Compared,
    wanted: str,
    own: Normaliser,
    names: Sequence[str],
    where: str = "",
) -> Evaluator:
    """Of each channel the root mean square error in its own unit, rmse, and as a share
    of its standard deviation there, nrmse, which is 1 for its mean.

    "all" is over the channels that move, each as much as another: errors over several
    units add up to nothing. wanted: an entry of batches, in own units; where: one that
    says which of its values count.
    """
    count = len(names)
    center = np.array(own.offset[:count])

    def values(batch):  # (places, columns of `count` channels each)
        x = batch[wanted].astype(np.float64)
        found = (own.invert(batch[entry])[..., :count] for entry in compared.values())
        columns = [x - center, np.square(x - center)]
        columns += [np.square(each - x) for each in found]
        if where:
            columns = [np.where(batch[where], each, np.nan) for each in columns]
        return np.concatenate(columns, -1).reshape(-1, len(columns) * count)

    def rows(means):
        mean, square, *errors = means.reshape(-1, count)
        std, errors = np.sqrt(np.maximum(square - mean**2, 0)), np.sqrt(errors)
        moves = std > 1e-6 * np.maximum(np.abs(center), np.abs(mean))
        found = [
            {"channel": name, "std": float(s)}
            for name, s in zip(names, std, strict=True)
        ]
        every = {"channel": "all"}
        for prefix, error in zip(compared, errors, strict=True):
            share = error[moves] / std[moves]
            every[f"{prefix}nrmse"] = float(np.sqrt(np.mean(share**2)))
            for c, row in enumerate(found):
                row[f"{prefix}rmse"] = float(error[c])
                if moves[c]:
                    row[f"{prefix}nrmse"] = float(error[c] / std[c])
        return [*found, every] if moves.any() else found

    return Mean("channels", values, rows, (2 + len(compared)) * count)
