"""What is scored while a run trains, and how often."""

import dataclasses

from vqdit.fields import Checked, Count, Seed, TwoOrMore


@dataclasses.dataclass(frozen=True)
class Reconstructions(Checked):
    """The figures of `train.evaluate` of held-out reconstructions, of stage one.

    every: steps between.
    most: held-out examples, evenly spaced.
    """

    every: Count
    most: Count = 512


@dataclasses.dataclass(frozen=True)
class Samples(Checked):
    """The figures of `train.evaluate` of samples, of stage two.

    every:    steps between.
    num:      samples, drawn in `steps` steps of each stream's solver.
    steps:    of the sampler.
    guidance: scale; None, which is cheaper, draws without.
    judge:    folder of a classifier or tokenizer in whose features they are compared;
        None is the stream's own tokenizer, and figures say tokenizer_.
    copies:   whether memorisation is measured, which reads the training set each time.
    seed:     of the samples, the same every time.
    """

    every: Count
    num: TwoOrMore = 500
    steps: Count = 25
    guidance: float | None = None
    judge: str | None = None
    copies: bool = False
    seed: Seed = 0
