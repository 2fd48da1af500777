"""Moving MNIST frame by frame: 17x4x4 codes out of 1,024, 2,720 bits a clip of 17.

python -m train.stage_one --config=configs/moving_mnist_frames.py \\
    --workdir=runs/moving_frames \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

An image tokenizer on every frame: what configs/moving_mnist_video.py (2,720 bits) has
to be better than and, as the `clip` variant of 16 frames and 2,560 bits, what
configs/moving_mnist_clip.py has. One CPU core: 7 minutes. Expected, as measured once:
18.2 dB.
"""

import dataclasses

from train.config import Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import FSQ
from vqdit.tokenizer import ConvDecoder, ConvEncoder, PerFrame, Tokenizer

SHAPE = {
    "channels": 32,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "mid_attention": False,
    "patch": 4,
}

CONFIG = StageOne(
    name="moving_mnist_frames",
    data=Video(name="moving_mnist", frames=17, size=64),
    model=Tokenizer(
        encoder=PerFrame(ConvEncoder(**SHAPE, out=64)),
        decoder=PerFrame(ConvDecoder(**SHAPE, out=1)),
        quantizer=FSQ(levels=(8, 8, 4, 4)),
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=700, batch=8, save_every=350),
)

VARIANTS = {
    "clip": dataclasses.replace(
        CONFIG, data=dataclasses.replace(CONFIG.data, frames=16)
    ),
}
