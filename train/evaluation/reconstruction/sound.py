"""Sound that comes back: understood, alike, and what it costs."""

import functools
import math
from typing import Any

import jax
import numpy as np

from train.evaluation.evaluator import Evaluators, Several
from train.evaluation.likeness import accuracy
from train.evaluation.means import Mean, Median, or_none
from train.evaluation.reconstruction.measures import Measures
from vqdit.metrics import kbps, log_mel_distance, si_sdr
from vqdit.metrics.histogram import DECIBELS
from vqdit.quantizers import ResidualFSQ, ResidualQuantizer


def sound(score: Measures) -> Evaluators:
    """Is it understood, is it alike, what does it cost.

    log_mel_nat: mean log-mel distance, 64 bands, floor 1e-4 (see vqdit.metrics).
    si_sdr_db:   mean over clips that are not silent, at most 100 dB either way; also
                 the median, to a two-hundredth of a decibel.
    accuracy:    of the judge, if there is one: of originals, of reconstructions, and
                 of what the front end alone makes of originals, if there is one.
    books:       the same for each prefix of the books of a residual tokenizer.
    """
    data: Any = score.data  # Audio
    judge, contract = score.judge, score.codec.contract
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

    distance = lambda batch: log_mel_distance(batch["x"], batch[name], *size)
    yield Mean("log_mel_nat", distance)
    yield Mean("si_sdr_db", ratio, or_none)
    yield Median("si_sdr_median_db", ratio, or_none, DECIBELS)
    if judge is not None:
        yield accuracy(judge, name)


@functools.partial(jax.jit, static_argnums=0)  # one program, whoever asks
def _there_and_back(front, x):
    """What the front end, which has no variables of its own, loses by itself."""
    features = front.apply({}, x)
    return front.apply({}, features, method="invert").clip(-1, 1)
