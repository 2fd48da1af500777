"""Short-time Fourier transform, mel bands, and the signals that have them.

Frame i of a signal is centred on its samples i * hop .. (i + 1) * hop - 1: there are
(window - hop) / 2 zeros before the signal and after it, and as many frames as hops.
"""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.shapes import Array, Complex, Float
from vqdit.split import by_row

Scale = Literal["slaney", "htk"]
SMALLEST = 1e-6  # magnitudes are smoothed below it, so that their gradient is finite
FAINTEST = 1e-3  # sum of squared windows over any sample, which the inverse divides by
SOLVED = 30  # rounds of the non-negative least squares


def stft(
    x: Float[Array, "*b l"], window: int, hop: int
) -> Complex[Array, "*b frames bins"]:
    """Frames under a periodic Hann window, transformed: bins = window // 2 + 1.

    A signal that is no multiple of hop is continued with zeros: frames = ceil(l / hop).
    Raises ValueError unless window > hop and both are even or both odd.
    """
    check_frames(window, hop)
    extra, side = -x.shape[-1] % hop, (window - hop) // 2
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(side, side + extra)])
    return by_row(jnp.fft.rfft, _frames(x, window, hop) * hann(window))


def istft(
    spectrum: Complex[Array, "*b frames bins"],
    window: int,
    hop: int,
    length: int | None = None,
) -> Float[Array, "*b l"]:
    """The signal whose transform is nearest (Griffin and Lim 1984, eq. 6).

    The inverse of `stft`, first and last samples included. `length` keeps that many
    samples; by default all, frames * hop.
    """
    check_frames(window, hop)
    inverse = functools.partial(jnp.fft.irfft, n=window)
    frames = by_row(inverse, spectrum) * hann(window)
    weight = jnp.broadcast_to(jnp.square(hann(window)), frames.shape[-2:])
    total = frames.shape[-2] * hop
    side = (window - hop) // 2
    keep = slice(side, side + (total if length is None else length))
    return _overlap_add(frames, hop)[..., keep] / _overlap_add(weight, hop)[keep]


def hann(window: int) -> Float[np.ndarray, "window"]:
    """The periodic Hann window."""
    place = np.arange(window) / window
    return (0.5 - 0.5 * np.cos(2 * np.pi * place)).astype(np.float32)


def magnitude(
    x: Float[Array, "*b l"], window: int, hop: int
) -> Float[Array, "*b frames bins"]:
    """|stft| over the sum of the window: at most 1 for a signal in [-1, 1].

    0 for silence, with gradient 0 there; a sine of amplitude a peaks at a / 2.
    """
    spectrum = stft(x, window, hop) / hann(window).sum()
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.sqrt(power + SMALLEST**2) - SMALLEST


