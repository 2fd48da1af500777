"""How close two stacks of waveforms are, and what a code costs a second.

Waveforms are (b, l) or (b, l, 1) floats in [-1, 1], in equal pairs. Figures are
computed in float64.
"""

import math

import numpy as np

from vqdit.shapes import AnyArray, Float
from vqdit.signal.spectra import mel_filterbank

Waves = Float[AnyArray, "..."]


def si_sdr(reference: Waves, estimate: Waves) -> Float[np.ndarray, "b"]:
    """Scale-invariant signal to distortion ratio of every pair, in dB.

    arXiv:1811.02508, eq. 3: the estimate is compared with its projection on the
    reference. inf for a scaled copy, -inf for what shares nothing with the reference,
    nan where the reference is silent: no ratio is defined there. Means are not taken
    off, as in the paper's definition.
    """
    reference, estimate = _pair(reference, estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = np.square(reference).sum(1)
        gain = (reference * estimate).sum(1) / energy
        target = gain[:, None] * reference
        distortion = np.square(estimate - target).sum(1)
        # Rounding of the projection itself is no distortion.
        exact = distortion <= 1e-24 * np.square(estimate).sum(1)
        ratio = np.square(target).sum(1) / np.where(exact, 0.0, distortion)
        return 10 * np.log10(ratio)  # of silence nan, as its gain is


def log_mel_distance(
    a: Waves,
    b: Waves,
    rate: int,
    window: int = 256,
    hop: int = 128,
    bands: int = 64,
    floor: float = 1e-4,
) -> Float[np.ndarray, "b"]:
    """Mean over frames and bands of |log(mel_a + floor) - log(mel_b + floor)|, in nat.

    One figure a pair. mel: magnitudes under a Hann window, over the window's sum, so
    that a sine of full scale is 0.5; averaged over `bands` triangles of the Slaney
    scale from 0 to rate / 2, each of weights that sum to 1. Frames lie wholly inside
    the signal. Figures of other bands, windows or floors do not compare. Raises
    ValueError for signals shorter than a window.
    """
    a, b = _pair(a, b)
    if a.shape[1] < window:
        raise ValueError(f"{a.shape[1]} samples hold no window of {window}")
    bank = mel_filterbank(rate, window, bands).astype(np.float64)
    difference = _log_mel(a, window, hop, floor, bank) - _log_mel(
        b, window, hop, floor, bank
    )
    return np.abs(difference).mean((1, 2))


def kbps(bits: int | float, samples: int, rate: int | float) -> float:
    """Kilobits a second of `bits` that stand for `samples` at `rate` a second, both
    above 0 or ValueError."""
    if samples <= 0 or rate <= 0:
        raise ValueError(
            f"{samples} samples at a rate of {rate}: write numbers above 0"
        )
    return bits * rate / samples / 1000


def _log_mel(x, window, hop, floor, bank):
    frames = np.lib.stride_tricks.sliding_window_view(x, window, axis=1)[:, ::hop]
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    # Every example alone: the frames of all at once are many times the signals.
    level = [np.abs(np.fft.rfft(each * shape)) @ bank.T for each in frames]
    return np.log(np.stack(level) / shape.sum() + floor)


def _pair(a, b):
    if a.shape != b.shape or math.prod(a.shape) == 0:
        raise ValueError(
            f"waveforms are {list(a.shape)} and {list(b.shape)}; they go in equal pairs"
        )
    if a.ndim == 3 and a.shape[2] == 1:
        a, b = a[..., 0], b[..., 0]
    if a.ndim != 2:
        raise ValueError(f"waveforms are {list(a.shape)}; write (b, l) or (b, l, 1)")
    return np.asarray(a, np.float64), np.asarray(b, np.float64)
