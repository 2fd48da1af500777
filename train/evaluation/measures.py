"""How a kind of signal is scored, by the word that its modality has in `measures`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from train.errors import BadInput
from train.evaluation.baselines import fitted
from train.evaluation.codebook import CodebookUse
from train.evaluation.evaluator import Evaluator, Several, reconstruct
from train.evaluation.likeness import accuracy
from train.evaluation.means import (
    Mean,
    Median,
    Values,
    decibels,
    distance,
    squared_error,
)
from train.modalities import Batch, Cleaning, Modality
from train.modalities.transforms.normalise import Normaliser
from train.pipeline import open_examples
from vqdit.metrics import (
    kbps,
    log_mel_distance,
    si_sdr,
    squared_error_per_image,
    ssim_per_image,
)
from vqdit.metrics.histogram import DECIBELS
from vqdit.quantizers import ResidualFSQ, ResidualQuantizer
from vqdit.signal import to_uint8
from vqdit.trained.codec import Codec
from vqdit.trained.judge import Judge

CLIPS = 512  # of video that are scored unless asked for more


@dataclasses.dataclass(eq=False)
class Measures:
    """How a tokenizer is scored on a kind of signal.

    evaluators: those that the kind's function yields.
    beside: what puts into each batch what they read, in this order.
    known:  figures that need no pass over the held-out data.
    """

    codec: Codec
    data: Modality
    most: int | None = None
    baseline: bool = True
    judge: Judge | None = None
    beside: list[Callable[[Batch], Batch]] = dataclasses.field(default_factory=list)
    known: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.evaluators = list(BY_NAME[self.data.measures](self))

    def use(self, **how: Any) -> Iterator[Evaluator]:
        """That of the codes of a discrete tokenizer."""
        if self.codec.contract.codes:
            yield CodebookUse(self.codec.contract, **how)

    def compared(self) -> dict[str, str]:
        """Prefix of a figure -> entry: what is compared with the signal "x". Beside the
        reconstruction k-means on blocks at equal bits, where it is wanted and fits."""
        try:
            means = self.baseline and fitted(self.codec, self.data)
        except BadInput as error:  # too few signals for as many codes
            means, self.known["kmeans"] = None, f"none: {error}"
        if not means:
            return {"": "x_hat"}
        self.beside.append(lambda batch: {"kmeans": means(batch["x"])})
        return {"": "x_hat", "kmeans_": "kmeans"}

    @property
    def truth(self) -> bool:
        """Whether batches have the signal without its noise."""
        return "truth" in open_examples(self.data, False).take(np.arange(1))


Evaluators = Iterator[Evaluator]


def pictures(score: Measures) -> Evaluators:
    """PSNR of the pooled error, mean SSIM of 8-bit pictures, and use of each book."""
    yield from score.use(named=True)
    for prefix, name in score.compared().items():
        error = _by_picture(squared_error_per_image, name)
        yield Mean(f"{prefix}psnr_db", error, decibels)
        yield Mean(f"{prefix}ssim", _by_picture(ssim_per_image, name))


def clips(score: Measures) -> Evaluators:
    """The same frame by frame, of at most CLIPS clips unless asked for more.

    psnr_db pools the error of all frames; psnr_by_frame_db has one figure a place in
    the clip, so that a first frame that is coded alone can be told from the rest.
    """
    score.most = score.most or CLIPS
    yield from score.use()
    error, alike = map(_by_picture, (squared_error_per_image, ssim_per_image))
    frames = score.data.shape[0]
    yield Mean("psnr_db", error, decibels)
    yield Mean("psnr_frame_mean_db", lambda batch: decibels(error(batch)))
    yield Mean("ssim", alike)
    yield Mean("psnr_by_frame_db", error, decibels, frames)
    yield Mean("ssim_by_frame", alike, np.ndarray.tolist, frames)


def _by_picture(metric: Callable, name: str = "x_hat") -> Values:
    """A metric of two stacks of pictures, of every picture, (n,), or frame of a clip,
    (n, frames)."""

    def values(batch: Batch) -> np.ndarray:
        x, found = batch["x"], batch[name]
        found = found if found.dtype == np.uint8 else to_uint8(found)
        flat = (each.reshape(-1, *x.shape[-3:]) for each in (found, x))
        return metric(*flat).reshape(x.shape[:-3])

    return values


def sound(score: Measures) -> Evaluators:
    """Is it understood, is it alike, what does it cost.

    log_mel_nat: mean log-mel distance, 64 bands, floor 1e-4 (see vqdit.metrics).
    si_sdr_db:   mean over clips that are not silent, at most 100 dB either way; also
                 the median, to a two-hundredth of a decibel.
    accuracy:    of the judge, if there is one: of originals, of reconstructions, and
                 of what the front end alone makes of originals, if there is one.
    books:       the same for each prefix of the books of a residual tokenizer.
    """
    data, judge, contract = score.data, score.judge, score.codec.contract
    module, decode = score.codec.module, score.codec.decode
    score.known["seconds_each"] = data.length / data.rate
    yield from _alike(data.front, judge, "x_hat")
    if judge is not None:
        score.known["judge"] = judge.protocol
        yield accuracy(judge, "x", "accuracy_originals")
    if judge is not None and module.front is not None:
        alone = functools.partial(_there_and_back, module.front)
        score.beside.append(lambda batch: {"front": np.asarray(alone(batch["x"]))})
        yield accuracy(judge, "front", "accuracy_front_only")
    clip = (data.length, data.rate)
    yield from score.use(sound=clip)
    residual = isinstance(module.quantizer, ResidualQuantizer | ResidualFSQ)
    if not residual or len(contract.codes) < 2:
        return
    rows, sites = [], math.prod(contract.code_grid)
    for n in range(1, len(contract.codes) + 1):
        cost = kbps(sites * math.log2(math.prod(contract.codes[:n])), *clip)
        parts = [*_alike(data.front, judge, f"books_{n}")]
        rows.append(Several(parts, {"books": n, "kbps": cost}))
    score.beside.append(
        lambda batch: {
            f"books_{n + 1}": np.asarray(decode(batch["codes"][..., : n + 1]))
            for n in range(len(rows))
        }
    )
    yield Several(rows, rows="books")


def _alike(front, judge, name) -> Evaluators:
    size = (front.rate, front.window, front.hop, front.bands)

    def ratio(batch):  # inf has no mean
        return np.clip(si_sdr(batch["x"], batch[name]), -100, 100)

    said = lambda x: None if np.isnan(x) else float(x)
    distance = lambda batch: log_mel_distance(batch["x"], batch[name], *size)
    yield Mean("log_mel_nat", distance)
    yield Mean("si_sdr_db", ratio, said)
    yield Median("si_sdr_median_db", ratio, said, DECIBELS)
    if judge is not None:
        yield accuracy(judge, name)


@functools.partial(jax.jit, static_argnums=0)
def _there_and_back(front, x):
    """What the front end loses by itself."""
    # A bound front belongs to its tokenizer; a front end has no variables of its own.
    features = front.apply({}, x)
    return front.apply({}, features, method="invert").clip(-1, 1)


def series(score: Measures) -> Evaluators:
    """Root mean square errors to the clean truth, in the series' own units.

    "reconstruction": of what the tokenizer rebuilds from series cleaned as it learned
    them, and "reconstruction_uncleaned" from the same as measured, with gaps at 0.
    Beside them "interpolation", linear over the gaps of what was measured, and
    "interpolation_cleaned", of what cleaning leaves: no network. Each over all values,
    and "_gaps" over the missing ones alone. Recordings without a truth are compared
    where they were measured with what was measured, cleaned.

    channels: of each the root mean square error in its own unit, rmse, and as a share
    of its standard deviation there, nrmse, which is 1 for its mean; kmeans_: the same
    of k-means on blocks with as many codes and tokens. "all" is over the channels that
    move, each as much as another: errors over several units add up to nothing.
    """
    codec, data, truth = score.codec, score.data, score.truth
    own = Normaliser(codec.contract.offset, codec.contract.scale)
    held = open_examples(data, False)
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
            found["truth"] = held.normaliser.invert(batch["truth"])
        return {name: x[..., : data.channels] for name, x in found.items()}

    yield from score.use()
    compared = score.compared()
    score.beside.append(versions)
    wanted = "truth" if truth else "interpolation_cleaned"
    names = held.findings["channels"]
    yield _by_channel(compared, wanted, own, names, "" if truth else "known")
    yield Mean("missing_share", lambda batch: batch["gaps"])
    if not truth:
        yield _rms("rmse_measured", "reconstruction", "interpolation_cleaned", "known")
        return
    names = ["reconstruction", "reconstruction_uncleaned"]
    for name in [*names, "interpolation", "interpolation_cleaned"]:
        yield _rms(f"rmse_{name}", name, "truth")
        yield _rms(f"rmse_{name}_gaps", name, "truth", "gaps")
    spread = lambda moments: float(np.sqrt(moments[1] - moments[0] ** 2))
    yield Mean("std_truth", _powers, spread, 2)


def _by_channel(compared, wanted, own: Normaliser, names, where) -> Evaluator:
    """Of every channel in its own unit, and of all as shares of their spread."""
    count = len(names)
    center = np.array(own.offset[:count])

    def values(batch):  # (b * l, columns of `count` channels each)
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


def _rms(name, *entries):
    return Mean(name, squared_error(*entries), lambda error: float(np.sqrt(error)))


def _powers(batch):
    x = batch["truth"].astype(np.float64).ravel()
    return np.stack([x, x**2], axis=1)


def volumes(score: Measures) -> Evaluators:
    """PSNR, and of k-means on blocks with as many codes and tokens.

    The peak is the range [-1, 1] of the signal. Of phantoms also "_truth": the PSNR to
    the phantom without its noise, and that of the noisy phantom itself.
    """
    yield from score.use()
    peak = functools.partial(decibels, peak=2.0)
    found = score.compared()
    for name, x in found.items():
        yield Mean(f"{name}psnr_db", squared_error(x, "x"), peak)
    for name, x in ({"measured_": "x"} | found if score.truth else {}).items():
        yield Mean(f"{name}psnr_truth_db", squared_error(x, "truth"), peak)


def sweeps(score: Measures) -> Evaluators:
    """Errors where a beam returned: the first channel in metres.

    rmse_m and, since a few beams past an edge make most of it, median_m, to a
    thousandth. kmeans_: of k-means on blocks with as many codes and tokens.
    """
    contract = score.codec.contract
    own = Normaliser(contract.offset, contract.scale)
    yield from score.use()
    found = score.compared()

    def metres(batch: Batch) -> Batch:
        names = ["x", *found.values()]
        first = {f"{name}_m": own.invert(batch[name])[..., 0] for name in names}
        return first | {"returned": batch["known"][..., 0] > 0}

    score.beside.append(metres)
    for name, x in found.items():
        entries = (f"{x}_m", "x_m", "returned")
        yield _rms(f"{name}rmse_m", *entries)
        yield Median(f"{name}median_m", distance(*entries))


def own_measure(score: Measures) -> Evaluators:
    """The mean of the modality's own `measure`, of signals in their own units."""
    yield from score.use()

    def measured(batch: Batch):
        pair = [np.asarray(score.codec.to_raw(batch[n])) for n in ("x", "x_hat")]
        return [score.data.measure(x, y) for x, y in zip(*pair, strict=True)]

    yield Mean("score_db", measured)


BY_NAME = {
    "": own_measure,
    "clips": clips,
    "pictures": pictures,
    "series": series,
    "sound": sound,
    "sweeps": sweeps,
    "volumes": volumes,
}
BASELINES = ("pictures", "series", "sweeps", "volumes")  # those that ask for `compared`
