"""Denoising: every stream is corrupted to a time of its own, and its process's loss is
taken of what the network says.
"""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.diffusion.guidance import preconditioned
from vqdit.diffusion.mixture import Mixture
from vqdit.diffusion.process import Process, against, joined, named
from vqdit.shapes import Array, Float, Shaped
from vqdit.signal.rows import in_parts


@dataclasses.dataclass(frozen=True, eq=False)
class Denoising:
    """The objective (params, state, batch, key, step) -> loss, (state, metrics).

    model:         a Linen module over streams, such as DiT.
    times:         stream -> law of its times, called with (key, batch).
    label_dropout: share of labels replaced by the null class, for guidance.
    weights:       stream -> factor of its loss; 1 where none is named.
    mixture:       which streams, or places of them, an example is given, and which it
                   lacks; as it stands none, and every stream is noised at its time.
    parts:         of the batch, that go through the model one after another, which
                   changes its memory alone: draws and means are the batch's.

    batch: {"streams": {name: latents or codes}, "label": (b,) int, -1 for none} and,
    where not all is observed, "known": {name: (b,) or (b, *grid)}. What is not known is
    set to 0 before anything is computed from it, no other token attends to it, and it
    has no loss. What is given is seen as it is, at t = 0, and has no loss either: the
    mean is over the places that are known and noised, of the batch. The loss is the sum
    over streams, each in its own unit: of latents the squared error of a channel, which
    is near 1 for who knows nothing; of codes nats a code, near log(vocab). `first_loss`
    says how much that is.
    """

    model: Any
    processes: Mapping[str, Process]
    times: Mapping[str, Callable]
    label_dropout: float = 0.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parts: int = 1
    mixture: Mixture = Mixture()

    def __call__(self, params: Any, state: Any, batch: Mapping, key, step):
        """Raises ValueError where `known` names no stream."""
        del step
        names = [stream.name for stream in self.model.streams]
        known = {name: v > 0 for name, v in batch.get("known", {}).items()}
        if set(known) - set(names):
            raise ValueError(f"known {sorted(known)}: the streams are {sorted(names)}")
        label_key, streams_key = jax.random.split(key)
        label = self._label(batch["label"], label_key)
        shared_key = named(key, "together")
        given, absent, together = self._roles(named(key, "mixture"), batch, known)
        for name, gone in absent.items():
            known[name] = joined(operator.and_, known.get(name), ~gone)

        # What the network is shown, and when; what the losses are taken of.
        shown, shown_t, x, t, targets = {}, {}, {}, {}, {}
        for name in names:
            # By name, so that a stream's draws ignore its companions.
            own = named(streams_key, name) if len(names) > 1 else streams_key
            time_key, noise_key = jax.random.split(own)
            x0 = batch["streams"][name]
            if name in known:
                x0 = jnp.where(against(known[name], x0), x0, 0)
            t[name] = self.times[name](time_key, len(x0))
            if together is not None:
                one = self.times[name](shared_key, len(x0))
                t[name] = jnp.where(together, one, t[name])
            x[name], targets[name] = self.processes[name].corrupt(
                x0, t[name], noise_key
            )
            shown[name], shown_t[name] = x[name], t[name]
            if name in given:
                at_data = given[name]
                shown[name] = jnp.where(against(at_data, x0), x0, x[name])
                shown_t[name] = jnp.where(at_data, 0, against(t[name], at_data))

        def each(shown, shown_t, x, t, label, known, targets):
            mask = {"known": known} if known else {}
            network = preconditioned(
                lambda *seen: self.model.apply({"params": params}, *seen, **mask),
                self.processes,
            )
            outputs = network(shown, shown_t, label)
            return {
                name: self.processes[name].loss(
                    outputs[name], targets[name], x[name], t[name]
                )
                for name in names
            }

        rows = shown, shown_t, x, t, label, known, targets
        found = in_parts(each, self.parts)(*rows)
        noised = {name: ~mask for name, mask in given.items()}
        losses = {}
        for name in names:
            counted = joined(operator.and_, known.get(name), noised.get(name))
            losses[name] = known_mean(found[name], counted)
        metrics = {f"loss_{name}": loss for name, loss in losses.items()}
        loss = sum(self.weights.get(name, 1.0) * v for name, v in losses.items())
        return loss, (state, metrics)

    def _roles(self, key, batch, known):
        """What the mixture draws, of streams of which an example knows anything."""
        anything = dict.fromkeys(batch["streams"], jnp.ones(len(batch["label"]), bool))
        for name, each in known.items():
            anything[name] = each.reshape(len(each), -1).any(axis=1)
        return self.mixture.draw(key, self.model.streams, anything)

    def _label(self, label, key):
        absent = label < 0
        absent |= jax.random.bernoulli(key, self.label_dropout, label.shape)
        classes = self.model.classes
        return jnp.where(absent, classes, label) if classes else None


def first_loss(process: Process, times: Callable, stream: Any) -> float:
    """The loss of a network that answers 0, as a new one does, on unit latents or even
    codes: what to divide a stream's loss by for all to begin at 1."""
    rounds, place = 256, (16, 16, stream.shape[-1])

    def one(key):
        data_key, time_key, noise_key = jax.random.split(key, 3)
        if stream.kind == "codes":
            x0 = jax.random.randint(data_key, place, 0, stream.vocab)
            output = jnp.zeros((*place, stream.vocab))
        else:
            x0 = jax.random.normal(data_key, place)
            output = jnp.zeros((*place[:-1], place[-1] * stream.outputs))
        t = times(time_key, len(x0))
        x_t, target = process.corrupt(x0, t, noise_key)
        return process.loss(output, target, x_t, t).mean()

    keys = jax.random.split(jax.random.key(0), rounds)
    return float(jax.jit(lambda keys: jax.lax.map(one, keys))(keys).mean())


def known_mean(
    loss: Float[Array, "b *grid"], known: Shaped[Array, "b *some"] | None = None
) -> Float[Array, ""]:
    """Over the places that are known, whatever the others hold; 0 where none is."""
    if known is None:
        return loss.mean()
    weight = jnp.broadcast_to(against(known, loss) > 0, loss.shape)
    return jnp.where(weight, loss, 0.0).sum() / jnp.maximum(weight.sum(), 1)
