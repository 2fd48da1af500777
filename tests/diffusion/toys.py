"""Toys whose best predictor is known in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.diffusion import (
    EDM,
    Betas,
    Cosine,
    CosineBetas,
    DDPMLinear,
    Gaussian,
    Linear,
    LinearBetas,
    MaskAndReplace,
    Masking,
    Steps,
    UniformState,
    VarianceExploding,
)
from vqdit.diffusion.process import against

SCHEDULES = (Linear(), Cosine(), DDPMLinear())
TARGETS = ("data", "noise", "velocity", "v")

# A new schedule or process joins these, and with them every test of the contract.
ALL_SCHEDULES = (
    *SCHEDULES,
    VarianceExploding(),
    LinearBetas(),
    CosineBetas(),
    Betas((0.1, 0.2, 0.4, 0.7, 0.9, 0.97)),
)
GAUSSIANS = {
    f"{type(schedule).__name__}, {target}": Gaussian(schedule, target)
    for schedule, target in (
        (Linear(), "data"),
        (Linear(), "velocity"),
        (Cosine(), "noise"),
        (Cosine(), "v"),
        (DDPMLinear(), "noise"),
        (VarianceExploding(), "noise"),
        (LinearBetas(), "velocity"),
        (CosineBetas(), "v"),
        (ALL_SCHEDULES[-1], "data"),
    )
} | {"EDM": EDM(), "EDM, Linear": EDM(Linear(), data_std=1.5)}
CODES = {
    "Masking": Masking(3),
    "Masking, Linear": Masking(3, Linear()),
    "Masking, DDPMLinear": Masking(3, DDPMLinear()),
    "Masking, LinearBetas": Masking(3, LinearBetas()),
    "Masking, none": Masking(3, weight="none"),
    "MaskAndReplace": MaskAndReplace(3, share=0.4),
    "MaskAndReplace, Linear": MaskAndReplace(3, Linear()),
    "UniformState": UniformState(3),
    "UniformState, Linear": UniformState(3, Linear()),
    "UniformState, DDPMLinear": UniformState(3, DDPMLinear()),
}


def time_grid(steps, start=1.0, shift=1.0):
    """steps + 1 times from start to 0."""
    return Steps(steps, shift)(None, start)


def schedule_name(schedule):
    """For the names of parametrized tests."""
    return type(schedule).__name__


def as_target(process, data, noise, t):
    """What a network of this process should say of a known (data, noise)."""
    schedule = process.schedule
    one = jnp.ones_like(t)
    alpha, d_alpha = jax.jvp(schedule.alpha, (t,), (one,))
    sigma, d_sigma = jax.jvp(schedule.sigma, (t,), (one,))
    alpha, sigma, d_alpha, d_sigma = (
        against(c, data) for c in (alpha, sigma, d_alpha, d_sigma)
    )
    if process.target == "data":
        return data
    if process.target == "noise":
        return noise
    if process.target == "velocity":
        return d_alpha * data + d_sigma * noise
    if process.target == "edm":  # (D - c_skip x) / c_out of table 1, at sigma / alpha
        ratio, std = sigma / jnp.maximum(alpha, 1e-5), process.data_std
        skip = std**2 / (ratio**2 + std**2)
        out = ratio * std / jnp.sqrt(ratio**2 + std**2)
        return (data - skip * (data + ratio * noise)) / out
    return alpha * noise - sigma * data


def best_gaussian(process, mean, std):
    """(x_t, t) -> the best output for data N(mean, std^2): conditional expectations."""

    def predict(x_t, t):
        alpha = against(process.schedule.alpha(t), x_t)
        sigma = against(process.schedule.sigma(t), x_t)
        surprise = (x_t - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        data = mean + alpha * std**2 * surprise
        return as_target(process, data, sigma * surprise, t)

    return predict


def flow_map(process, mean, std, x_1, t=1.0):
    """Where the ODE of data N(mean, std^2) takes x_1 at time t: same quantile."""
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    spread = jnp.sqrt(alpha**2 * std**2 + sigma**2)
    return mean + std * (x_1 - alpha * mean) / spread


# Two tokens of three codes each that depend on each other.
JOINT = np.array([[0.30, 0.05, 0.05], [0.02, 0.20, 0.08], [0.10, 0.00, 0.20]])
VOCAB = 3


def joint_logits(joint=JOINT):
    """(b, 2) codes with masks (index 3) -> (b, 2, 3) logits of p(code | the other)."""
    joint = np.asarray(joint, np.float64)
    tables = []
    for table in (joint, joint.T):  # p(first | second), p(second | first)
        given = table / table.sum(0)
        alone = table.sum(1, keepdims=True)
        tables.append(np.log(np.concatenate([given, alone], 1).T + 1e-30))
    first, second = (jnp.asarray(t, jnp.float32) for t in tables)

    def predict(codes):
        return jnp.stack([first[codes[:, 1]], second[codes[:, 0]]], axis=1)

    return predict


def fallen(process):
    """Probabilities of what a fallen code is, the codes and the mask."""
    masked = {Masking: 1.0, UniformState: 0.0}.get(type(process))
    if masked is None:
        masked = 1 - process.share
    return np.append(np.full(VOCAB, (1 - masked) / VOCAB), masked).astype(np.float32)


def chances(process, codes, sigma):
    """(*codes, 3): probabilities of codes at t, or the mask, given each true one."""
    kept = (1 - sigma) * jax.nn.one_hot(codes, VOCAB)
    return kept + sigma * jnp.asarray(fallen(process))[codes][..., None]


def others_logits(process, joint=JOINT):
    """(b, 2) codes at t -> logits of p(first | second at t), p(second | first at t).

    What a network learns; here from Bayes' rule by hand.
    """

    def predict(codes, t):
        sigma = against(process.schedule.sigma(t), codes)[..., None]
        likely = chances(process, codes, sigma)
        first = likely[:, 1] @ jnp.asarray(joint, jnp.float32).T
        second = likely[:, 0] @ jnp.asarray(joint, jnp.float32)
        return jnp.log(jnp.stack([first, second], axis=1) + 1e-30)

    return predict


def pairs():
    """All (first, second)."""
    return np.array(list(itertools.product(range(VOCAB), repeat=2)), np.int32)


def chi_square(codes, joint):
    """(statistic, degrees of freedom) of (n, 2) draws against a joint table."""
    counts = np.zeros((VOCAB, VOCAB))
    np.add.at(counts, tuple(np.asarray(codes).T), 1)
    expected = np.asarray(joint) * len(codes)
    assert counts[expected == 0].sum() == 0
    inside = expected > 0
    statistic = ((counts - expected)[inside] ** 2 / expected[inside]).sum()
    return statistic, inside.sum() - 1
