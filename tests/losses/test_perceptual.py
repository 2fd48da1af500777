"""Distances between features: zero for equals, growing with distortion."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toys import drawn
from vqdit.features.classifier import Classifier
from vqdit.losses import perceptual
from vqdit.losses.perceptual import (
    LPIPS,
    SCALE,
    SHIFT,
    SLICES,
    WIDTHS,
    feature_distance,
    lpips_params,
)
from vqdit.tokenizer import ConvEncoder


def state_dict(widths=WIDTHS):
    """Tensors by the names and in the layout of lpips.LPIPS(net="vgg")."""
    draw, found, c = np.random.default_rng(0), {}, 3
    for i, (layers, width) in enumerate(zip(SLICES, widths, strict=True)):
        for j in layers:
            kernel = draw.standard_normal((width, c, 3, 3), np.float32)
            found[f"net.slice{i + 1}.{j}.weight"] = kernel * (2 / (9 * c)) ** 0.5
            found[f"net.slice{i + 1}.{j}.bias"] = draw.normal(0, 0.1, width).astype(
                np.float32
            )
            c = width
        found[f"lin{i}.model.1.weight"] = draw.random((1, width, 1, 1), np.float32)
    return found


def published(tensors, x, y):
    """The authors' program line by line, channels first."""

    def features(x):
        x = jnp.moveaxis(x, -1, 1)
        x = (x - jnp.array(SHIFT)[:, None, None]) / jnp.array(SCALE)[:, None, None]
        for i, layers in enumerate(SLICES):
            if i:
                b, c, h, w = x.shape
                x = x.reshape(b, c, h // 2, 2, w // 2, 2).max((3, 5))
            for j in layers:
                at = f"net.slice{i + 1}.{j}"
                x = jax.lax.conv(x, tensors[f"{at}.weight"], (1, 1), "SAME")
                x = jnp.maximum(x + tensors[f"{at}.bias"][:, None, None], 0)
            yield x / (jnp.sqrt(jnp.square(x).sum(1, keepdims=True)) + 1e-10)

    total = 0
    for i, (a, b) in enumerate(zip(features(x), features(y), strict=True)):
        weight = tensors[f"lin{i}.model.1.weight"][0]
        total += (jnp.square(a - b) * weight).sum(1).mean((1, 2))
    return total


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(1)
    x = jnp.asarray(draw.uniform(-1, 1, (2, 16, 16, 3)), jnp.float32)
    return x, jnp.asarray(draw.normal(size=x.shape), jnp.float32)


@pytest.mark.slow
def test_lpips_is_the_published_formula_on_its_tensors(pictures):
    x, noise = pictures
    tensors = state_dict()
    variables = {"params": lpips_params(tensors)}
    shapes = jax.eval_shape(LPIPS().init, jax.random.key(0), x, x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    # torchvision's VGG-16 without its classifier, and a weight a channel.
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 14_714_688 + sum(WIDTHS)

    distance = jax.jit(LPIPS().apply)
    assert (distance(variables, x, x) == 0).all()
    near, far = (distance(variables, x, x + s * noise) for s in (0.1, 0.5))
    assert (0 < near).all() and (near < far).all()
    expected = published(tensors, x, x + 0.5 * noise)
    np.testing.assert_allclose(far, expected, rtol=1e-4)


def test_lpips_of_few_channels_is_the_published_formula(pictures, monkeypatch):
    """Of one to three channels a layer; grey pictures and clips too."""
    x, noise = pictures
    monkeypatch.setattr(perceptual, "WIDTHS", (2, 3, 1, 2, 3))
    tensors = state_dict(perceptual.WIDTHS)
    variables = {"params": lpips_params(tensors)}
    distance = jax.jit(LPIPS().apply)
    y = x + 0.5 * noise
    expected = published(tensors, x, y)
    found = distance(variables, x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    # A clip's is the mean of its frames', and a grey picture is three equal channels.
    grey = [each[..., :1] for each in (x, y)]
    frames = distance(variables, *(jnp.repeat(each, 3, axis=-1) for each in grey))
    clip = distance(variables, *(each[None] for each in grey))
    np.testing.assert_allclose(clip, [frames.mean()], rtol=1e-6)


def test_lpips_has_the_published_sizes_and_scales():
    """torchvision's VGG-16 without its classifier, and ImageNet's statistics."""
    x = jnp.zeros((1, 16, 16, 3))
    shapes = jax.eval_shape(LPIPS().init, jax.random.key(0), x, x)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 14_714_688 + 64 + 128 + 256 + 512 + 512
    layers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    names = {f"conv_{i}" for i in layers} | {f"lin_{i}" for i in range(5)}
    assert set(shapes) == names
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(SHIFT, 2 * mean - 1, atol=1e-9)
    np.testing.assert_allclose(SCALE, 2 * deviation, atol=1e-9)


def test_lpips_of_grey_and_of_video():
    """A grey picture is its three equal channels; a video the mean of its frames."""
    seen = lambda shape: jax.eval_shape(
        lambda x: LPIPS().init_with_output(jax.random.key(0), x, x)[0], jnp.ones(shape)
    )
    assert seen((2, 16, 16, 1)).shape == seen((2, 3, 16, 16, 3)).shape == (2,)
    for shape in ((2, 8, 8, 3), (2, 16, 16, 2), (2, 16, 3)):
        with pytest.raises(ValueError, match="LPIPS compares pictures"):
            seen(shape)


def test_what_is_no_lpips_is_named():
    tensors = state_dict()
    with pytest.raises(ValueError, match="net.slice1.0.weight"):
        lpips_params({})
    tensors["net.slice5.24.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="net.slice5.24.bias is"):
        lpips_params(tensors)


ENCODER = ConvEncoder(4, (1, 2), blocks=1, mid_attention=False, out=8)


@pytest.mark.parametrize(
    "network", [ENCODER, Classifier(10, (4, 8), 16)], ids=["encoder", "classifier"]
)
def test_layers_of_a_trained_network(network, pictures):
    x, noise = pictures
    variables = drawn(network, x)
    distance = jax.jit(lambda x, y: feature_distance(network, variables, x, y))
    assert (distance(x, x) == 0).all()
    near, far = distance(x, x + 0.1 * noise), distance(x, x + 0.5 * noise)
    assert near.shape == (2,) and (0 < near).all() and (near < far).all()


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(3, name="inside")(x))


class Mean(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.mean(tuple(range(1, x.ndim)))


class Two(nn.Module):
    """Layers directly in the network, one of them with a layer of its own; what has
    no channels is none."""

    @nn.compact
    def __call__(self, x):
        return Mean(name="size")(Inner(name="two")(nn.Dense(2, name="one")(x)))


def test_a_distance_is_the_mean_over_layers_of_unit_vectors(pictures):
    x, noise = (each[:, :2, :2] for each in pictures)
    variables, y = drawn(Two(), x), x + noise
    weights = [variables["params"][n] for n in ("one", "two")]
    weights[1] = weights[1]["inside"]

    def layers(x):
        found = []
        for weight, act in zip(weights, (lambda x: x, np.tanh), strict=True):
            x = act(np.asarray(x) @ weight["kernel"] + weight["bias"])
            found.append(x / np.linalg.norm(x, axis=-1, keepdims=True))
        return found

    pairs = zip(layers(x), layers(y), strict=True)
    apart = [np.square(a - b).sum(-1).mean((1, 2)) for a, b in pairs]
    found = feature_distance(Two(), variables, x, y)
    np.testing.assert_allclose(found, np.mean(apart, 0), rtol=1e-4)
    found = feature_distance(Two(), variables, x, y, without=["one"])
    np.testing.assert_allclose(found, apart[1], rtol=1e-4)
    # Of one vector an example, too.
    x, y = x[:, 0, 0], y[:, 0, 0]
    pairs = zip(layers(x), layers(y), strict=True)
    apart = [np.square(a - b).sum(-1) for a, b in pairs]
    found = feature_distance(Two(), variables, x, y)
    np.testing.assert_allclose(found, np.mean(apart, 0), rtol=1e-4)


def test_the_same_features_have_a_finite_gradient(pictures):
    x, _ = pictures
    variables = drawn(ENCODER, x)
    loss = lambda y: feature_distance(ENCODER, variables, x, y).mean()
    assert np.isfinite(jax.jit(jax.grad(loss))(x)).all()
