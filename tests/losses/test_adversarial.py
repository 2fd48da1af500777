"""Losses of the game in closed form, and which way their gradients point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import adversarial as game
from vqdit.losses.discriminators import Verdict

GAMES = ("hinge", "non_saturating")


def verdicts(*logits, features=()):
    return tuple(
        Verdict(jnp.asarray(each, jnp.float32), tuple(features)) for each in logits
    )


REAL = verdicts([[2.0, -0.5]], [[0.5]])
FAKE = verdicts([[-2.0, 0.5]], [[0.0]])


def test_hinge_by_hand():
    # 0.5 (mean(0, 1.5) + mean(0, 1.5)) = 0.75 and 0.5 (0.5 + 1) = 0.75.
    assert game.discriminator_loss("hinge", REAL, FAKE) == 0.75
    # -mean(-2, 0.5) = 0.75 and -0 = 0.
    assert game.generator_loss("hinge", FAKE) == 0.375


def test_non_saturating_by_hand():
    soft = lambda v: np.log1p(np.exp(v))
    first = np.mean([soft(-2), soft(0.5)]) + np.mean([soft(-2), soft(0.5)])
    second = soft(-0.5) + soft(0)
    found = game.discriminator_loss("non_saturating", REAL, FAKE)
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-6)
    expected = (np.mean([soft(2), soft(-0.5)]) + soft(0)) / 2
    found = game.generator_loss("non_saturating", FAKE)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", GAMES)
def test_gradients_point_the_right_way(kind):
    """The discriminator raises real logits and lowers fake ones; the generator raises
    fake ones."""
    real, fake = verdicts([0.3, -0.2]), verdicts([0.1, -0.4])
    up, down = jax.grad(game.discriminator_loss, argnums=(1, 2))(kind, real, fake)
    assert (up[0].logits < 0).all() and (down[0].logits > 0).all()
    assert (jax.grad(game.generator_loss, argnums=1)(kind, fake)[0].logits < 0).all()


def test_confident_hinge_has_no_gradient():
    slope = jax.grad(game.discriminator_loss, argnums=1)(
        "hinge", verdicts([3.0]), verdicts([-3.0])
    )
    assert slope[0].logits == 0


def test_accuracy_and_mean_logits():
    np.testing.assert_allclose(game.mean_logits(REAL), [0.75, 0.5])
    # Of the first half of both are right; of the second the real one, 0 is not < 0.
    assert game.discriminator_accuracy(REAL, FAKE) == 0.5


def test_lecam_by_hand():
    """mean((D(x) - a_fake)^2) + mean((D(x_hat) - a_real)^2), a verdict at a time."""
    found = game.lecam(REAL, FAKE, jnp.array([1.0, 0.0]), jnp.array([0.0, -1.0]))
    first = np.mean([4, 0.25]) + np.mean([9, 0.25])
    second = 1.5**2 + 0
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-6)


def test_feature_matching_is_relative_and_leaves_the_original_alone():
    wanted, found = jnp.array([1.0, -3.0]), jnp.array([2.0, -1.0])
    real = verdicts([0.0], features=[wanted, 10 * wanted])
    fake = verdicts([0.0], features=[found, 10 * found])
    np.testing.assert_allclose(game.feature_matching(real, fake), 1.5 / 2, rtol=1e-6)
    assert game.feature_matching(real, real) == 0
    slopes = jax.grad(game.feature_matching, argnums=(0, 1))(real, fake)
    assert not jnp.any(slopes[0][0].features[0])
    assert (jnp.sign(slopes[1][0].features[0]) == jnp.sign(found - wanted)).all()
    silent = verdicts([0.0], features=[jnp.zeros(2)])
    assert np.isfinite(game.feature_matching(silent, fake[:0] or silent))


def test_adaptive_weight_is_the_ratio_in_a_linear_toy():
    """For x_hat = W h and losses a . x_hat, b . x_hat the gradients are a h', b h'."""
    h, a, b = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]), jnp.array([0.0, 0.5])
    w = jnp.ones((2, 2))
    slopes = [jax.grad(lambda w, v=v: v @ (w @ h))(w) for v in (a, b)]
    np.testing.assert_allclose(game.adaptive_weight(*slopes), 5.0 / 0.5, rtol=1e-4)
    assert game.adaptive_weight(slopes[0], 0 * slopes[1]) == 1e4
    assert game.adaptive_weight(0 * slopes[0], slopes[1]) == 0
    assert jax.grad(lambda w: game.adaptive_weight(w, w))(w).sum() == 0


def test_ramp():
    found = [float(game.ramp(jnp.int32(i), 3, 4)) for i in range(9)]
    assert found == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    for length in (0, 1):
        found = [float(game.ramp(jnp.int32(i), 3, length)) for i in range(5)]
        assert found == [0, 0, 0, 1, 1]
