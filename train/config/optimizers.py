"""Optimizers: the rule of an update, its rate over a run, and where it applies."""

import dataclasses
import re
from typing import Literal

from vqdit.fields import Count, Decay, Natural, NonNegative, Positive


@dataclasses.dataclass(frozen=True)
class Adafactor:
    """Adafactor (arXiv:1804.04235): of a matrix's second moments a row and a column.

    No first moment is kept, and updates are clipped to a root mean square of 1. Its
    memory is a small share of AdamW's two copies of the weights.
    decay:    the exponent of section 7.2: second moments forget by 1 - t^-decay.
    factored: smallest axis of a matrix that is kept as row and column.
    """

    decay: Positive = 0.8
    factored: Count = 128


@dataclasses.dataclass(frozen=True)
class Muon:
    """Muon: a kernel's momentum, made orthogonal by Newton and Schulz's iteration.

    For kernels but the first and the last layers'; those, tables, norms and biases have
    Adam with b1 and b2. Updates have the root mean square of Adam's (arXiv:2502.16982,
    eq. 4), so that a rate that fits AdamW fits here.

    momentum: how much of the average of gradients a step keeps.
    nesterov: whether the average looks a step ahead.
    iterations: of Newton and Schulz.
    """

    momentum: Decay = 0.95
    nesterov: bool = True
    iterations: Count = 5


@dataclasses.dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum; 0 for none.

    momentum: how much of the sum of gradients a step keeps.
    nesterov: whether the sum looks a step ahead.
    """

    momentum: Decay = 0.9
    nesterov: bool = False


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW (arXiv:1711.05101), or another rule, and its schedule.

    peak_lr:  rate that the warm-up ends at.
    warmup:   steps in which the rate grows from 0 in a line.
    b1, b2:   how much of the moving averages, of the gradient and of its square, each
        step keeps.
    weight_decay: times the rate, the share of itself that a parameter loses every step.
    schedule: after a linear warm-up of `warmup` steps: "constant", "cosine" to 0 at the
        last step, or "inverse_root" (arXiv:1706.03762, eq. 3), peak_lr at `warmup`.
    clip:     bound on the gradient's global norm; None for no bound.
    cooldown: the last steps, in which the rate falls to 0 in a line: with "constant" it
        is warm-up, stable, decay (arXiv:2405.18392).
    rule:     Adafactor(), Muon() or SGD() in the place of Adam's moments.
    decay:    regular expression of the parameters that weight_decay shrinks, found in
        their paths such as "decoder/conv_in/kernel".
    rates:    (regular expression, factor) pairs: of the rate of parameters whose path
        holds it, the first that does; 0 freezes, and the clip does not see these.
    """

    peak_lr: Positive = 1e-4
    schedule: Literal["constant", "cosine", "inverse_root"] = "constant"
    warmup: Natural = 0
    b1: Decay = 0.9
    b2: Decay = 0.999
    weight_decay: NonNegative = 0.0
    clip: Positive | None = 1.0
    cooldown: Natural = 0
    rule: Adafactor | Muon | SGD | None = None
    decay: str = "kernel$"
    rates: tuple[tuple[str, NonNegative], ...] = ()

    def __post_init__(self):
        if self.cooldown and self.schedule == "cosine":
            raise ValueError("cooldown: a cosine ends at 0 itself; write cooldown=0")
        moments = self.b1, self.b2
        if isinstance(self.rule, Adafactor | SGD) and moments != (0.9, 0.999):
            name = type(self.rule).__name__
            raise ValueError(f"b1 and b2 are Adam's; leave them out with rule={name}()")
        for pattern in (self.decay, *(pattern for pattern, _ in self.rates)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"{pattern!r} is no regular expression ({error})"
                ) from error

    @property
    def ends(self) -> bool:
        """Whether its rates depend on the length of the run."""
        return self.schedule == "cosine" or bool(self.cooldown)


@dataclasses.dataclass(frozen=True)
class Optimizer(AdamW):
    """AdamW, how a step's gradient is made, and the moving average of the weights.

    accumulate: microbatches per step, which take less memory and nothing else:
        networks see them one after another, quantizers and losses the whole batch.
        Each is computed once more for its gradient.
    ema:        decay of the weights' moving average, which is what is evaluated.
    """

    accumulate: Count = 1
    ema: Decay = 0.9999