def mel_filterbank(
    rate: int,
    window: int,
    bands: int,
    low: float = 0.0,
    high: float | None = None,
    scale: Scale = "slaney",
) -> Float[np.ndarray, "bands bins"]:
    """Triangles equally spaced in mel between low and high Hz; every row sums to 1.

    So a band is a weighted mean of the bins' magnitudes, no larger than the largest.
    slaney: linear to 1 kHz, logarithmic above (Auditory Toolbox). htk: 2595 log10(1 +
    f / 700). Raises ValueError where a band is so narrow that no bin falls into it.
    """
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2 or bands < 1:
        raise ValueError(
            f"{bands} mel bands between {low} and {high} Hz at a rate of {rate}: write "
            f"at least 1 band, and 0 <= low < high <= {rate / 2:g}"
        )
    mel, hertz = {"slaney": (slaney, _from_slaney), "htk": (_htk, _from_htk)}[scale]
    edges = hertz(np.linspace(mel(low), mel(high), bands + 2))
    bins = np.arange(window // 2 + 1) * rate / window
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    sums = weights.sum(1, keepdims=True)
    if not sums.all():
        raise ValueError(
            f"mel band {int(np.argmin(sums > 0))} of {bands} lies between two bins of "
            f"{rate / window:g} Hz; write fewer bands, or a window longer than {window}"
        )
    return (weights / sums).astype(np.float32)


def non_negative(
    mel: Float[Array, "*b bands"], filters: Float[np.ndarray, "bands bins"]
) -> Float[Array, "*b bins"]:
    """Magnitudes w >= 0 with w @ filters.T near mel, by multiplicative updates.

    Lee and Seung 2001, theorem 1; started from the mean of the bands around each bin,
    so what the bands leave open stays smooth.
    """
    dot = functools.partial(jnp.matmul, precision="highest")
    target = dot(mel, filters)
    start = target / np.maximum(filters.sum(0), 1e-6)

    def improve(_, level):
        return level * target / (dot(dot(level, filters.T), filters) + 1e-12)

    return jax.lax.fori_loop(0, SOLVED, improve, start)


def griffin_lim(
    level: Float[Array, "*b frames bins"],
    window: int,
    hop: int,
    iterations: int = 32,
    momentum: float = 0.99,
) -> Float[Array, "*b l"]:
    """A signal whose |stft| is near `level`: the fast Griffin-Lim algorithm.

    Perraudin, Balazs and Sondergaard 2013, algorithm 2; momentum = 0 is the plain one
    (Griffin and Lim 1984). Always the same signal for the same level: the phases start
    as those of steady sines, one in the middle of each bin, drawn once.
    """
    frames, bins = level.shape[-2:]
    steady = np.outer(np.arange(frames), np.arange(bins)) * (hop / window)
    drawn = np.random.default_rng(0).uniform(size=bins)
    turns = ((steady + drawn) % 1.0).astype(np.float32)
    start = level * jnp.exp(2j * jnp.pi * turns)

    def project(spectrum):
        """The same phases with the magnitudes asked for."""
        power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        return spectrum * (level * jax.lax.rsqrt(power + 1e-20))

    def improve(_, state):
        ahead, last, _ = state
        x = istft(project(ahead), window, hop)
        now = stft(x, window, hop)
        return now + momentum * (now - last), now, x

    first = istft(start, window, hop)
    consistent = stft(first, window, hop)
    state = (consistent, consistent, first)
    return jax.lax.fori_loop(0, iterations, improve, state)[2]


def _frames(x, window, hop):
    """(*b, l) -> (*b, frames, window), every hop samples, none beyond the end."""
    count, parts = (x.shape[-1] - window) // hop + 1, -(-window // hop)
    padding = (count + parts - 1) * hop - x.shape[-1]
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padding)])
    blocks = x.reshape(*x.shape[:-1], -1, hop)
    shifted = [blocks[..., i : i + count, :] for i in range(parts)]
    return jnp.concatenate(shifted, axis=-1)[..., :window]


def _overlap_add(frames, hop):
    """The adjoint of `_frames`."""
    *lead, count, window = frames.shape
    parts = -(-window // hop)
    widen = [(0, 0)] * (frames.ndim - 1) + [(0, parts * hop - window)]
    blocks = jnp.pad(frames, widen).reshape(*lead, count, parts, hop)
    around = [(0, 0)] * len(lead)
    total = sum(
        jnp.pad(blocks[..., i, :], [*around, (i, parts - 1 - i), (0, 0)])
        for i in range(parts)
    )
    return total.reshape(*lead, -1)


def check_frames(window: int, hop: int) -> None:
    """Raises ValueError for a window and a hop that no frames have."""
    if not 0 < hop < window or (window - hop) % 2:
        raise ValueError(
            f"window {window} and hop {hop}: write a window longer than the hop, both "
            f"even or both odd, for example {2 * hop} and {hop}"
        )
    overlap = np.bincount(np.arange(window) % hop, np.square(hann(window)))
    if overlap.min() < FAINTEST:
        raise ValueError(
            f"window {window} and hop {hop}: the windows all but vanish where one ends "
            f"and the next begins; write a longer window, for example {2 * hop}"
        )


def _htk(hertz):
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _from_htk(mel):
    return 700 * (10 ** (mel / 2595) - 1)


def slaney(hertz: Any) -> Any:
    """Hz to mel: linear to 1 kHz, logarithmic above (Auditory Toolbox)."""
    hertz = np.asarray(hertz, np.float64)
    above = 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / math.log(6.4)
    return np.where(hertz < 1000, hertz * 3 / 200, above)


def _from_slaney(mel):
    above = 1000 * np.exp((mel - 15) * math.log(6.4) / 27)
    return np.where(mel < 15, mel * 200 / 3, above)
