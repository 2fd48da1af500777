"""A digit that acts, 1 + 8 frames of 32 px, to 5x4x4 codes of 18.6 bits: 1,486 a clip.

python -m train.stage_one --config=configs/moving_digits_video.py \\
    --workdir=runs/moving_tok

The causal tokenizer behind configs/moving_digits.py: two frames and 8x8 pixels a
latent, of eight channels that are rounded to five levels each.

One CPU core: 15 minutes. Expected: RESULTS.md, section moving digits.
"""

from train.config import Optimizer, Run, StageOne, Weights
from train.modalities import Video
from vqdit.quantizers import FSQ
from vqdit.tokenizer import CausalDecoder, CausalEncoder, Tokenizer

SHAPE = {
    "channels": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "mid_attention": False,
    "strides": ((2, 2, 2),),
    "patch": 4,
}

CONFIG = StageOne(
    name="moving_digits_video",
    data=Video(name="moving_actions", frames=9, size=32, digits=1, examples=20_000),
    model=Tokenizer(
        encoder=CausalEncoder(**SHAPE, temporal=(False, True), out=64),
        decoder=CausalDecoder(**SHAPE, temporal=(False, True), out=1),
        quantizer=FSQ(levels=(5,) * 8),
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(
        peak_lr=2e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.995
    ),
    run=Run(steps=2400, batch=16, save_every=800),
)

VARIANTS = {"more_channels": {"model.quantizer.levels": (5,) * 9}}
