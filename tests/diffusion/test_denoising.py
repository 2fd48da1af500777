"""The objective over streams: what is unknown counts for nothing; draws are apart."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from tests import toys
from vqdit import Continuous, Discrete, Gaussian, Masking
from vqdit.diffusion import Linear, Uniform
from vqdit.diffusion.objectives import Denoising, known_mean
from vqdit.diffusion.process import joined

STREAMS = [Continuous("image", (2, 2), 2), Discrete("word", (3,), 5)]
PROCESSES = {"image": Gaussian(), "word": Masking(5)}
TIMES = {"image": Uniform(), "word": Uniform()}
IMAGE = jax.random.normal(jax.random.key(1), (4, 2, 2, 2))
WORD = jnp.arange(12).reshape(4, 3, 1) % 5
LABEL = jnp.array([0, 1, 2, -1])


def test_what_is_unknown_moves_nothing():
    """Loss and gradients bit for bit, of an absent stream and of padding."""
    model = toys.generator(STREAMS, PROCESSES, classes=3)
    objective = Denoising(model.module, PROCESSES, TIMES, 0.1)
    known = {
        "image": jnp.array([1, 1, 0, 1]),
        "word": jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]),
    }
    key = jax.random.key(0)

    @jit
    def run(params, image, word):
        batch = {"streams": {"image": image, "word": word}, "label": LABEL}
        batch["known"] = known
        grad = jax.value_and_grad(objective, has_aux=True)
        (loss, (_, metrics)), slope = grad(params, {}, batch, key, 0)
        return loss, metrics, slope

    other_image = IMAGE.at[2].set(jnp.nan)
    other_word = jnp.where(known["word"][..., None] > 0, WORD, 4)
    first = run(model.params, IMAGE, WORD)
    second = run(model.params, other_image, other_word)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    moved = run(model.params, IMAGE.at[0].add(1.0), WORD)
    assert moved[0] != first[0] and np.isfinite(first[0])


def test_the_mean_is_over_what_is_known():
    loss = jnp.arange(6.0).reshape(2, 3)
    assert known_mean(loss) == 2.5
    assert known_mean(loss, jnp.array([0, 1])) == 4.0
    assert known_mean(loss, jnp.array([[1, 0, 0], [0, 0, 1]])) == 2.5
    assert known_mean(loss.at[0].set(jnp.inf), jnp.array([0, 1])) == 4.0
    assert known_mean(loss, jnp.zeros(2)) == 0.0


def test_masks_of_examples_and_of_places_are_joined():
    few, all_of = jnp.array([1, 0]) > 0, jnp.array([[1, 0, 0], [0, 0, 1]]) > 0
    assert joined(operator.or_, None, None) is None
    assert joined(operator.and_, few, None) is joined(operator.or_, None, few) is few
    for one, other in ((few, all_of), (all_of, few)):
        both, either = (joined(j, one, other) for j in (operator.and_, operator.or_))
        np.testing.assert_array_equal(both, [[1, 0, 0], [0, 0, 0]])
        np.testing.assert_array_equal(either, [[1, 1, 1], [0, 0, 1]])


def test_streams_have_times_and_noise_of_their_own_and_labels_fall():
    """What the network is shown; 4 standard errors of a share of 4,000 labels."""
    n, shown = 4000, {}

    class Spy:
        streams = (Continuous("a", (2,), 1), Continuous("b", (2,), 1))
        classes = 3

        def apply(self, variables, x, t, label):
            shown.update(x=x, t=t, label=label)
            return x

    spy, processes = Spy(), dict.fromkeys("ab", Gaussian(Linear(), "noise"))
    objective = Denoising(spy, processes, dict.fromkeys("ab", Uniform()), 0.25)
    zeros = jnp.zeros((n, 2, 1))
    batch = {"streams": {"a": zeros, "b": zeros}, "label": jnp.arange(n) % 3}
    objective({}, {}, batch, jax.random.key(0), 0)
    for values in (shown["t"], {k: v[:, 0, 0] for k, v in shown["x"].items()}):
        assert abs(jnp.corrcoef(values["a"], values["b"])[0, 1]) < 4 / np.sqrt(n)
    fallen = (shown["label"] == 3).mean()
    assert abs(fallen - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n)
    batch["known"] = {"c": jnp.ones(n)}
    with pytest.raises(ValueError, match="the streams are"):
        objective({}, {}, batch, jax.random.key(0), 0)


class Silent:
    """A network over these streams that always answers 0."""

    classes = 0

    def __init__(self, streams):
        self.streams = streams

    def apply(self, variables, x, times, label, known=None):
        self.known = known
        wide = {"image": x["image"].shape, "word": (*x["word"].shape, 5)}
        return {name: jnp.zeros(wide[name]) for name in x}


def test_the_loss_weighs_streams_as_it_is_said():
    """As written, and 1 of a stream that is not named."""
    batch = {"streams": {"image": IMAGE, "word": WORD}, "label": LABEL}
    said = Denoising(Silent(STREAMS), PROCESSES, TIMES, weights={"image": 3.0})

    @jit
    def run():
        loss, (_, metrics) = said({}, {}, batch, jax.random.key(0), 0)
        return loss, metrics

    loss, metrics = run()
    assert metrics.keys() == {"loss_image", "loss_word"}
    expected = 3 * metrics["loss_image"] + metrics["loss_word"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_stream_draws_by_its_name_and_weighs_what_is_said():
    batch = {"streams": {"image": IMAGE, "word": WORD}, "label": LABEL}
    found = []
    for streams in (STREAMS, STREAMS[::-1]):
        objective = Denoising(
            Silent(streams), PROCESSES, TIMES, weights={"image": 3.0, "word": 0.5}
        )
        loss, (_, metrics) = objective({}, {}, batch, jax.random.key(0), 0)
        image, word = metrics["loss_image"], metrics["loss_word"]
        np.testing.assert_allclose(loss, 3 * image + 0.5 * word, rtol=1e-6)
        found.append((image, word))
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_the_network_is_told_what_is_known():
    batch = {"streams": {"image": IMAGE, "word": WORD}, "label": LABEL}
    batch["known"] = {"word": jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])}
    model = Silent(STREAMS)
    Denoising(model, PROCESSES, TIMES)({}, {}, batch, jax.random.key(0), 0)
    assert model.known.keys() == {"word"}
    np.testing.assert_array_equal(model.known["word"], batch["known"]["word"] > 0)
