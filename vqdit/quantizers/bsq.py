"""Binary spherical quantization (arXiv:2406.07548, section 4)."""

import jax.numpy as jnp

from vqdit.quantizers.bits import Bits
from vqdit.quantizers.quantized import unit
from vqdit.shapes import Array, Float


class BSQ(Bits):
    """u = z / |z|, and the code is u's signs: the corner sign(u) / sqrt(bits) (eq. 7).

    Corners lie on the sphere too, so the error is bounded: |u - q|^2 = 2 - 2 |u|_1 /
    sqrt(bits), below 2 - 2 / sqrt(bits) (eq. 10). The gradient passes through the
    normalisation.

    entropy:     the loss "entropy" of eq. 9: entropy of a code minus that of the mean.
    temperature: of p(code | u) = softmax(-bits |u - q|^2 / temperature), that is in
        units of a bit's own size; the paper's tau is 2 bits / temperature.
    group:       beyond this many bits the second entropy is a sum over groups of bits
        (eq. 12).
    """

    @property
    def size(self) -> float:
        return self.bits**-0.5

    def project(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        return unit(z.astype(jnp.float32))
