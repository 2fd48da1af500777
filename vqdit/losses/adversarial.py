"""What generator and discriminator want of each other: losses over verdicts."""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.losses.discriminators import Verdict
from vqdit.shapes import Array, Float, Int

Game = Literal["hinge", "non_saturating"]
Verdicts = tuple[Verdict, ...]


def discriminator_loss(game: Game, real: Verdicts, fake: Verdicts) -> Float[Array, ""]:
    """What the discriminator lowers: the mean over its verdicts.

    hinge (arXiv:1705.02894, eq. 8, halved as VQGAN does):
        0.5 mean(max(0, 1 - D(x))) + 0.5 mean(max(0, 1 + D(x_hat))).
    non_saturating (arXiv:1406.2661, eq. 1, on logits):
        mean(softplus(-D(x))) + mean(softplus(D(x_hat))).
    """
    if game == "hinge":
        losses = [
            0.5 * (jax.nn.relu(1 - r.logits).mean() + jax.nn.relu(1 + f.logits).mean())
            for r, f in zip(real, fake, strict=True)
        ]
    else:
        losses = [
            jax.nn.softplus(-r.logits).mean() + jax.nn.softplus(f.logits).mean()
            for r, f in zip(real, fake, strict=True)
        ]
    return sum(losses, jnp.zeros(())) / len(losses)


def generator_loss(game: Game, fake: Verdicts) -> Float[Array, ""]:
    """What the generator lowers, so that logits of its output rise.

    hinge: -mean(D(x_hat)); non_saturating: mean(softplus(-D(x_hat))).
    """
    if game == "hinge":
        losses = [-f.logits.mean() for f in fake]
    else:
        losses = [jax.nn.softplus(-f.logits).mean() for f in fake]
    return sum(losses, jnp.zeros(())) / len(losses)


def feature_matching(real: Verdicts, fake: Verdicts) -> Float[Array, ""]:
    """How far the features of a reconstruction are from those of its original.

    L1 relative to the original's, the mean over layers and verdicts (EnCodec,
    arXiv:2210.13438, section 3.4). No gradient reaches the original.
    """
    distances = []
    for r, f in zip(real, fake, strict=True):
        for wanted, found in zip(r.features, f.features, strict=True):
            wanted = jax.lax.stop_gradient(wanted.astype(jnp.float32))
            distance = jnp.abs(found.astype(jnp.float32) - wanted).mean()
            # The floor is for features that are all zero, as those of silence may be.
            distances.append(distance / jnp.maximum(jnp.abs(wanted).mean(), 1e-4))
    return sum(distances, jnp.zeros(())) / len(distances)


def mean_logits(verdicts: Verdicts) -> Float[Array, "m"]:
    """The mean logit of every verdict."""
    return jnp.stack([verdict.logits.mean() for verdict in verdicts])


def discriminator_accuracy(real: Verdicts, fake: Verdicts) -> Float[Array, ""]:
    """Share of logits on the right side of zero, half of them real."""
    shares = [
        0.5 * ((r.logits > 0).mean() + (f.logits < 0).mean())
        for r, f in zip(real, fake, strict=True)
    ]
    return sum(shares, jnp.zeros(())) / len(shares)


def lecam(
    real: Verdicts,
    fake: Verdicts,
    usual_real: Float[Array, "m"],
    usual_fake: Float[Array, "m"],
) -> Float[Array, ""]:
    """LeCam regularisation (arXiv:2104.03310, eq. 7), the mean over the verdicts.

    E[(D(x) - a_fake)^2] + E[(D(x_hat) - a_real)^2], with a_real and a_fake the moving
    averages of the mean logits so far. The authors' program clips each difference at
    zero from the side it should lie on; this is the paper's formula.
    """
    terms = [
        jnp.square(r.logits - usual_fake[i]).mean()
        + jnp.square(f.logits - usual_real[i]).mean()
        for i, (r, f) in enumerate(zip(real, fake, strict=True))
    ]
    return sum(terms, jnp.zeros(())) / len(terms)


def adaptive_weight(
    reconstruction: Float[Array, "*kernel"],
    adversarial: Float[Array, "*kernel"],
    limit: float = 1e4,
) -> Float[Array, ""]:
    """Weight at which the two losses pull equally (VQGAN, arXiv:2012.09841, eq. 7).

    |reconstruction| / (|adversarial| + 1e-6), from the gradients of the two losses with
    respect to the last layer of the decoder, clipped to [0, limit]. The paper has no
    clip; its program clips at 1e4 and adds 1e-4 below, which at small gradients is no
    longer small. No gradient.
    """
    norm = lambda x: jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum())
    weight = norm(reconstruction) / (norm(adversarial) + 1e-6)
    return jax.lax.stop_gradient(jnp.clip(weight, 0.0, limit))


def ramp(step: Int[Array, ""], start: int, length: int) -> Float[Array, ""]:
    """0 before `start`, from there up to 1 within `length` steps; 1 from the first of
    them on where `length` is 0 or 1.
    """
    return jnp.clip((step + 1.0 - start) / max(length, 1), 0.0, 1.0)
