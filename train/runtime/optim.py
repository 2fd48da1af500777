"""The optimizer of an experiment, made of optax's parts."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from train.config import SGD, Adafactor, AdamW, Muon
from train.errors import BadInput
from train.runtime.sharding import path_name


def make(
    optimizer: AdamW, steps: int, at: str = "optimizer"
) -> optax.GradientTransformation:
    """The rule's update and the weight decay, times the rate, behind a clip of the
    gradient's global norm.

    steps: length of the whole run, where its schedule ends.
    at: the field that it is, for messages.
    Accumulation is the train step's work (`make_step`), not the optimizer's. Its `init`
    raises BadInput for a regular expression of `rates`, or of the `decay` that there
    is, that no parameter's path has.
    """
    factors = partial(factors_of, optimizer.rates, at=at)
    parts = [
        _rule(optimizer),
        optax.add_decayed_weights(
            optimizer.weight_decay, partial(_decaying, optimizer, at)
        ),
        optax.scale_by_learning_rate(learning_rate(optimizer, steps)),
    ]
    stages = [optax.chain(*parts)]
    if optimizer.clip is not None:
        stages.insert(0, optax.clip_by_global_norm(optimizer.clip))
    if optimizer.rates:
        # What is frozen has no part in the norm, and may not decay either.
        stages = [_scaled(bool, factors), *stages, _scaled(float, factors)]
    return optax.chain(*stages) if len(stages) > 1 else stages[0]


def _scaled(
    of: Callable[[float], float], factors: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """Each update times what `of` makes of its parameter's factor."""

    def init(params):
        factors(params)  # raises, before anything compiles
        return optax.EmptyState()

    def update(updates, state, params=None):
        scale = lambda factor, u: jnp.asarray(of(factor), u.dtype) * u
        return jax.tree.map(scale, factors(updates), updates), state

    return optax.GradientTransformation(init, update)


def _rule(optimizer: AdamW) -> optax.GradientTransformation:
    """The direction of the update, before weight decay and rate."""
    match optimizer.rule:
        case None:
            return optax.scale_by_adam(optimizer.b1, optimizer.b2)
        case SGD(momentum, nesterov):
            return optax.trace(momentum, nesterov)
        case Adafactor(decay, factored):
            moments = optax.scale_by_factored_rms(
                decay_rate=decay, min_dim_size_to_factor=factored
            )
            return optax.chain(moments, optax.clip_by_block_rms(1.0))
        case Muon(momentum, nesterov, iterations):
            muon = contrib.muon(
                -1.0,  # the rate comes later, and with it the sign
                ns_steps=iterations,
                beta=momentum,
                nesterov=nesterov,
                muon_weight_dimension_numbers=_matrices,
                consistent_rms=0.2,
            )
            # Its own would have Nesterov's momentum too.
            adam = optax.scale_by_adam(optimizer.b1, optimizer.b2)
            return optax.partition({True: muon, False: adam}, _orthogonal)


def learning_rate(optimizer: AdamW, steps: int) -> optax.Schedule:
    """Update i -> learning rate.

    Warm-up is linear, peak_lr * (i + 1) / (warmup + 1), so that the first update moves
    already; then constant, a half cosine from peak_lr at `warmup` to 0 at `steps`, or
    peak_lr * sqrt(warmup / i). Within the last `cooldown` it is that times
    (steps - i) / cooldown.
    """
    peak, warmup = optimizer.peak_lr, optimizer.warmup
    first = peak / (warmup + 1)
    if optimizer.schedule == "cosine":
        if not warmup:
            return optax.cosine_decay_schedule(peak, steps)
        return optax.warmup_cosine_decay_schedule(first, peak, warmup, steps)
    rate = optax.constant_schedule(peak)
    if warmup:
        rate = optax.warmup_constant_schedule(first, peak, warmup)
    falls, cooldown = optimizer.schedule == "inverse_root", optimizer.cooldown
    if not falls and not cooldown:
        return rate

    def shaped(i):
        found = rate(i)
        if falls:
            found = found * jnp.sqrt(max(warmup, 1) / jnp.maximum(i, max(warmup, 1)))
        if cooldown:
            found = found * jnp.clip((steps - i) / cooldown, 0, 1)
        return found

    return shaped


def _decaying(optimizer: AdamW, at: str, params: Any) -> Any:
    """Same structure as params: True where `decay` is found in the path.

    Kernels are told by name, not by rank: under a layer scan a bias too has two axes.
    So biases, norms, embedding tables and codebooks do not decay by themselves.
    """
    there = lambda path, _: re.search(optimizer.decay, path_name(path)) is not None
    found = jax.tree_util.tree_map_with_path(there, params)
    if optimizer.weight_decay and not any(jax.tree.leaves(found)):
        raise BadInput(
            f"{at}.decay: {optimizer.decay!r} is in the path of no parameter, "
            f"such as {_ends(params)}; write {at}.weight_decay=0 for none"
        )
    return found


def factors_of(
    rates: Sequence[tuple[str, float]], params: Any, at: str = "optimizer"
) -> Any:
    """Same structure as params: the factor of the first pattern that is found.

    Raises BadInput for one that no path has, or none that is left to it by those before
    it, such as its own twin.
    """
    used = set()

    def factor(path, _):
        for i, (pattern, value) in enumerate(rates):
            if re.search(pattern, path_name(path)):
                used.add(i)
                return value
        return 1.0

    found = jax.tree_util.tree_map_with_path(factor, params)
    if unused := [rates[i][0] for i in range(len(rates)) if i not in used]:
        raise BadInput(
            f"{at}.rates: {unused[0]!r} is in the path of no parameter that is "
            f"left to it, such as {_ends(params)}"
        )
    return found


def _ends(params: Any) -> str:
    """The first and the last path, for a message."""
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return f"{paths[0]} or {paths[-1]}"


def _orthogonal(params: Any) -> Any:
    """Same structure as params: True at kernels but the first and the last layers'."""
    kernel = re.compile(r"(?<!_in)(?<!_out)/kernel$")
    found = lambda path, _: kernel.search(f"/{path_name(path)}") is not None
    return jax.tree_util.tree_map_with_path(found, params)


def _matrices(kernels: Any) -> Any:
    """Same structure as the kernels: which of their axes are a matrix's."""

    def axes(path, x):
        name = path_name(path)
        # A layer scan's leading axis counts matrices; a convolution's window is a part
        # of its input.
        first = 1 if "blocks/" in name else 0
        return contrib.MuonDimensionNumbers(tuple(range(first, x.ndim - 1)), x.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, kernels)
