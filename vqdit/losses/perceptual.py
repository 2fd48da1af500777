"""Perceptual losses: distances between features of a trained network.

LPIPS over VGG-16 with weights that the user brings, and the same distance over the
layers of any network trained here, such as a tokenizer's encoder.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.shapes import Array, Float

# Convolutions of VGG-16 before each of its first four poolings, and after the last,
# by their index in torchvision's `features`.
SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
WIDTHS = (64, 128, 256, 512, 512)
# ImageNet's mean and deviation, as LPIPS has them for pictures in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity over VGG-16 (arXiv:1801.03924, eq. 1).

    Two batches of pictures in [-1, 1], (b, *frames, h, w, 1 or 3), -> (b,) distances,
    0 for equal pictures. A video's is the mean over its frames. Raises ValueError for
    sides below 16.
    """

    def setup(self):
        self.convolutions = {
            str(j): nn.Conv(width, (3, 3), name=f"conv_{j}")
            for layers, width in zip(SLICES, WIDTHS, strict=True)
            for j in layers
        }
        # 1x1 convolutions of squared differences, trained to be non-negative.
        self.lins = [
            self.param(f"lin_{i}", nn.initializers.ones, (width,))
            for i, width in enumerate(WIDTHS)
        ]

    def __call__(
        self, x: Float[Array, "b *shape c"], y: Float[Array, "b *shape c"]
    ) -> Float[Array, "b"]:
        if x.ndim < 4 or x.shape[-1] not in (1, 3) or min(x.shape[-3:-1]) < 16:
            raise ValueError(
                f"LPIPS compares pictures (b, h, w, c) of 1 or 3 channels and at least "
                f"16 pixels a side; got {x.shape}"
            )
        total = jnp.zeros(())
        for weight, a, b in zip(self.lins, self._vgg(x), self._vgg(y), strict=True):
            apart = jnp.square(direction(a) - direction(b))
            total = total + (apart * weight).sum(-1).mean((1, 2))
        return total.reshape(x.shape[0], -1).mean(-1)

    def _vgg(self, x):
        """Features after each slice, frames among the batch."""
        x = x.reshape(-1, *x.shape[-3:]).astype(jnp.float32)
        x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
        x = (x - np.float32(SHIFT)) / np.float32(SCALE)
        for i, layers in enumerate(SLICES):
            if i:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for j in layers:
                x = nn.relu(self.convolutions[str(j)](x))
            yield x


def lpips_params(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of `LPIPS` from the tensors of `lpips.LPIPS(net="vgg").state_dict()`.

    Raises ValueError naming the first tensor that is absent or of another shape.
    """
    params: dict[str, Any] = {}
    c = 3
    for i, (convolutions, width) in enumerate(zip(SLICES, WIDTHS, strict=True)):
        for j in convolutions:
            at = f"net.slice{i + 1}.{j}"
            kernel = _tensor(tensors, f"{at}.weight", (width, c, 3, 3))
            bias = _tensor(tensors, f"{at}.bias", (width,))
            params[f"conv_{j}"] = {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}
            c = width
        weight = _tensor(tensors, f"lin{i}.model.1.weight", (1, width, 1, 1))
        params[f"lin_{i}"] = weight.reshape(-1)
    return params


def feature_distance(
    network: nn.Module,
    variables: Mapping[str, Any],
    x: Float[Array, "b *shape c"],
    y: Float[Array, "b *shape c"],
    without: Sequence[str] = (),
) -> Float[Array, "b"]:
    """LPIPS's distance, unweighted, over the layers of any network of one input.

    A layer is a submodule directly in the network, at its output: with unit vectors
    over the channels, the mean of their squared difference over sites and layers.
    without: layers that are not compared, by name.
    """

    def layers(signal):
        _, found = network.apply(
            variables,
            signal,
            mutable=["intermediates"],
            capture_intermediates=lambda module, method: (
                len(module.path) == 1
                and method == "__call__"
                and module.name not in without
            ),
        )
        flat = jax.tree.leaves(found["intermediates"])
        return [leaf for leaf in flat if leaf.ndim > 1]

    distances = []
    for a, b in zip(layers(x), layers(y), strict=True):
        apart = jnp.square(direction(a) - direction(b)).sum(-1)
        distances.append(apart.reshape(x.shape[0], -1).mean(-1))
    return sum(distances, jnp.zeros(())) / len(distances)


def direction(features: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Unit vectors over the channels; 0, with finite gradient, where all are 0."""
    features = features.astype(jnp.float32)
    square = jnp.square(features).sum(-1, keepdims=True)
    return features * jax.lax.rsqrt(square + 1e-10)


def _tensor(tensors, name, shape):
    if name not in tensors:
        raise ValueError(f"there is no tensor {name!r} of LPIPS over VGG")
    if tensors[name].shape != shape:
        raise ValueError(f"{name} is {tensors[name].shape}, not {shape}")
    return np.asarray(tensors[name], np.float32)
