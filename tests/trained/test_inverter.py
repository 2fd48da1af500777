"""Noise that is found for given signals leads back to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from vqdit import Euler, Reversed, Steps
from vqdit.trained.sampler import Sampler

KEY, IDS = jax.random.key(0), jnp.arange(4)
X = np.random.default_rng(0).normal(size=(4, 4, 4, 2)).astype(np.float32)
LABEL = jnp.array([0, 1, 2, 1])


@pytest.fixture(scope="module")
def model():
    return toys.labelled()


def far(found, x):
    return abs(np.asarray(found) - x).max()


def test_what_is_drawn_from_the_noise_is_the_signal(model):
    """Of its label, by its scale; more rounds come nearer; another label makes an edit,
    and the same steps without iterating are no inverse."""
    how = {"steps": 40, "guidance": 1.5}
    draw = model.sampler(solver=Euler(), **how)
    noise = {r: model.inverter(rounds=r, **how)(KEY, IDS, {"image": X}, label=LABEL)
             for r in (1, 8)}  # fmt: skip
    assert noise[8]["image"].shape == X.shape
    errors = {
        r: far(draw(KEY, IDS, LABEL, noise=found)["image"], X)
        for r, found in noise.items()
    }
    assert errors[8] < 1e-3 < 2e-2 < errors[1]
    edited = draw(KEY, IDS, (LABEL + 1) % 3, noise=noise[8])["image"]
    assert far(edited, X) > 0.1


@pytest.mark.slow
def test_a_signal_comes_back_as_its_tokenizer_has_it():
    """Through its latents, beside another stream that is given."""
    model = toys.any_to_any()
    signal = np.random.default_rng(1).uniform(-1, 1, (4, 4, 4, 1)).astype(np.float32)
    given = {"given": {"word": np.arange(12).reshape(4, 3, 1) % 5}}
    noise = model.inverter(40, of="image", rounds=8)(
        KEY, IDS, {"image": signal}, **given
    )
    codec = model.codecs["image"]
    draw = model.sampler(want="image", steps=40, solver=Euler(), decode=False)
    latents = draw(KEY, IDS, noise=noise, **given)["image"]
    np.testing.assert_allclose(latents, codec.latents(signal), atol=1e-3)


def test_it_is_a_pure_function_inside_a_jit(model):
    inverter = model.inverter(rounds=2, steps=3)
    called = inverter(KEY, IDS, {"image": X}, label=LABEL)["image"]
    pure = jax.jit(inverter.invert)(model.arrays, KEY, IDS, {"image": X}, label=LABEL)
    np.testing.assert_allclose(pure["image"], called, atol=1e-5)


def test_a_call_hands_on_all_that_a_sampler_takes(monkeypatch):
    """And the latents of the signals, as the noise to begin with."""
    seen, inverter = {}, toys.any_to_any().inverter(of="image", steps=3)

    def spy(*of, **how):
        seen.update(of=of, **how)
        return {}

    monkeypatch.setattr(Sampler, "__call__", spy)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 4, 4, 1)).astype(np.float32)
    how = {
        "label": LABEL,
        "given": {"word": np.zeros((4, 3, 1), np.int32)},
        "guidance": 2.0,
        "interval": (0.2, 0.8),
        "known": {"word": np.ones(4)},
        "params": {"a": 1},
    }
    inverter(KEY, IDS, {"image": x}, **how)
    of, noise = seen.pop("of"), seen.pop("noise")
    assert of == (inverter.sampler, KEY, IDS) and seen.keys() == how.keys()
    assert all(seen[name] is value for name, value in how.items())
    latents = inverter.sampler.generator.codecs["image"].latents(x)
    np.testing.assert_array_equal(noise["image"], latents)


def test_what_has_no_noise_is_refused(model):
    with pytest.raises(ValueError, match="solver for Gaussian.* is Masking"):
        toys.any_to_any().inverter()
    with pytest.raises(ValueError, match="one step has no inverse"):
        model.inverter(steps=1)
    for walk in (model.inverter, model.sampler):
        with pytest.raises(ValueError, match="grid is Reversed"):
            walk(grid={"image": Reversed(Steps(3))})
    with pytest.raises(ValueError, match="write a grid that falls"):
        Reversed(Reversed(Steps(3)))


@pytest.mark.parametrize(
    "x, more, message",
    [
        ({"picture": X}, {}, r"x holds \['picture'\]; write signals of \['image'\]"),
        (X, {}, "x holds ndarray; write"),
        ({"image": X[:, :2]}, {}, "x 'image': .*4"),
        ({"image": X[:3]}, {}, r"x 'image' is \(3, .*ids are"),
        ({"image": X}, {"given": {"image": X}}, "is inverted and given"),
    ],
)
def test_what_cannot_be_inverted_is_one_line(model, x, more, message):
    with pytest.raises(ValueError, match=message):
        model.inverter(steps=2)(KEY, IDS, x, label=LABEL, **more)
