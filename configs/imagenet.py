"""What the published ImageNet experiments share; each has its own file beside this one.

Sizes and recipes are those of the papers; every file says where it departs from them.
"""

import dataclasses

from train.config import Optimizer, Run, StageTwo, Stream
from train.modalities import Images
from vqdit.diffusion import DDPMLinear, Gaussian, Process
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

# Width, depth and heads (arXiv:2212.09748, table 1).
SIZES = {
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "xl": (1152, 28, 16),
}
# ADM's centre crop and a flip, and nothing else.
CENTRE = Images(
    name="imagenet2012",
    size=256,
    channels=3,
    crop="center",
    flip=True,
    test_split="validation",
)
RANDOM = dataclasses.replace(CENTRE, crop="random")


def transformer(name: str, size: str, patch: int, process: Process) -> StageTwo:
    """A DiT of the given size on 32x32x4 latents, as DiT and SiT are both trained."""
    width, depth, heads = SIZES[size]
    return StageTwo(
        name=name,
        data=CENTRE,
        model=DiT(
            width=width,
            depth=depth,
            block=Block(heads),
            classes=1000,
            dtype="bfloat16",
            remat="whole",
            scan=True,
        ),
        streams={"image": Stream(process, patch=patch, shape=(32, 32, 4))},
        optimizer=Optimizer(peak_lr=1e-4, clip=None, ema=0.9999),
        run=Run(
            steps=400_000,
            batch=256,
            log_every=100,
            save_every=10_000,
            sample_every=50_000,
        ),
    )


def dit(size: str, patch: int) -> StageTwo:
    """DiT as published: noise prediction and a learned variance, DDPM's schedule."""
    process = Gaussian(DDPMLinear(), target="noise", learned_variance=True)
    return transformer(f"dit_{size}_{patch}", size, patch, process)


def tokenizer(
    multipliers: tuple[int, ...],
    quantizer: VectorQuantizer | EMAVectorQuantizer | FSQ | None,
    out: int = 256,
    attention: bool = True,
    dtype: str = "float32",
    **continuous,
) -> Tokenizer:
    """VQGAN's encoder and decoder: 128 channels, two blocks a level.

    out: channels of the encoder's last convolution (z_channels).
    attention: at the coarsest level, besides the one in the middle.
    continuous: the tokenizer's `dim`, `variational` and `back` where it has no
        quantizer.
    """
    shape = {
        "channels": 128,
        "groups": 32,
        "multipliers": multipliers,
        "attention": (*(False,) * (len(multipliers) - 1), attention),
        "dtype": dtype,
    }
    return Tokenizer(
        ConvEncoder(**shape, out=out),
        ConvDecoder(**shape, out=3),
        quantizer,
        **continuous,
    )


F8 = (1, 2, 2, 4)
F16 = (1, 1, 2, 2, 4)
