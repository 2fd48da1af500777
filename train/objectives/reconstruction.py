"""Stage one's objective: what a tokenizer's reconstruction, and its codes, cost."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from train.config import Ramp, StageOne, Weights
from train.objectives.perceptual import Distance
from vqdit import losses
from vqdit.signal import to_signal
from vqdit.signal.rows import in_parts

SIGNAL = "x"  # the stream of stage one's batches


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The objective in two parts, with the reconstruction between them.

    A discriminator needs that seam: it looks at the reconstruction, and its gradient
    enters there. Without one, it is called as the whole objective.

    distances: perceptual losses by name; each finds its own weights, which are not
        trained, in stats["perceptual"][name].
    parts:     of the batch, that the networks see one after another (see `in_parts`).
    """

    experiment: StageOne
    distances: Mapping[str, Distance]
    parts: int = 1

    def forward(self, params, stats, batch, key, step):
        """(reconstruction, weighted losses of the quantizer), (signal, stats, metrics).

        Both signals are as the encoder and the decoder see them, behind a front end.
        The batch has one stream, SIGNAL. Where it is not known the reconstruction is
        the signal, so that nothing that follows is moved by what was not observed.
        """
        model = self.experiment.model
        own = {name: value for name, value in stats.items() if name != "perceptual"}
        variables = {"params": params, **own}

        def encode(model, x):
            return model.features(x), model.encode(x)

        def mapped(method):
            run = functools.partial(model.apply, variables, method=method)
            return in_parts(run, self.parts)

        x, z = mapped(encode)(to_signal(batch["streams"][SIGNAL]))
        quantized, own = model.apply(
            variables, z, train=True, key=key, mutable=list(own), method="quantize"
        )
        x_hat = mapped("rebuild")(quantized.latents)
        loss, metrics = quantizer_loss(self.experiment.losses, quantized.losses, step)
        x_hat = losses.observed(x, x_hat, known_of(batch))
        return (x_hat, loss), (x, {**stats, **own}, metrics | quantized.metrics)

    def compare(self, x_hat, x, stats, batch):
        """(weighted loss, metrics) of a reconstruction."""
        weights, known = self.experiment.losses, known_of(batch)
        x_hat, error = x_hat.astype(jnp.float32), x_hat - x
        terms = {
            "reconstruction": losses.masked_mean(
                losses.PIXEL[weights.pixel](error), known
            )
        }
        if weights.stft:
            terms["stft"] = losses.stft_loss(x, x_hat, weights.windows)
        if weights.mel:
            rate = round(self.experiment.data.rate)
            terms["mel"] = losses.mel_loss(x, x_hat, rate, weights.windows)
        for name, distance in self.distances.items():
            frozen = jax.lax.stop_gradient(stats["perceptual"][name])
            each = functools.partial(distance, frozen)
            terms[name] = in_parts(each, self.parts)(x, x_hat).mean()
        loss = sum(
            value
            * (weights.perceptual if name in self.distances else getattr(weights, name))
            for name, value in terms.items()
        )
        # Peak 2: signals are in [-1, 1].
        square = losses.masked_mean(jnp.square(error), known)
        terms["psnr"] = 10 * jnp.log10(4 / jnp.maximum(square, 1e-10))
        return loss, terms

    def __call__(self, params, stats, batch, key, step):
        """The objective of `train.runtime.step.make_step`."""
        (x_hat, loss), (x, stats, metrics) = self.forward(
            params, stats, batch, key, step
        )
        compared, terms = self.compare(x_hat, x, stats, batch)
        return compared + loss, (stats, metrics | terms)


def known_of(batch) -> jax.Array | None:
    """What is known of the signal, shaped like it; None where all is."""
    return batch.get("known", {}).get(SIGNAL)


def quantizer_loss(weights: Weights, found: Mapping[str, jax.Array], step: jax.Array):
    """(weighted sum, metrics) of the losses that a quantizer names."""
    loss: Any = 0.0
    metrics: dict[str, jax.Array] = {}
    for name, value in found.items():
        weight: Any = weights.quantizer.get(name, 1.0)
        if isinstance(weight, Ramp):
            weight = metrics[f"{name}_weight"] = at_step(weight, step)
        loss = loss + weight * value
        metrics[f"loss_{name}"] = value
    return jnp.asarray(loss, jnp.float32), metrics


def at_step(ramp: Ramp, step: jax.Array) -> jax.Array:
    """The weight at a step."""
    share = jnp.minimum(step / ramp.steps, 1.0)
    return ramp.start + share * (ramp.end - ramp.start)
