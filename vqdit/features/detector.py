"""A small convolutional detector of boxes, in a picture or in each frame of a clip."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from vqdit.shapes import Array, Float


class Detector(nn.Module):
    """Convolutions of stride 2 for each signal, then dense layers for all together.

    Signals by name -> logits (b, *frames, count, classes + 1), the last of "no box",
    and edges (b, *frames, count, 4) in [0, 1], as x0, y0, x1, y1. A signal is a picture
    (b, h, w, c), a row of numbers (b, d), or, where there are frames, a clip
    (b, frames, h, w, c), each frame of which goes through the same convolutions and
    then sees those beside it.

    count, classes, frames: of the boxes; frames 0 where they are of a whole example.
    widths: of the convolutions, by name; () of rows.
    """

    count: int
    classes: int
    widths: tuple[tuple[str, tuple[int, ...]], ...]
    frames: int = 0
    dim: int = 256

    @nn.compact
    def __call__(
        self, signals: Mapping[str, Array]
    ) -> tuple[Float[Array, "b *frames k y"], Float[Array, "b *frames k 4"]]:
        conv = functools.partial(nn.Conv, precision="highest")
        dense = functools.partial(nn.Dense, precision="highest")
        found = []
        for name, widths in self.widths:
            x = signals[name]
            lead = x.shape[:2] if x.ndim == 5 else x.shape[:1]
            x = x.reshape(-1, *x.shape[len(lead) :])
            for i, width in enumerate(widths):
                side = 5 if i == 0 else 3
                layer = conv(width, (side, side), (2, 2), name=f"{name}_conv_{i}")
                x = nn.gelu(layer(x))
            x = nn.gelu(dense(self.dim, name=f"{name}_features")(x.reshape(len(x), -1)))
            x = x.reshape(*lead, -1)
            if len(lead) == 2:
                x = x + nn.gelu(conv(self.dim, (3,), name=f"{name}_beside")(x))
            elif self.frames:
                x = jnp.repeat(x[:, None], self.frames, 1)
            found.append(x)
        x = nn.gelu(dense(self.dim, name="together")(jnp.concatenate(found, -1)))
        out = dense(self.count * (self.classes + 5), name="boxes")(x)
        out = out.reshape(*x.shape[:-1], self.count, -1)
        logits, box = jnp.split(out, [self.classes + 1], -1)
        center, half = jnp.split(nn.sigmoid(box), 2, -1)
        ends = (center - half / 2, center + half / 2)
        return logits, jnp.clip(jnp.concatenate(ends, -1), 0, 1)
