"""Moving MNIST, 1 + 16 frames of 64 px, to 5x8x8 codes out of 360: 2,717 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_video.py \\
    --workdir=runs/moving_video \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

A causal tokenizer: the first frame is an image, every four after it are one latent.
configs/moving_mnist_frames.py spends as many bits frame by frame; it is what this has
to be better than. Expected: not measured yet.
"""

import dataclasses

from train.config import Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import FSQ, EMAVectorQuantizer
from vqdit.tokenizer import CausalDecoder, CausalEncoder, Tokenizer

SHAPE = {
    "channels": 16,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "strides": ((2, 2, 2), (2, 1, 1)),
    "patch": 4,
}

CONFIG = StageOne(
    name="moving_mnist_video",
    data=Video(name="moving_mnist", frames=17, size=64),
    model=Tokenizer(
        encoder=CausalEncoder(**SHAPE, out=64),
        decoder=CausalDecoder(**SHAPE, out=1),
        quantizer=FSQ(levels=(9, 8, 5)),
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=700, batch=8, save_every=350),
)

VARIANTS = {
    "vq": dataclasses.replace(
        CONFIG,
        model=CONFIG.model.clone(quantizer=EMAVectorQuantizer(num_codes=360, dim=4)),
    ),
}
