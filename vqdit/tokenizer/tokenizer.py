"""Encoder, quantizer and decoder behind one interface, for 1-, 2- and 3-D signals."""

from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.fields import Checked, Count
from vqdit.quantizers import Quantized
from vqdit.shapes import Array, Float, Int, Key, Shaped


class Tokenizer(Checked, nn.Module):
    """x (b, *shape, c) in [-1, 1] <-> latents (b, *grid, d) <-> codes (b, *grid, m).

    quantizer:   None gives a continuous autoencoder of `dim` channels.
    dim:         needed, and only allowed, without a quantizer, which brings its own.
    variational: without a quantizer: a diagonal Gaussian posterior, sampled in training
        and its mean taken otherwise, with the loss "kl" (arXiv:2112.10752).
    into, back:  channels of the 1x1 convolutions into and out of the quantizer, VQGAN's
        quant_conv and post_quant_conv; None for none, as in EnCodec. `into` gives what
        the quantizer takes, "quantizer"; `back` as many as the encoder ends in,
        "encoder", or a number: in Stable Diffusion's VAE half of that, the mean's.
    front:       a fixed transform that the encoder sees the signal through, such as a
        log-mel spectrogram: `front(x) -> features`, `front.invert(features) -> x`.
        Training compares `features(x)` with what `rebuild` returns.
    """

    encoder: nn.Module
    decoder: nn.Module
    quantizer: nn.Module | None = None
    dim: Count | None = None
    variational: bool = False
    front: nn.Module | None = None
    into: Count | Literal["quantizer"] | None = "quantizer"
    back: Count | Literal["encoder"] | None = "encoder"

    def __post_init__(self):
        super().__post_init__()
        if self.quantizer is None:
            self.check("dim", self.dim, "write its channels, or a quantizer")
        else:
            advice = "the quantizer brings its own: leave it out"
            self.check("dim", self.dim is None, advice)
            self.check("variational", not self.variational, "it is for quantizer=None")
        if self.encoder.factor != self.decoder.factor:
            raise ValueError(
                f"the encoder shrinks by {self.encoder.factor}, the decoder grows by "
                f"{self.decoder.factor}; give both the same patch or hop, and the same "
                f"number of multipliers and strides"
            )
        if self.encoder.causal != self.decoder.causal:
            raise ValueError(
                "an encoder or a decoder with causal=True and the other without: write "
                "it in both"
            )
        taken, given = self._moments * self.latent_dim, self.encoder.out
        fits = self.into == "quantizer" or (self.into or given) == taken
        advice = f"gives the quantizer {self.into or given} channels, and it takes "
        self.check("into", fits, f'{advice}{taken}; write into="quantizer"')

    @property
    def _moments(self):
        return 2 if self.variational else 1

    @property
    def latent_dim(self) -> int:
        """Channels of a latent."""
        if self.quantizer is None:
            return cast(int, self.dim)  # without a quantizer it is there
        return self.quantizer.dim

    @property
    def factor(self) -> tuple[int, ...]:
        """Signal side over grid side, an axis each."""
        return self.encoder.factor

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of a signal of this shape, channels left out.

        Raises ValueError, saying which sizes fit, for a shape that has none.
        """
        if self.front is not None:
            shape = self.front.grid(shape)
        return self.encoder.grid(shape)

    def setup(self):
        if self.into is not None:
            # float32 to the last bit: a rounded latent can have another code.
            self.project = nn.Dense(
                self._moments * self.latent_dim, precision="highest", name="into"
            )
        if self.back is not None:
            width = self.encoder.out if self.back == "encoder" else self.back
            dtype = self.encoder.dtype
            self.project_back = nn.Dense(width, dtype=dtype, name="out_of")

    def encode(self, x: Float[Array, "b *shape c"]) -> Float[Array, "b *grid d"]:
        """The latent before quantization, float32.

        Variational: (b, *grid, 2 d), mean and log variance.
        """
        z = self.encoder(self.features(x)).astype(jnp.float32)
        return z if self.into is None else self.project(z)

    def features(self, x: Float[Array, "b *shape c"]) -> Float[Array, "b *shape2 c2"]:
        """What the encoder sees and training compares; x itself without a front."""
        return x if self.front is None else self.front(x)

    def quantize(
        self,
        z: Float[Array, "b *grid d"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> Quantized:
        """What the decoder is fed, with losses and metrics. Raises ValueError where it
        is drawn in training, and there is no key."""
        if self.quantizer is not None:
            return self.quantizer(z, train=train, key=key)
        if not self.variational:
            return Quantized(z, None, {}, {})
        mean, log_variance = jnp.split(z, 2, axis=-1)
        log_variance = jnp.clip(log_variance, -30.0, 20.0)
        latents = mean
        if train:
            if key is None:
                raise ValueError("a variational tokenizer samples: pass key=")
            eps = jax.random.normal(key, mean.shape)
            latents = mean + jnp.exp(0.5 * log_variance) * eps
        kl = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
        # Summed over an example's latents, as in the latent-diffusion recipe.
        kl = kl.sum(axis=tuple(range(1, kl.ndim))).mean()
        return Quantized(latents, None, {"kl": kl}, {})

    def latents(self, x: Float[Array, "b *shape c"]) -> Float[Array, "b *grid d"]:
        """What a continuous stream models: z before quantization, or its mean."""
        z = self.encode(x)
        return jnp.split(z, 2, axis=-1)[0] if self.variational else z

    def decode(self, q: Shaped[Array, "b *grid d"]) -> Float[Array, "b *shape c"]:
        """Codes (integers, (b, *grid, m)) or quantized latents (floats) -> signal."""
        x = self.rebuild(q)
        return x if self.front is None else self.front.invert(x)

    def rebuild(self, q: Shaped[Array, "b *grid d"]) -> Float[Array, "b *shape2 c2"]:
        """The features that codes or quantized latents stand for."""
        if jnp.issubdtype(q.dtype, jnp.integer):
            q = self.decode_codes(q)
        return self.decoder(q if self.back is None else self.project_back(q))

    def decode_codes(
        self, codes: Int[Array, "b *codes m"]
    ) -> Float[Array, "b *grid d"]:
        """Codes -> latents. Raises ValueError on a continuous tokenizer."""
        if self.quantizer is None:
            raise ValueError("this tokenizer is continuous: it has no codes")
        return self.quantizer.decode(codes)

    def __call__(
        self,
        x: Float[Array, "b *shape c"],
        *,
        train: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b *shape2 c2"], Quantized]:
        """(reconstruction of `features(x)`, quantized)."""
        quantized = self.quantize(self.encode(x), train=train, key=key)
        return self.rebuild(quantized.latents), quantized
