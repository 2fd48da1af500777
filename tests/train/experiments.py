"""Small whole experiments for the tests of what is around training."""

from train.config import KMeansInit, Run, StageOne, StageTwo, Stream
from vqdit.diffusion import Gaussian, Masking
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.quantizers import VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SMALL = {"channels": 32, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}

TOKENIZER = StageOne(
    name="tokenizer",
    run=Run(steps=1000, batch=16),
    model=Tokenizer(
        ConvEncoder(**SMALL, out=8),
        ConvDecoder(**SMALL, out=1),
        VectorQuantizer(num_codes=16, dim=4, start="kmeans"),
    ),
    kmeans=KMeansInit(),
)

JOINT = StageTwo(
    name="joint",
    run=Run(steps=1000, batch=16),
    model=DiT(width=32, depth=2, block=Block(4), classes=10),
    streams={
        "image": Stream(Gaussian(), "runs/image", patch=2, shape=(4, 4, 4)),
        "text": Stream(Masking(), "runs/text", shape=(6, 1), codes=32),
    },
)


def of_values(name, data, values) -> StageTwo:
    """Of streams that are born discrete, as `tests.toys.generator` has its model."""
    return StageTwo(
        name=name,
        data=data,
        model=DiT(width=16, depth=1, block=Block(2)),
        streams={n: Stream(Masking(), tokenizer=v) for n, v in values.items()},
        run=Run(steps=1, batch=2),
    )
