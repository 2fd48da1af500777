"""How a kind of signal is scored, by the word that its modality has in `measures`."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from train.evaluation.evaluator import Evaluators
from train.evaluation.means import (
    Mean,
    Median,
    decibels,
    distance,
    root_mean_square,
    squared_error,
)
from train.evaluation.reconstruction.channels import by_channel
from train.evaluation.reconstruction.measures import Compared, Measures
from train.evaluation.reconstruction.pictures import clips, pictures
from train.evaluation.reconstruction.series import series
from train.evaluation.reconstruction.sound import sound
from train.modalities import Batch, Modality
from train.modalities.transforms.normalise import Normaliser
from vqdit.trained.codec import Codec
from vqdit.trained.judge import Judge


def volumes(score: Measures, found: Compared) -> Evaluators:
    """PSNR, and of k-means on blocks with as many codes and tokens.

    The peak is the range [-1, 1] of the signal. Of phantoms also "_truth": the PSNR to
    the phantom without its noise, and that of the noisy phantom itself.
    """
    yield from score.use()
    peak = functools.partial(decibels, peak=2.0)
    for name, x in found.items():
        yield Mean(f"{name}psnr_db", squared_error(x, "x"), peak)
    for name, x in ({"measured_": "x"} | found if score.truth else {}).items():
        yield Mean(f"{name}psnr_truth_db", squared_error(x, "truth"), peak)


def sweeps(score: Measures, found: Compared) -> Evaluators:
    """Errors where a beam returned: the first channel in metres.

    rmse_m and, since a few beams past an edge make most of it, median_m, to a
    thousandth. kmeans_: of k-means on blocks with as many codes and tokens. Where there
    are other channels, such as a reflectance, channels: see `by_channel`.
    """
    contract = score.codec.contract
    data: Any = score.data  # Ranges
    names = ["range", *(f"channel {c}" for c in range(1, data.channels))]
    own = Normaliser(contract.offset, contract.scale)
    yield from score.use()

    def metres(batch: Batch) -> Batch:
        entries = {name: own.invert(batch[name]) for name in ["x", *found.values()]}
        first = {f"{name}_m": x[..., 0] for name, x in entries.items()}
        returned = batch["known"] > 0
        first |= {"returned": returned[..., 0], "returned_each": returned}
        return first | {"own": entries["x"]}

    score.beside.append(metres)
    for name, x in found.items():
        entries = (f"{x}_m", "x_m", "returned")
        yield root_mean_square(f"{name}rmse_m", *entries)
        yield Median(f"{name}median_m", distance(*entries))
    if len(names) > 1:
        yield by_channel(found, "own", own, names, "returned_each")


def own_measure(score: Measures) -> Evaluators:
    """The mean of the modality's own `measure`, of signals in their own units."""
    yield from score.use()

    def measured(batch: Batch):
        pair = [np.asarray(score.codec.to_raw(batch[n])) for n in ("x", "x_hat")]
        return [score.data.measure(x, y) for x, y in zip(*pair, strict=True)]

    yield Mean("score_db", measured)


BY_NAME: dict[str, Callable[..., Evaluators]] = {
    "": own_measure,
    "clips": clips,
    "pictures": pictures,
    "series": series,
    "sound": sound,
    "sweeps": sweeps,
    "volumes": volumes,
}
BASELINES = ("pictures", "series", "sweeps", "volumes")  # take what is compared, too


def measures_of(
    codec: Codec,
    data: Modality,
    most: int | None = None,
    baseline: bool = True,
    judge: Judge | None = None,
) -> Measures:
    """How this tokenizer is scored on the kind of signal that the data are."""
    score = Measures(codec, data, most, baseline, judge)
    beside = (score.compared(),) if data.measures in BASELINES else ()
    score.evaluators = list(BY_NAME[data.measures](score, *beside))
    return score
