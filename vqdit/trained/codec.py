"""A trained tokenizer in use: signals to codes and latents, and back, jitted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, Shaped

from vqdit.quantizers import Quantized
from vqdit.signal import to_signal
from vqdit.tokenizer import Tokenizer, decode_chunks, encode_chunks
from vqdit.trained.contract import LatentContract


class Codec:
    """A tokenizer with its variables and latent contract.

    module, variables, contract: as stored in the bundle.
    """

    def __init__(self, module: Tokenizer, variables: dict, contract: LatentContract):
        self.module, self.contract = module, contract
        self.variables = jax.tree.map(jnp.asarray, variables)

    def from_raw(self, raw: Num[Array | np.ndarray, "*b c"]) -> Float[Array, "*b c"]:
        """Raw values in their own unit -> the signal that `encode` takes.

        Without a normalisation uint8 means pixels, and floats are the signal already.
        What is not finite stays so: clean it first.
        """
        if not self.contract.scale:
            return to_signal(raw)
        offset, scale = self._affine()
        return (jnp.asarray(raw, jnp.float32) - offset) / scale

    def to_raw(self, x: Float[Array | np.ndarray, "*b c"]) -> Float[Array, "*b c"]:
        """The inverse of `from_raw`, as floats."""
        if not self.contract.scale:
            return jnp.asarray(x)
        offset, scale = self._affine()
        return jnp.asarray(x) * scale + offset

    def _affine(self):
        return (
            np.asarray(self.contract.offset, np.float32),
            np.asarray(self.contract.scale, np.float32),
        )

    def encode(self, x: Float[Array | np.ndarray, "b *shape c"]) -> Quantized:
        """x in [-1, 1] -> quantized latents (b, *grid, d) and codes (b, *grid, m)."""
        return self._run("quantized", self._checked(x))

    def latents(
        self, x: Float[Array | np.ndarray, "b *shape c"]
    ) -> Float[Array, "b *grid d"]:
        """What a continuous stream models: (z - mean) / std, z before quantization."""
        return self._run("latents", self._checked(x))

    def decode(
        self, q: Shaped[Array | np.ndarray, "b *grid d"]
    ) -> Float[Array, "b *shape c"]:
        """Codes (integers) or quantized latents (floats) -> the signal."""
        return self._run("decode", jnp.asarray(self._decodable(q)))

    def encode_long(
        self, x: Float[Array | np.ndarray, "b l *rest"], chunk: int
    ) -> Quantized:
        """`encode` of audio or video of any length, `chunk` samples or frames a time.

        NumPy arrays, equal to `encode` of the whole to rounding. A length that does not
        fit is padded at the end, audio by zeros, video by its last frame. Raises
        ValueError for a tokenizer whose latents depend on the whole signal.
        """
        if x.shape[2:] != self.contract.shape[1:] or not x.shape[1]:
            shape = ", ".join(map(str, self.contract.shape[1:]))
            raise ValueError(
                f"this tokenizer takes (b, any length, {shape}); got {x.shape}"
            )
        return encode_chunks(self.module, self.variables, _floats(x), chunk)

    def decode_long(
        self,
        q: Shaped[Array | np.ndarray, "b n *rest"],
        chunk: int,
        length: int | None = None,
    ) -> Float[np.ndarray, "b l *rest2"]:
        """`decode` for `encode_long`: to a NumPy array, cropped to `length`."""
        q = self._decodable(q)
        x = decode_chunks(self.module, self.variables, q, chunk, length)
        return x.clip(*_limits(self.contract))

    def decode_latents(self, z: Float[Array | np.ndarray, "b *grid d"]) -> Array:
        """The inverse of `latents`: restores the scale and quantizes before decoding.

        As in latent diffusion (arXiv:2112.10752) the quantizer belongs to the decoder,
        so what is decoded always lies on the codebook.
        """
        return self._run("decode_latents", jnp.asarray(z))

    def _checked(self, x):
        x = jnp.asarray(x)
        if x.shape[1:] != self.contract.shape:
            raise ValueError(
                f"this tokenizer takes (b, {', '.join(map(str, self.contract.shape))})"
                f" in [-1, 1]; got {x.shape}"
            )
        return _floats(x)

    def _decodable(self, q):
        if jnp.issubdtype(q.dtype, jnp.integer) and not self.contract.codes:
            raise ValueError("this tokenizer is continuous: decode latents, not codes")
        return q

    def _run(self, name, x):
        return _jitted(self.module, self.contract, name)(self.variables, x)

    def apply(self, name: str, variables: dict, x: Array):
        """One of the functions above on given variables, for use inside a jit."""
        return _function(self.module, self.contract, name)(variables, x)


def _floats(x):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"this tokenizer takes floats in [-1, 1]; got {x.dtype}: for uint8 "
            f"write x / 127.5 - 1"
        )
    return x


def _limits(contract):
    """A signal in units of its spread has no bounds to keep to."""
    return (None, None) if contract.scale else (-1, 1)


@functools.lru_cache(maxsize=64)
def _jitted(module, contract, name):
    return jax.jit(_function(module, contract, name))


def _function(module, contract, name):
    mean = np.asarray(contract.mean, np.float32)
    std = np.asarray(contract.std, np.float32)

    def quantized(variables, x):
        return module.apply(variables, x, method=lambda m, x: m.quantize(m.encode(x)))

    def latents(variables, x):
        return (module.apply(variables, x, method="latents") - mean) / std

    limits = _limits(contract)

    def decode(variables, q):
        return module.apply(variables, q, method="decode").clip(*limits)

    def decode_latents(variables, z):
        def run(m, z):
            if m.quantizer is not None:
                z = m.quantizer(z).latents
            return m.decode(z)

        return module.apply(variables, z * std + mean, method=run).clip(*limits)

    functions = {
        "quantized": quantized,
        "latents": latents,
        "decode": decode,
        "decode_latents": decode_latents,
    }
    return functions[name]
