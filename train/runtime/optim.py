"""The optimizer: AdamW with warm-up, clipping, and decay on matrices only."""

from typing import Any

import jax
import optax

from train.config import AdamW


def make(optimizer: AdamW, steps: int) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101) behind a clip of the gradient's global norm.

    steps: length of the whole run; the cosine schedule ends there.
    Accumulation is the train step's work (`make_step`), not the optimizer's.
    """
    adamw = optax.adamw(
        learning_rate(optimizer, steps),
        b1=optimizer.b1,
        b2=optimizer.b2,
        weight_decay=optimizer.weight_decay,
        mask=decayed,
    )
    if optimizer.clip is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(optimizer.clip), adamw)


def learning_rate(optimizer: AdamW, steps: int) -> optax.Schedule:
    """Update i -> learning rate.

    Warm-up is linear, peak_lr * (i + 1) / (warmup + 1), so that the first update moves
    already; then constant, or a half cosine from peak_lr at `warmup` to 0 at `steps`.
    """
    first = optimizer.peak_lr / (optimizer.warmup + 1)
    if optimizer.schedule == "cosine":
        if not optimizer.warmup:
            return optax.cosine_decay_schedule(optimizer.peak_lr, steps)
        return optax.warmup_cosine_decay_schedule(
            first, optimizer.peak_lr, optimizer.warmup, steps
        )
    if not optimizer.warmup:
        return optax.constant_schedule(optimizer.peak_lr)
    return optax.warmup_constant_schedule(first, optimizer.peak_lr, optimizer.warmup)


def decayed(params: Any) -> Any:
    """Same structure as params: True at kernels of matrix products and convolutions.

    By name, not by rank: under a layer scan a bias too has two axes. So biases, norms,
    embedding tables and codebooks are left alone.
    """
    is_kernel = lambda path, _: getattr(path[-1], "key", None) == "kernel"
    return jax.tree_util.tree_map_with_path(is_kernel, params)
