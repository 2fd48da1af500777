"""Denoising: every stream is corrupted to a time of its own, and its process's loss is
taken of what the network says.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from vqdit.diffusion.guidance import preconditioned
from vqdit.diffusion.process import Process, against, named
from vqdit.signal.rows import in_parts


@dataclasses.dataclass(frozen=True, eq=False)
class Denoising:
    """The objective (params, state, batch, key, step) -> loss, (state, metrics).

    model:         a Linen module over streams, such as DiT.
    times:         stream -> law of its times, called with (key, batch).
    label_dropout: share of labels replaced by the null class, for guidance.
    weights:       stream -> factor of its loss; 1 where none is named.
    parts:         of the batch, that go through the model one after another, which
                   changes its memory alone: draws and means are the batch's.

    batch: {"streams": {name: latents or codes}, "label": (b,) int, -1 for none} and,
    where not all is observed, "known": {name: (b,) or (b, *grid)}. What is not known is
    set to 0 before anything is computed from it, no other token attends to it, and it
    has no loss: the mean is over what is known of the batch. The loss is the sum over
    streams.
    """

    model: Any
    processes: Mapping[str, Process]
    times: Mapping[str, Callable]
    label_dropout: float = 0.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parts: int = 1

    def __call__(self, params: Any, state: Any, batch: Mapping, key, step):
        """Raises ValueError where `known` names no stream."""
        del step
        names = [stream.name for stream in self.model.streams]
        known = {name: v > 0 for name, v in batch.get("known", {}).items()}
        if set(known) - set(names):
            raise ValueError(f"known {sorted(known)}: the streams are {sorted(names)}")
        label_key, streams_key = jax.random.split(key)
        label = self._label(batch["label"], label_key)

        x, t, targets = {}, {}, {}
        for name in names:
            # By name, so that a stream's draws ignore its companions.
            own = named(streams_key, name) if len(names) > 1 else streams_key
            time_key, noise_key = jax.random.split(own)
            x0 = batch["streams"][name]
            if name in known:
                x0 = jnp.where(against(known[name], x0), x0, 0)
            t[name] = self.times[name](time_key, len(x0))
            x[name], targets[name] = self.processes[name].corrupt(
                x0, t[name], noise_key
            )

        def each(x, t, label, known, targets):
            mask = {"known": known} if known else {}
            network = preconditioned(
                lambda *seen: self.model.apply({"params": params}, *seen, **mask),
                self.processes,
            )
            outputs = network(x, t, label)
            return {
                name: self.processes[name].loss(
                    outputs[name], targets[name], x[name], t[name]
                )
                for name in names
            }

        found = in_parts(each, self.parts)(x, t, label, known, targets)
        losses = {name: known_mean(found[name], known.get(name)) for name in names}
        metrics = {f"loss_{name}": loss for name, loss in losses.items()}
        loss = sum(self.weights.get(name, 1.0) * v for name, v in losses.items())
        return loss, (state, metrics)

    def _label(self, label, key):
        absent = label < 0
        absent |= jax.random.bernoulli(key, self.label_dropout, label.shape)
        classes = self.model.classes
        return jnp.where(absent, classes, label) if classes else None


def known_mean(
    loss: Float[Array, "b *grid"], known: Shaped[Array, "b *some"] | None = None
) -> Float[Array, ""]:
    """Over the places that are known, whatever the others hold; 0 where none is."""
    if known is None:
        return loss.mean()
    weight = jnp.broadcast_to(against(known, loss) > 0, loss.shape)
    return jnp.where(weight, loss, 0.0).sum() / jnp.maximum(weight.sum(), 1)
