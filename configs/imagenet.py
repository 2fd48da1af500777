"""Data and tokenizers of the published ImageNet experiments, each in a file of its own.

Sizes and recipes are those of the papers; every file says where it departs from them.
"""

import dataclasses

from train.modalities import Images
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

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


F16 = (1, 1, 2, 2, 4)
