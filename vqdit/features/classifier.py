"""A small convolutional classifier, whose penultimate layer gives features."""

import functools

import flax.linen as nn


class Classifier(nn.Module):
    """Convolutions of stride 2 down to 2 to 4 pixels a side, then two dense layers.

    Images (b, h, w, c) in [-1, 1] -> features (b, dim), logits (b, classes). The
    features are the penultimate layer before its activation: no unit is cut off at
    zero, so their covariance has full rank and a Gaussian is a fair description.
    """

    classes: int
    widths: tuple[int, ...]
    dim: int = 64

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, strides=(2, 2), precision="highest")
        dense = functools.partial(nn.Dense, precision="highest")
        for i, width in enumerate(self.widths):
            # The first looks wider: it alone sees pixels.
            side = 5 if i == 0 else 3
            x = nn.gelu(conv(width, (side, side), name=f"conv_{i}")(x))
        features = dense(self.dim, name="features")(x.reshape(x.shape[0], -1))
        return features, dense(self.classes, name="logits")(nn.gelu(features))
