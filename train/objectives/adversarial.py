"""A tokenizer and its discriminator, one step of each in one program.

The discriminator is a second TrainState inside the first, so that loop, checkpoints and
resuming see one tree. Both gradients come from one pass over one batch: the generator
meets the discriminator before its update, and the discriminator the reconstructions
before theirs. (VQGAN's program reconstructs again for the discriminator's turn.)
"""

import functools
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from train.config import Adversarial, StageOne
from train.objectives.reconstruction import Reconstruction
from train.runtime.optim import learning_rate, make
from train.runtime.step import AdversarialState, TrainState, beside, init_state, updated
from vqdit.losses import adversarial as game
from vqdit.signal.rows import in_parts

DECAY = 0.99  # of the moving averages of logits that LeCam compares with


def with_discriminator(
    state: TrainState, experiment: StageOne, features: tuple[int, ...]
) -> AdversarialState:
    """The state before the first update.

    features: shape of one example as the decoder returns it.
    The discriminator's stats are the moving averages of its mean logits, one a verdict.
    """
    how, tx = _game(experiment)
    key, params_key = jax.random.split(beside(state.key, "discriminator"))
    example = jnp.zeros((1, *features))
    verdicts, variables = how.discriminator.init_with_output(params_key, example)
    averages = {
        "real": jnp.zeros(len(verdicts)),
        "fake": jnp.zeros(len(verdicts)),
        "count": jnp.zeros((), jnp.int32),
    }
    variables = {"params": variables["params"], "lecam": averages}
    discriminator = init_state(key, variables, tx)
    return AdversarialState(
        **{name: getattr(state, name) for name in TrainState.__dataclass_fields__},
        discriminator=discriminator.replace(ema={}),
    )


def make_adversarial_step(
    experiment: StageOne, tx: optax.GradientTransformation, terms: Reconstruction
):
    """The function (state, batch) -> (state, metrics) that updates both.

    Up to adversarial.start the discriminator rests: it is not changed, its metrics are
    0, and the generator's update is that of `train.runtime.step.make_step`.

    Metrics beside the objective's: adversarial and feature_matching, unweighted;
    adversarial_weight, what the former was multiplied by; discriminator_loss, _real and
    _fake (mean logits), _accuracy, _grad_norm, and lecam.
    """
    (how, discriminator_tx), optimizer = _game(experiment), experiment.optimizer
    rate = learning_rate(optimizer, experiment.run.steps)

    def step(state: AdversarialState, batch: Any):
        key = jax.random.fold_in(state.key, state.step)
        other = state.discriminator
        pairs = (state.params, other.params), (state.stats, other.stats)
        (loss, (stats, metrics)), grads = both_gradients(
            how, terms, *pairs, batch, key, state.step
        )
        other = jax.lax.cond(
            state.step >= how.start,
            lambda: updated(other, grads[1], stats[1], discriminator_tx, None),
            lambda: other,
        )
        metrics |= {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads[0]),
            "discriminator_grad_norm": optax.tree.norm(grads[1]),
            "learning_rate": jnp.asarray(rate(state.step)),
        }
        new = updated(state, grads[0], stats[0], tx, optimizer.ema)
        return new.replace(discriminator=other), metrics

    return step


def both_gradients(
    how: Adversarial, terms: Reconstruction, params, stats, batch, key, step
):
    """((generator's loss, (stats, metrics)), gradients) of generator and discriminator.

    params, stats and gradients are pairs.
    """
    forward = lambda params: terms.forward(params, stats[0], batch, key, step)
    (x_hat, own), pull, (x, new_stats, metrics) = jax.vjp(
        forward, params[0], has_aux=True
    )
    compare = lambda x_hat: terms.compare(x_hat, x, stats[0], batch)
    (compared, found), slope = jax.value_and_grad(compare, has_aux=True)(x_hat)
    metrics |= found

    active = step >= how.start
    other, seen = params[1], stats[1]
    play = functools.partial(_play, how, terms.parts, other, seen, x, x_hat)
    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(play))
    played = _either(active, play, blank | {"stats": stats[1]})
    metrics |= played["metrics"]

    ramp = game.ramp(step, how.start, how.ramp)
    weight = how.weight * ramp
    if how.adaptive:
        # Only one kernel's gradient is used of either: the rest is never computed.
        def last(slope):
            (grads,) = pull((slope, jnp.zeros_like(own)))
            return flax.traverse_util.flatten_dict(grads, sep="/")[how.last]

        ratio = game.adaptive_weight(last(slope), last(played["fooling"]))
        weight = weight * jnp.where(active, ratio, 0.0)
    metrics["adversarial_weight"] = weight
    loss = compared + own + weight * metrics["adversarial"]
    slope = slope + weight * played["fooling"]
    if how.features:
        loss = loss + how.features * ramp * metrics["feature_matching"]
        slope = slope + how.features * ramp * played["matching"]
    (grads,) = pull((slope, jnp.ones_like(own)))
    both = (new_stats, played["stats"])
    return (loss, (both, metrics)), (grads, played["gradient"])


