"""What a tokenizer of sound is scored by: is it understood, is it alike, what it costs.

A classifier of log-mel pictures, trained here on real training clips only, says which
class it hears in originals and in reconstructions.
"""

import functools

import jax
import numpy as np

from train.evaluation.judge import train_judge
from train.evaluation.signals import chunked, rebuild
from train.modalities.audio import Audio, ear
from train.objectives.bundles import open_judge
from train.pipeline import open_examples, whole
from vqdit.metrics import entropy_bits, kbps, log_mel_distance, perplexity, si_sdr
from vqdit.metrics import usage as usage_of
from vqdit.quantizers import ResidualFSQ, ResidualQuantizer
from vqdit.trained.codec import Codec


def score_audio(codec: Codec, data: Audio, flags: dict) -> dict:
    """Figures on the held-out clips; `most` of flags takes fewer, evenly spaced.

    log_mel_nat:  mean log-mel distance, 64 bands, floor 1e-4 (see vqdit.metrics).
    si_sdr_db:    mean over clips that are not silent; also the median.
    accuracy:     of a classifier trained on the real training clips, `judge_steps` of
                  flags, or saved in the folder `judge` of flags, where the data has
                  classes: of originals, of reconstructions, and of what the front end
                  alone makes of originals, if there is one.
    kbps, entropy_kbps: of the codes at fixed length, and of their order-0 entropy.
    usage, perplexity: of each book over the held-out codes.
    books:        the same for each prefix of the books of a residual tokenizer.
    """
    heldout = whole(data, train=False, count=flags.get("most"))
    x, labels = heldout["audio"], heldout["label"]
    judge, classes = None, open_examples(data, True).classes
    if "judge" in flags:
        judge = open_judge(flags["judge"], data, classes)
    elif classes > 1:
        judge = train_judge(data, flags.get("judge_steps"))
    found, codes = rebuild(codec, x)
    figures = {"examples": len(x), "seconds_each": data.length / data.rate}
    figures |= _likeness(x, found, labels, data.rate, judge)
    if judge is not None:
        figures["accuracy_originals"] = judge.accuracy(x, labels)
        figures["judge"] = judge.protocol
        if codec.module.front is not None:
            alone = functools.partial(_there_and_back, codec.module.front)
            bound = chunked(alone, x)
            figures["accuracy_front_only"] = judge.accuracy(bound, labels)
    if codes is None:
        return figures
    counts = codec.contract.codes
    sites = int(np.prod(codes.shape[1:-1]))
    cost = lambda bits: kbps(bits, data.length, data.rate)
    entropies = [entropy_bits(codes[..., i], k) for i, k in enumerate(counts)]
    figures |= {
        "tokens": sites * len(counts),
        "bits_per_example": codec.contract.bits,
        "kbps": cost(codec.contract.bits),
        "entropy_kbps": cost(sites * sum(entropies)),
        "usage": [usage_of(codes[..., i], k) for i, k in enumerate(counts)],
        "perplexity": [perplexity(codes[..., i], k) for i, k in enumerate(counts)],
    }
    residual = isinstance(codec.module.quantizer, ResidualQuantizer | ResidualFSQ)
    if residual and len(counts) > 1:
        figures["books"] = []
        for n in range(1, len(counts) + 1):
            part = chunked(codec.decode, codes[..., :n], data.length)
            bits = sites * float(np.log2(counts[:n]).sum())
            row = {"books": n, "kbps": cost(bits)}
            figures["books"].append(row | _likeness(x, part, labels, data.rate, judge))
    return figures


def _likeness(x, found, labels, rate, judge) -> dict:
    front = ear(rate)
    size = (front.window, front.hop, front.bands)
    ratio = si_sdr(x, found)
    ratio = np.clip(ratio[~np.isnan(ratio)], -100, 100)  # inf has no mean
    figures = {
        "log_mel_nat": float(log_mel_distance(x, found, rate, *size).mean()),
        "si_sdr_db": float(ratio.mean()) if len(ratio) else None,
        "si_sdr_median_db": float(np.median(ratio)) if len(ratio) else None,
    }
    if judge is not None:
        figures["accuracy"] = judge.accuracy(found, labels)
    return figures


@functools.partial(jax.jit, static_argnums=0)
def _there_and_back(front, x):
    """What the front end loses by itself."""
    # A bound front belongs to its tokenizer; a front end has no variables of its own.
    features = front.apply({}, x)
    return front.apply({}, features, method="invert").clip(-1, 1)
