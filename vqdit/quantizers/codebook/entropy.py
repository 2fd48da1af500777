"""Entropies of soft assignments, as losses that keep every code in use."""

import jax
import jax.numpy as jnp

from vqdit.quantizers.codebook.assignment import assign
from vqdit.quantizers.codebook.search import by_distance, by_rows
from vqdit.shapes import Array, Float


def plogp(p: Float[Array, "*b k"]) -> Float[Array, "*b"]:
    """sum p log p, minus the entropy in nats; finite, with its gradient, at p = 0."""
    return jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0).sum(-1)


def usage_entropy(
    z: Float[Array, "n d"],
    codewords: Float[Array, "k d"],
    scale: Float[Array, ""],
    temperature: float,
    scores: int | None = None,
) -> Float[Array, ""]:
    """sum p log p of the batch's code distribution: -log k when all are used alike.

    p = mean over vectors of softmax(-|z - e|^2 / (temperature scale)): soft, since a
    count has no gradient. By `assign`, so that it stays affordable for many codes.
    """
    sharpness = 2 / (temperature * jnp.maximum(jax.lax.stop_gradient(scale), 1e-12))
    z, table, bias = by_distance(z, codewords)
    soft = assign(z, table, bias, table, sharpness, scores=scores)
    return plogp(soft.total / z.shape[0])


def bit_entropy(
    v: Float[Array, "n d"],
    temperature: float,
    group: int,
    sample: float = 1.0,
    codebook: float = 1.0,
) -> Float[Array, ""]:
    """Mean entropy of a vector's code minus the entropy of the mean, in nats.

    sample, codebook: the factors of these two.

    v is in units of a bit's two values, -1 and 1, and a bit is 1 with probability
    sigmoid(4 v / temperature): the softmax over all 2^d codes of minus the squared
    distance factorises into this. The first entropy is exact; the second is over all
    2^d codes when d <= group and otherwise the sum over groups of that many bits, an
    upper bound that is met when the groups are independent (arXiv:2406.07548, eq. 12).
    """
    n, d = v.shape

    def sums(v):
        logits = 4 * v / temperature
        p = jax.nn.sigmoid(logits)
        each = (jax.nn.softplus(logits) - logits * p).sum()
        means = []
        for start in range(0, d, group):
            joint = jnp.ones((v.shape[0], 1))
            for i in range(start, min(start + group, d)):
                one = p[:, i : i + 1]
                joint = jnp.concatenate([joint * (1 - one), joint * one], -1)
            means.append(joint.sum(0))
        return None, (each, means)

    _, (each, means) = by_rows(sums, 2 ** min(group, d), v)
    return sample * each / n + codebook * sum(plogp(mean / n) for mean in means)
