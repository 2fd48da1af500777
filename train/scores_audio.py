"""What a tokenizer of sound is scored by: is it understood, is it alike, what it costs.

A classifier of log-mel pictures, trained here on real training clips only, says which
class it hears in originals and in reconstructions.
"""

import dataclasses
import functools

import jax
import numpy as np
from jaxtyping import Float

from train.classifier import Judge, train_classifier
from train.data import prepare, whole
from train.data.audio import Audio
from train.log import say
from vqdit.codec import Codec
from vqdit.metrics import entropy_bits, kbps, log_mel_distance, perplexity, si_sdr
from vqdit.metrics import usage as usage_of
from vqdit.quantizers import ResidualFSQ, ResidualQuantizer
from vqdit.tokenizer import LogMel, to_uint8

CHUNK = 100  # clips at a time
JUDGE_STEPS = 600
FRAME = 0.032  # seconds under a window of the judge and of the log-mel distance


def ear(rate: int) -> LogMel:
    """The front end that clips are judged and compared through: windows of 32 ms every
    16 ms, 64 bands, or as many as have a bin at a low rate."""
    window = max(16, 4 * round(rate * FRAME / 4))
    for bands in (64, 32, 16, 8, 4):
        try:
            return LogMel(rate, window, window // 2, bands)
        except ValueError:
            continue
    return LogMel(rate, window, window // 2, 2)


@dataclasses.dataclass(frozen=True)
class Listener:
    """A judge of clips (n, l, 1): their log-mel pictures, as a classifier sees them."""

    front: LogMel
    judge: Judge

    def accuracy(self, x: Float[np.ndarray, "n l 1"], labels: np.ndarray) -> float:
        """Share of clips whose likeliest class is their label."""
        return self.judge.accuracy(pictures(self.front, x), labels)


def train_listener(
    x: Float[np.ndarray, "n l 1"],
    labels: np.ndarray,
    classes: int,
    rate: int,
    steps: int = JUDGE_STEPS,
    seed: int = 0,
) -> Listener:
    """Trained on real training clips; see `train.classifier.train_classifier`, whose
    shifts of a twelfth of the picture are shifts in time and in pitch here."""
    front = ear(rate)
    judge = train_classifier(pictures(front, x), labels, classes, seed, steps)
    return Listener(front, judge)


def pictures(front: LogMel, x: Float[np.ndarray, "n l 1"]) -> np.ndarray:
    """uint8 (n, frames, bands, 1); a last part of a hop is filled up with silence."""
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % front.hop), (0, 0)))
    return np.concatenate([np.asarray(_picture(front, part)) for part in _chunks(x)])[
        : len(x)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _picture(front, x):
    return to_uint8(front.apply({}, x))


def reconstruct(
    codec: Codec, x: Float[np.ndarray, "n l 1"]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(reconstructions, codes or None)."""
    sounds, codes = [], []
    for part in _chunks(x):
        q = codec.encode(part)
        again = codec.decode(q.latents if q.codes is None else q.codes)
        sounds.append(np.asarray(again))
        if q.codes is not None:
            codes.append(np.asarray(q.codes))
    return np.concatenate(sounds)[: len(x)], (
        np.concatenate(codes)[: len(x)] if codes else None
    )


def _chunks(x):
    """CHUNK at a time, the last filled up: one shape to compile."""
    size = min(CHUNK, len(x))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        yield np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])


def score_audio(codec: Codec, data: Audio, flags: dict) -> dict:
    """Figures on the held-out clips; `most` of flags takes fewer, evenly spaced.

    log_mel_nat:  mean log-mel distance, 64 bands, floor 1e-4 (see vqdit.metrics).
    si_sdr_db:    mean over clips that are not silent; also the median.
    accuracy:     of a classifier trained on the real training clips, `judge_steps` of
                  flags, where the data has classes: of originals, of reconstructions,
                  and of what the front end alone makes of originals, if there is one.
    kbps, entropy_kbps: of the codes at fixed length, and of their order-0 entropy.
    usage, perplexity: of each book over the held-out codes.
    books:        the same for each prefix of the books of a residual tokenizer.
    """
    heldout = whole(data, train=False, count=flags.get("most"))
    x, labels = heldout["audio"], heldout["label"]
    listener, classes = None, prepare(data, True).classes
    if classes > 1:
        say("training the judge on real clips")
        train = whole(data, train=True)
        steps = flags.get("judge_steps", JUDGE_STEPS)
        listener = train_listener(
            train["audio"], train["label"], classes, data.rate, steps
        )
    found, codes = reconstruct(codec, x)
    figures = {"examples": len(x), "seconds_each": data.length / data.rate}
    figures |= _likeness(x, found, labels, data.rate, listener)
    if listener is not None:
        figures["accuracy_originals"] = listener.accuracy(x, labels)
        figures["judge"] = listener.judge.protocol
        if codec.module.front is not None:
            bound = _front_only(codec, x)
            figures["accuracy_front_only"] = listener.accuracy(bound, labels)
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
            part = _decode(codec, codes[..., :n])
            bits = sites * float(np.log2(counts[:n]).sum())
            row = {"books": n, "kbps": cost(bits)}
            figures["books"].append(
                row | _likeness(x, part, labels, data.rate, listener)
            )
    return figures


def _likeness(x, found, labels, rate, listener) -> dict:
    front = ear(rate)
    size = (front.window, front.hop, front.bands)
    ratio = si_sdr(x, found)
    ratio = np.clip(ratio[~np.isnan(ratio)], -100, 100)  # inf has no mean
    figures = {
        "log_mel_nat": float(log_mel_distance(x, found, rate, *size).mean()),
        "si_sdr_db": float(ratio.mean()) if len(ratio) else None,
        "si_sdr_median_db": float(np.median(ratio)) if len(ratio) else None,
    }
    if listener is not None:
        figures["accuracy"] = listener.accuracy(found, labels)
    return figures


def _decode(codec, codes):
    return np.concatenate([np.asarray(codec.decode(part)) for part in _chunks(codes)])[
        : len(codes)
    ]


def _front_only(codec, x):
    """What the front end loses by itself."""
    return np.concatenate([_there_and_back(codec.module.front, p) for p in _chunks(x)])[
        : len(x)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _there_and_back(front, x):
    # A bound front belongs to its tokenizer; a front end has no variables of its own.
    features = front.apply({}, x)
    return front.apply({}, features, method="invert").clip(-1, 1)
