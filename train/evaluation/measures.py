"""How a kind of signal is scored, by the word that its modality has in `measures`."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from train.errors import BadInput
from train.evaluation.baselines import fitted
from train.evaluation.codebook import CodebookUse
from train.evaluation.evaluator import Evaluator, Several, rebuild
from train.evaluation.means import (
    Mean,
    Median,
    decibels,
    difference,
    squared_error,
)
from train.evaluation.samples import accuracy
from train.modalities import Batch, Cleaning, Modality
from train.modalities.normalise import Normaliser
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

    evaluators: and what is put into each batch for them, `beside`, in this order.
    known: figures that need no pass over the held-out data.
    """

    codec: Codec
    data: Modality
    most: int | None = None
    baseline: bool = True
    judge: Judge | None = None
    evaluators: list[Evaluator] = dataclasses.field(default_factory=list)
    beside: list[Callable[[Batch], Batch]] = dataclasses.field(default_factory=list)
    known: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        BY_NAME[self.data.measures](self)

    def use(self, **how: Any) -> None:
        """Scores the codes of a discrete tokenizer."""
        if self.codec.contract.codes:
            self.evaluators.append(CodebookUse(self.codec.contract, **how))

    def compared(self) -> dict[str, str]:
        """Prefix of a figure -> entry: what is compared with the signal "x". Beside the
        reconstruction k-means on blocks at equal bits, where it is wanted and fits."""
        try:
            means = self.baseline and fitted(self.codec, self.data, self.most)
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


def pictures(score: Measures) -> None:
    """PSNR of the pooled error, mean SSIM of 8-bit pictures, and use of each book."""
    score.use(named=True)
    for prefix, name in score.compared().items():
        error = functools.partial(_by_picture, squared_error_per_image, name)
        alike = functools.partial(_by_picture, ssim_per_image, name)
        score.evaluators += [
            Mean(f"{prefix}psnr_db", error, decibels),
            Mean(f"{prefix}ssim", alike),
        ]


def clips(score: Measures) -> None:
    """The same frame by frame, of at most CLIPS clips unless asked for more.

    psnr_db pools the error of all frames; psnr_by_frame_db has one figure a place in
    the clip, so that a first frame that is coded alone can be told from the rest.
    """
    score.most = score.most or CLIPS
    score.use()
    error = functools.partial(_by_frame, squared_error_per_image)
    alike = functools.partial(_by_frame, ssim_per_image)
    frames = score.data.shape[0]
    score.evaluators += [
        Mean("psnr_db", lambda b: error(b).ravel(), decibels),
        Mean("psnr_frame_mean_db", lambda b: np.array(decibels(error(b))).ravel()),
        Mean("ssim", lambda b: alike(b).ravel()),
        Mean("psnr_by_frame_db", error, decibels, frames),
        Mean("ssim_by_frame", alike, np.ndarray.tolist, frames),
    ]


def _by_picture(metric, name, batch):
    found = batch[name]
    return metric(found if found.dtype == np.uint8 else to_uint8(found), batch["x"])


def _by_frame(metric, batch):
    x = batch["x"]
    flat = {name: batch[name].reshape(-1, *x.shape[2:]) for name in ("x", "x_hat")}
    return _by_picture(metric, "x_hat", flat).reshape(x.shape[:2])


def sound(score: Measures) -> None:
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
    score.evaluators += _alike(data.front, judge, "x_hat")
    if judge is not None:
        score.known["judge"] = judge.protocol
        score.evaluators.append(accuracy(judge, "x", "accuracy_originals"))
    if judge is not None and module.front is not None:
        alone = functools.partial(_there_and_back, module.front)
        score.beside.append(lambda batch: {"front": np.asarray(alone(batch["x"]))})
        score.evaluators.append(accuracy(judge, "front", "accuracy_front_only"))
    clip = (data.length, data.rate)
    score.use(sound=clip)
    residual = isinstance(module.quantizer, ResidualQuantizer | ResidualFSQ)
    if not residual or len(contract.codes) < 2:
        return
    rows, sites = [], math.prod(contract.code_grid)
    for n in range(1, len(contract.codes) + 1):
        cost = kbps(sites * math.log2(math.prod(contract.codes[:n])), *clip)
        parts = _alike(data.front, judge, f"books_{n}")
        rows.append(Several(parts, {"books": n, "kbps": cost}))
    score.beside.append(
        lambda batch: {
            f"books_{n + 1}": np.asarray(decode(batch["codes"][..., : n + 1]))
            for n in range(len(rows))
        }
    )
    score.evaluators.append(Several(rows, rows="books"))


