"""Series that come back, beside the clean truth and what was measured."""

import dataclasses
from typing import Any

import numpy as np

from train.evaluation.evaluator import Evaluators, reconstruct
from train.evaluation.means import Mean, root_mean_square
from train.evaluation.reconstruction.channels import by_channel
from train.evaluation.reconstruction.measures import Compared, Measures
from train.modalities import Batch, Cleaning
from train.modalities.transforms.normalise import Normaliser
from train.pipeline import open_examples


def series(score: Measures, compared: Compared) -> Evaluators:
    """Root mean square errors to the clean truth, in the series' own units.

    "reconstruction": of what the tokenizer rebuilds from series cleaned as it learned
    them, and "reconstruction_uncleaned" from the same as measured, with gaps at 0.
    Beside them "interpolation", linear over the gaps of what was measured, and
    "interpolation_cleaned", of what cleaning leaves: no network. Each over all values,
    and "_gaps" over the missing ones alone. Recordings without a truth are compared
    where they were measured with what was measured, cleaned.

    channels: see `by_channel`; kmeans_: the same of k-means on blocks with as many
    codes and tokens.
    """
    codec, truth = score.codec, score.truth
    data: Any = score.data  # Series
    own = Normaliser(codec.contract.offset, codec.contract.scale)
    held = open_examples(data, False)
    unit: Any = held.normaliser  # which all series have
    cleanings = {
        "measured": None,
        "interpolation": Cleaning(fill="linear", outliers="keep"),
        "interpolation_cleaned": data.cleaning or Cleaning(),
    }
    views = {
        name: open_examples(dataclasses.replace(data, cleaning=cleaning), False)
        for name, cleaning in cleanings.items()
        if truth or name != "interpolation"
    }

    def versions(batch: Batch) -> Batch:
        taken = {name: view.take(batch["index"]) for name, view in views.items()}
        found = {
            name: Normaliser(view.offset, view.scale).invert(taken[name]["x"])
            for name, view in views.items()
        }
        found["reconstruction"] = own.invert(batch["x_hat"])
        # As measured: what cleaning rejects is no gap, though its mask says so too.
        found["gaps"] = taken["measured"]["known"] == 0
        found["known"] = ~found["gaps"]
        if truth:
            uncleaned = reconstruct(codec, own(found["measured"]))[0]
            found["reconstruction_uncleaned"] = own.invert(uncleaned)
            found["truth"] = unit.invert(batch["truth"])
        channels = slice(data.channels)
        return {name: x[..., channels] for name, x in found.items()}

    yield from score.use()
    score.beside.append(versions)
    wanted = "truth" if truth else "interpolation_cleaned"
    names = held.findings["channels"]
    yield by_channel(compared, wanted, own, names, "" if truth else "known")
    yield Mean("missing_share", lambda batch: batch["gaps"])
    if not truth:
        yield root_mean_square(
            "rmse_measured", "reconstruction", "interpolation_cleaned", "known"
        )
        return
    names = ["reconstruction", "reconstruction_uncleaned"]
    for name in [*names, "interpolation", "interpolation_cleaned"]:
        yield root_mean_square(f"rmse_{name}", name, "truth")
        yield root_mean_square(f"rmse_{name}_gaps", name, "truth", "gaps")
    spread = lambda moments: float(np.sqrt(moments[1] - moments[0] ** 2))
    yield Mean("std_truth", _powers, spread, 2)


def _powers(batch):
    x = batch["truth"].astype(np.float64).ravel()
    return np.stack([x, x**2], axis=1)
