"""How much of a codebook is used, over the window of codes that is handed in.

The window is part of the figure: n codes can touch at most n codewords, and the entropy
of a small sample is biased low by about (k - 1) / (2 n) nats, so figures compare only
over windows of one size, many times k. Of several codebooks, hand in one at a time:
codes[..., i].
"""

import jax.numpy as jnp
import numpy as np

from vqdit.shapes import AnyArray, Int, Integer


def usage(codes: Integer[AnyArray, "*window"], k: int) -> float:
    """Share of the k codewords that occur in the window, in [0, 1]."""
    return usage_of(code_counts(codes, k))


def usage_of(counts: Int[np.ndarray, "k"]) -> float:
    """The same of their counts."""
    return float((counts > 0).mean())


def perplexity(codes: Integer[AnyArray, "*window"], k: int) -> float:
    """2 to the entropy: the number of codewords in even use, from 1 to k."""
    return 2.0 ** entropy_bits(codes, k)


def entropy_bits(codes: Integer[AnyArray, "*window"], k: int) -> float:
    """Entropy of the codes as if drawn one by one, in bits a code: 0 to log2(k).

    What an entropy coder that knows only the codes' frequencies spends on each; the
    codes' order and neighbourhood may be worth less still.
    """
    return entropy_of(code_counts(codes, k))


def entropy_of(counts: Int[np.ndarray, "k"]) -> float:
    """The same of their counts."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum()) + 0.0  # + 0.0: one code is 0, not -0


def code_counts(codes: Integer[AnyArray, "*window"], k: int) -> Int[np.ndarray, "k"]:
    """Occurrences of every codeword in the window. Counts of two windows add up.

    Raises ValueError on an empty window and on codes outside [0, k).
    """
    if codes.size == 0:
        raise ValueError("codebook figures need at least one code; the window is empty")
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= k:
        raise ValueError(
            f"codes run from {low} to {high}, and a codebook of {k} ends at {k - 1}"
        )
    return np.asarray(jnp.bincount(codes.reshape(-1), length=k), np.int64)