def _alike(front, judge, name):
    size = (front.rate, front.window, front.hop, front.bands)

    def ratio(batch):  # inf has no mean
        return np.clip(si_sdr(batch["x"], batch[name]), -100, 100)

    said = lambda x: None if np.isnan(x) else float(x)
    distance = lambda batch: log_mel_distance(batch["x"], batch[name], *size)
    return [
        Mean("log_mel_nat", distance),
        Mean("si_sdr_db", ratio, said),
        Median("si_sdr_median_db", ratio, said, DECIBELS),
        *([] if judge is None else [accuracy(judge, name)]),
    ]


@functools.partial(jax.jit, static_argnums=0)
def _there_and_back(front, x):
    """What the front end loses by itself."""
    # A bound front belongs to its tokenizer; a front end has no variables of its own.
    features = front.apply({}, x)
    return front.apply({}, features, method="invert").clip(-1, 1)


def series(score: Measures) -> None:
    """Root mean square errors to the clean truth, in the series' own units.

    "reconstruction": of what the tokenizer rebuilds from series cleaned as it learned
    them, and "reconstruction_uncleaned" from the same as measured, with gaps at 0.
    Beside them "interpolation", linear over the gaps of what was measured, and
    "interpolation_cleaned", of what cleaning leaves: no network. Each over all values,
    and "_gaps" over the missing ones alone. Recordings without a truth are compared
    where they were measured with what was measured, cleaned.
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
            uncleaned = rebuild(codec, own(found["measured"]))[0]
            found["reconstruction_uncleaned"] = own.invert(uncleaned)
            found["truth"] = held.normaliser.invert(batch["truth"])
        return {name: x[..., : data.channels] for name, x in found.items()}

    score.use()
    score.beside.append(versions)
    score.evaluators.append(Mean("missing_share", lambda batch: batch["gaps"].ravel()))
    if not truth:
        entries = ("reconstruction", "interpolation_cleaned", "known")
        score.evaluators.append(_rms("rmse_measured", *entries))
        return
    names = ["reconstruction", "reconstruction_uncleaned"]
    for name in [*names, "interpolation", "interpolation_cleaned"]:
        score.evaluators.append(_rms(f"rmse_{name}", name, "truth"))
        score.evaluators.append(_rms(f"rmse_{name}_gaps", name, "truth", "gaps"))
    spread = lambda moments: float(np.sqrt(moments[1] - moments[0] ** 2))
    score.evaluators.append(Mean("std_truth", _powers, spread, 2))


def _rms(name, *entries):
    return Mean(name, squared_error(*entries), lambda error: float(np.sqrt(error)))


def _powers(batch):
    x = batch["truth"].astype(np.float64).ravel()
    return np.stack([x, x**2], axis=1)


def volumes(score: Measures) -> None:
    """PSNR, and of k-means on blocks with as many codes and tokens.

    The peak is the range [-1, 1] of the signal. Of phantoms also "_truth": the PSNR to
    the phantom without its noise, and that of the noisy phantom itself.
    """
    score.use()
    peak = functools.partial(decibels, peak=2.0)
    found = score.compared()
    for name, x in found.items():
        score.evaluators.append(Mean(f"{name}psnr_db", squared_error(x, "x"), peak))
    for name, x in ({"measured_": "x"} | found if score.truth else {}).items():
        error = squared_error(x, "truth")
        score.evaluators.append(Mean(f"{name}psnr_truth_db", error, peak))


def sweeps(score: Measures) -> None:
    """Errors where a beam returned: the first channel in metres.

    rmse_m and, since a few beams past an edge make most of it, median_m, to a
    thousandth. kmeans_: of k-means on blocks with as many codes and tokens.
    """
    contract = score.codec.contract
    own = Normaliser(contract.offset, contract.scale)
    score.use()
    found = score.compared()

    def metres(batch: Batch) -> Batch:
        names = ["x", *found.values()]
        first = {f"{name}_m": own.invert(batch[name])[..., 0] for name in names}
        return first | {"returned": batch["known"][..., 0] > 0}

    score.beside.append(metres)
    for name, x in found.items():
        entries = (f"{x}_m", "x_m", "returned")
        apart = difference(*entries)
        score.evaluators += [
            _rms(f"{name}rmse_m", *entries),
            Median(f"{name}median_m", lambda b, apart=apart: np.abs(apart(b))),
        ]


def own_measure(score: Measures) -> None:
    """The mean of the modality's own `measure`, of signals in their own units."""
    score.use()

    def measured(batch: Batch):
        pair = [np.asarray(score.codec.to_raw(batch[n])) for n in ("x", "x_hat")]
        return [score.data.measure(x, y) for x, y in zip(*pair, strict=True)]

    score.evaluators.append(Mean("score_db", measured))


BY_NAME = {
    "": own_measure,
    "clips": clips,
    "pictures": pictures,
    "series": series,
    "sound": sound,
    "sweeps": sweeps,
    "volumes": volumes,
}
BASELINES = ("pictures", "sweeps", "volumes")  # those that ask for `compared`
