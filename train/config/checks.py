"""Checks of a number, and of what a module refuses, that name the field."""

import contextlib
import math
from collections.abc import Iterator

from train.config.experiment import AdamW
from train.errors import BadInput


def check_number(
    at: str,
    value: float,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> None:
    if value >= at_least and above < value < below and value <= at_most:
        return
    bounds = [
        f"{word} {bound}"
        for word, bound in (
            ("at least", at_least),
            ("above", above),
            ("below", below),
            ("at most", at_most),
        )
        if math.isfinite(bound)
    ]
    wanted = " and ".join(bounds) or "a finite number"
    raise BadInput(f"{at}={value}: write {wanted}")


def check_optimizer(at: str, optimizer: AdamW, steps: int, length: str) -> None:
    """length: how `steps`, the updates it makes, came about."""
    check_number(f"{at}.warmup", optimizer.warmup, at_least=0)
    check_number(f"{at}.weight_decay", optimizer.weight_decay, at_least=0)
    check_number(f"{at}.peak_lr", optimizer.peak_lr, above=0)
    for name in ("b1", "b2"):
        check_number(f"{at}.{name}", getattr(optimizer, name), at_least=0, below=1)
    if optimizer.clip is not None:
        check_number(f"{at}.clip", optimizer.clip, above=0)
    if optimizer.schedule == "cosine" and optimizer.warmup >= steps:
        raise BadInput(
            f"{at}.warmup={optimizer.warmup} leaves nothing of {length}; write a "
            f"warm-up below {steps}"
        )


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@contextlib.contextmanager
def blame(at: str) -> Iterator[None]:
    """What a module refuses becomes a BadInput that names the field."""
    try:
        yield
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{at}: {error}") from error
