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
    Of attention, (b, n, h, k) are h heads of k channels.

Signals are in [-1, 1]; logits are raw; guidance scale 1 means none.

Read in this order: tokenizer/tokenizer.py, quantizers/vq.py, diffusion/process.py,
diffusion/gaussian.py, nn/block.py, dit.py, diffusion/sampling.py, trained/codec.py,
trained/generator.py.

What stands in a room's `__all__` is public. Its classes are also names here, and it is
under these that bundles store them: `vqdit.ConvEncoder`.
"""

import importlib

__version__ = "0.1.0"

# Imported when a name of theirs is first asked for, so that `import vqdit` stays quick.
_ROOMS = (
    "signal",
    "nn",
    "quantizers",
    "tokenizer",
    "losses",
    "features",
    "diffusion",
    "metrics",
    "dit",
    "trained",
)
__all__ = ["trained", "tokenizer", "quantizers", "dit", "nn"]
__all__ += ["diffusion", "losses", "metrics", "features", "signal", "fields"]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"vqdit.{name}")
    if name in ("load", "save"):
        return getattr(__getattr__("trained"), name)
    if name[:1].isupper():
        for room in _ROOMS:
            if found := _classes(room).get(name):
                return found
    raise AttributeError(f"vqdit has no {name!r}; it has {__dir__()}")


def __dir__():
    return sorted({*__all__, "load", "save"}.union(*map(_classes, _ROOMS)))


def _classes(room):
    """A room's public classes, by name."""
    module = importlib.import_module(f"vqdit.{room}")
    public = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in public.items() if isinstance(value, type)}
