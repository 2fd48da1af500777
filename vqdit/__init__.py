"""vqdit: tokenizers for any signal, and diffusion transformers over their tokens.

    tok = vqdit.load("runs/tok")                     # a workdir or a bundle folder
    codes = tok.encode(x).codes                      # x (b, h, w, c) in [-1, 1]
    x_hat = tok.decode(codes)
    draw = vqdit.load("runs/dit").sampler(steps=50, guidance=4.0)
    images = draw(jax.random.key(0), jnp.arange(16), label=jnp.full(16, 3))["image"]

The legend of letters, the same in every file:

    x data    x_t corrupted    eps noise    z continuous latent    q quantized latent
    codes integers    e codewords    c conditioning vector    y label
    t time, t = 0 data and t = 1 noise    s the earlier time of a step

    axes: b batch, n tokens, d width, c channels, h w height width, f frames,
    l samples of audio, k codewords, m codebooks, *b any leading axes. Channels last.

Signals are in [-1, 1]; logits are raw; guidance scale 1 means none.
"""

import importlib

__version__ = "0.1.0"

# Name -> module. Imported when first asked for, so that `import vqdit` stays quick.
_HOMES = {
    "load": "vqdit.bundle",
    "save": "vqdit.bundle",
    "Codec": "vqdit.codec",
    "LatentContract": "vqdit.codec",
    "Generator": "vqdit.generator",
    "Judge": "vqdit.judge",
    "DiT": "vqdit.dit",
    "Continuous": "vqdit.nn",
    "Discrete": "vqdit.nn",
    "Tokenizer": "vqdit.tokenizer",
    "ConvEncoder": "vqdit.tokenizer",
    "ConvDecoder": "vqdit.tokenizer",
    "LogMel": "vqdit.tokenizer",
    "CausalEncoder": "vqdit.tokenizer",
    "CausalDecoder": "vqdit.tokenizer",
    "ViTEncoder": "vqdit.tokenizer",
    "ViTDecoder": "vqdit.tokenizer",
    "TiTokEncoder": "vqdit.tokenizer",
    "TiTokDecoder": "vqdit.tokenizer",
    "PerFrame": "vqdit.tokenizer",
    "Bytes": "vqdit.tokenizer",
    "BPE": "vqdit.tokenizer",
    "Boxes": "vqdit.tokenizer",
    "Labels": "vqdit.tokenizer",
    "VocosDecoder": "vqdit.tokenizer",
    "VocosEncoder": "vqdit.tokenizer",
    "WaveDecoder": "vqdit.tokenizer",
    "WaveEncoder": "vqdit.tokenizer",
    "Quantized": "vqdit.quantizers",
    "VectorQuantizer": "vqdit.quantizers",
    "EMAVectorQuantizer": "vqdit.quantizers",
    "FSQ": "vqdit.quantizers",
    "Gaussian": "vqdit.diffusion",
    "Masking": "vqdit.diffusion",
}
_ROOMS = ("diffusion", "metrics", "nn", "quantizers", "tokenizer")

__all__ = sorted(_HOMES) + list(_ROOMS)


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"vqdit.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"vqdit has no {name!r}; it has {__all__}")


def __dir__():
    return __all__
