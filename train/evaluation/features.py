"""In whose features signals are compared: a judge's, or a tokenizer's latents."""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from train.errors import BadInput
from train.evaluation.evaluator import FeatureNetwork, chunked, signal
from train.evaluation.judge import train_judge
from train.modalities import Modality
from train.objectives.bundles import examples_for, open_bundle, open_judge
from train.pipeline import open_examples
from vqdit.trained.codec import Codec
from vqdit.trained.judge import Judge

MOST = 128  # features; a covariance of more needs more samples than most sets have


@dataclasses.dataclass(frozen=True, eq=False)
class Latents(FeatureNetwork):
    """The latents of a tokenizer, before they are quantized, as features.

    What is there for every kind of signal without a label, at the cost of encoding:
    each latent in units of its spread over the training set, averaged over as many
    equal cells of the grid as leave MOST features. They see what this tokenizer keeps,
    so figures of two tokenizers do not compare.
    """

    codec: Codec

    @functools.cached_property
    def cells(self) -> tuple[int, ...]:
        """How many along each axis of the grid."""
        cells = list(self.codec.contract.grid)
        while max(cells) > 1 and math.prod(cells) * self.codec.contract.channels > MOST:
            longest = cells.index(max(cells))
            cells[longest] = -(-cells[longest] // 2)
        return tuple(cells)

    @property
    def dim(self) -> int:
        return math.prod(self.cells) * self.codec.contract.channels

    @property
    def protocol(self) -> dict[str, Any]:
        """What figures depend on, for a report."""
        contract = self.codec.contract
        return {
            "network": f"latents of the tokenizer, means over {self.cells} cells of "
            f"its grid {contract.grid}",
            "fingerprint": contract.fingerprint[:16],
            "features": self.dim,
        }

    def features(self, x):
        latents = lambda part: self.codec.latents(signal(self.codec, part))
        return chunked(lambda part: _cell_means(latents(part), self.cells), x)


@functools.partial(jax.jit, static_argnums=1)
def _cell_means(z, cells):
    for axis, count in enumerate(cells, start=1):
        parts = jnp.array_split(z, count, axis)
        z = jnp.stack([part.mean(axis) for part in parts], axis)
    return z.reshape(len(z), -1)


def network_of(
    data: Modality,
    codec: Codec,
    folder: str | None = None,
    steps: int | None = None,
    at: str = "--judge",
) -> FeatureNetwork:
    """What samples of a stream are compared in.

    folder: of a judge or of a tokenizer, so that several runs are scored by the same,
        as the field or flag `at` gave it.
    Else, of labelled signals that can be judged, a judge that is trained here for so
    many steps; of all others the latents of the stream's own tokenizer.
    """
    classes = open_examples(data, True).classes
    if folder is not None:
        found = open_bundle(folder, (Judge, Codec), at)
        if isinstance(found, Codec):
            examples_for(found, data, train=False)
            return Latents(found)
        return open_judge(folder, data, classes, at)
    if data.judged and classes > 1:
        return train_judge(data, steps)
    if steps is not None:
        raise BadInput(
            f"--judge-steps is of a judge of labelled signals, the data is "
            f"{data.kind} of {classes} classes; drop it"
        )
    return Latents(codec)


def network_by(
    name: str,
    data: Modality,
    codec: Codec,
    judge: str | Mapping[str, str] | None = None,
    steps: int | None = None,
) -> FeatureNetwork:
    """`network_of` the stream `name`, of which `judge` is the folder, or names it."""
    if isinstance(judge, Mapping):
        return network_of(data, codec, judge.get(name), steps, f"--judge.{name}")
    return network_of(data, codec, judge, steps)


def check_judges(
    judge: str | Mapping[str, str] | None, steps: int | None, streams: Collection[str]
) -> dict[str, str]:
    """Flag -> folder, of --judge=DIR and of --judge.NAME=DIR, the judges of `streams`.

    Raises BadInput, before anything is opened, where one is of no stream of these, or
    of several, and for steps of training where none is left to be trained.
    """
    named = judge if isinstance(judge, Mapping) else {}
    for name in named:
        if name not in streams:
            listed = ", ".join(streams) or "none"
            raise BadInput(f"--judge.{name}: signals are drawn of {listed}")
    left = set(streams) - named.keys() if named else ()  # one --judge is of all
    if steps is not None and judge and not left:
        what = "a judge" if named else "--judge"
        raise BadInput(f"--judge-steps is of a judge trained here; drop it, or {what}")
    if isinstance(judge, Mapping) or not judge:
        return {f"--judge.{name}": folder for name, folder in named.items()}
    if len(streams) > 1:
        each = " and ".join(f"--judge.{name}" for name in streams)
        raise BadInput(
            f"--judge is of one kind of signal, and several are drawn; write {each}"
        )
    return {"--judge": judge}