def _either(active, play, idle):
    """What `play` returns while active, else `idle`, in the same structure.

    On an accelerator nothing is computed to be thrown away. On a CPU it is: there the
    gradients of convolutions run some fifty times slower within a branch.
    """
    chosen = lambda new, old: jax.tree.map(
        functools.partial(jnp.where, active), new, old
    )
    return jax.lax.platform_dependent(
        cpu=lambda: chosen(play(), idle),
        default=lambda: jax.lax.cond(active, play, lambda: idle),
    )


def _play(how: Adversarial, parts: int, params, stats, x, x_hat) -> dict[str, Any]:
    """What the discriminator makes of signals and of their reconstructions.

    gradient: of its own loss. fooling, matching: slopes of the generator's two losses
    at the reconstruction. Each pulls through the same forward passes.
    """

    def judge(params, x):
        own = lambda x: how.discriminator.apply({"params": params}, x)
        return in_parts(own, parts)(x)

    real, pull_real = jax.vjp(lambda params: judge(params, x), params)
    fake, pull_fake = jax.vjp(judge, params, x_hat)
    average = _averages(stats["lecam"], real, fake)

    def own(real, fake):
        loss = game.discriminator_loss(how.loss, real, fake)
        distance = game.lecam(real, fake, average["real"], average["fake"])
        return loss + how.lecam * distance, (loss, distance)

    (real_slope, fake_slope), (loss, distance) = jax.grad(
        own, argnums=(0, 1), has_aux=True
    )(real, fake)
    gradient = jax.tree.map(jnp.add, pull_real(real_slope)[0], pull_fake(fake_slope)[0])
    fooled, slope = jax.value_and_grad(
        functools.partial(game.generator_loss, how.loss)
    )(fake)
    metrics = {
        "adversarial": fooled,
        "discriminator_loss": loss,
        "discriminator_real": game.mean_logits(real).mean(),
        "discriminator_fake": game.mean_logits(fake).mean(),
        "discriminator_accuracy": game.discriminator_accuracy(real, fake),
        "lecam": distance,
    }
    played = {
        "gradient": gradient,
        "stats": {"lecam": average},
        "fooling": pull_fake(slope)[1],
        "metrics": metrics,
    }
    if how.features:
        matching = functools.partial(game.feature_matching, real)
        metrics["feature_matching"], slope = jax.value_and_grad(matching)(fake)
        played["matching"] = pull_fake(slope)[1]
    return played


def _averages(average, real, fake):
    """The moving averages of the mean logits, this batch's among them.

    The first hundred count alike, so that they are averages from the first on.
    """
    count = average["count"] + 1
    rate = jnp.maximum(1 - DECAY, 1 / count)
    now = jax.lax.stop_gradient(
        {"real": game.mean_logits(real), "fake": game.mean_logits(fake)}
    )
    blended = {
        name: average[name] + rate * (value - average[name])
        for name, value in now.items()
    }
    return {**blended, "count": count}


def _game(experiment: StageOne) -> tuple[Adversarial, optax.GradientTransformation]:
    """(how it is played, the discriminator's optimizer, whose schedule is over the
    updates that it makes), of an experiment that has it."""
    how = experiment.adversarial
    assert how is not None
    steps = experiment.run.steps - how.start
    return how, make(how.optimizer, steps, "adversarial.optimizer")
