"""Moving MNIST, 16 frames of 64 px, to 4x4x4 sites of 40 bits: 2,560 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_clip.py \\
    --workdir=runs/moving_clip \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

3-D convolutions that see both ways in time, for clips of one length; the `clip` variant
of configs/moving_mnist_frames.py spends as many bits frame by frame. Expected: not
measured yet.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {
    "channels": 32,
    "multipliers": (1, 2, 4),
    "blocks": 1,
    "mid_attention": False,
    "dims": 3,
    "strides": ((1, 2, 2), (1, 2, 2)),
    "patch": 4,
}

CONFIG = StageOne(
    name="moving_mnist_clip",
    data=Video(name="moving_mnist", frames=16, size=64),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=64),
        decoder=ConvDecoder(**SHAPE, out=1),
        quantizer=ResidualQuantizer(
            EMAVectorQuantizer(1024, dim=16, decay=0.98, start="kmeans"), count=4
        ),
    ),
    losses=Weights(pixel="l2", commit=0.25),
    kmeans=KMeansInit(step=150, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=1400, batch=4, save_every=700),
)
