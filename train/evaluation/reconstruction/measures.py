"""What a score of a tokenizer is made of, whatever the kind of signal."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from train.errors import BadInput
from train.evaluation.evaluator import Evaluator
from train.evaluation.reconstruction.baselines import fitted
from train.evaluation.reconstruction.codebook import CodebookUse
from train.modalities import Batch, Modality
from train.pipeline import open_examples
from vqdit.trained.codec import Codec
from vqdit.trained.judge import Judge

Compared = dict[str, str]  # of `Measures.compared`


@dataclasses.dataclass(eq=False)
class Measures:
    """How a tokenizer is scored on a kind of signal.

    beside: what puts into each batch what they read, in this order.
    known:  figures that need no pass over the held-out data.
    evaluators: those that the kind's function yields.
    """

    codec: Codec
    data: Modality
    most: int | None = None
    baseline: bool = True
    judge: Judge | None = None
    beside: list[Callable[[Batch], Batch]] = dataclasses.field(default_factory=list)
    known: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluators: list[Evaluator] = dataclasses.field(default_factory=list)

    def use(self, **how: Any) -> Iterator[Evaluator]:
        """That of the codes of a discrete tokenizer."""
        if self.codec.contract.codes:
            yield CodebookUse(self.codec.contract, **how)

    def compared(self) -> Compared:
        """Prefix of a figure -> entry: what is compared with the signal "x". Beside the
        reconstruction k-means on blocks at equal bits, where it is wanted and fits."""
        try:
            means = self.baseline and fitted(self.codec, self.data)
        except BadInput as error:  # too few signals for as many codes
            means, self.known["kmeans"] = None, f"none: {error}"
        if not means:
            return {"": "x_hat"}
        self.beside.append(lambda batch: {"kmeans": means(batch["x"])})
        return {"": "x_hat", "kmeans_": "kmeans"}

    @property
    def truth(self) -> bool:
        """Whether batches have the signal without its noise."""
        return "truth" in open_examples(self.data, False).take(np.arange(1))
