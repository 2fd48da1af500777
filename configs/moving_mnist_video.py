"""Moving MNIST, 1 + 16 frames of 64 px, to 9x4x4 sites of 18.8 bits: 2,705 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_video.py \\
    --workdir=runs/moving_video \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

A causal tokenizer: the first frame is an image, every two after it are one latent, and
none is seen by what comes before it. configs/moving_mnist_frames.py spends 15 bits more
frame by frame; `frames` is the same network without time.

One CPU core: 17 minutes. Expected: RESULTS.md has the table.
"""

import dataclasses

from train.config import Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import FSQ, GroupedQuantizer
from vqdit.tokenizer import PerFrame, Tokenizer, ViTDecoder, ViTEncoder

SHAPE = {"width": 192, "depth": 4, "heads": 6}
CAUSAL = SHAPE | {"patch": (2, 16, 16), "causal": True}
PICTURE = SHAPE | {"patch": 16}

CONFIG = StageOne(
    name="moving_mnist_video",
    data=Video(name="moving_mnist", frames=17, size=64),
    model=Tokenizer(
        encoder=ViTEncoder(**CAUSAL, out=64),
        decoder=ViTDecoder(**CAUSAL, out=1),
        quantizer=GroupedQuantizer(FSQ(levels=(8, 7, 4, 3)), count=2),
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.99),
    run=Run(steps=6000, batch=4, save_every=1000),
)

VARIANTS = {
    "frames": dataclasses.replace(
        CONFIG,
        model=Tokenizer(
            encoder=PerFrame(ViTEncoder(**PICTURE, out=64)),
            decoder=PerFrame(ViTDecoder(**PICTURE, out=1)),
            quantizer=FSQ(levels=(8, 8, 4, 4)),
        ),
    ),
}
