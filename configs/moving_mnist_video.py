"""Moving MNIST, 1 + 16 frames of 64 px, to 5x4x4 sites of 34 bits: 2,720 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_video.py \\
    --workdir=runs/moving_video \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

A causal tokenizer: the first frame is an image, every four after it are one latent, in
four residual books, since most of a clip is black and a finer grid would spend its bits
on that.
configs/moving_mnist_frames.py spends as many bits frame by frame; it is what this has
to be better than, and in minutes on a CPU was not: a step takes 0.55 s on one core.
Expected: not measured to the end.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import CausalDecoder, CausalEncoder, Tokenizer

SHAPE = {
    "channels": 16,
    "multipliers": (1, 4, 8),
    "blocks": 1,
    "strides": ((2, 2, 2), (2, 2, 2)),
    "patch": 4,
}

CONFIG = StageOne(
    name="moving_mnist_video",
    data=Video(name="moving_mnist", frames=17, size=64),
    model=Tokenizer(
        encoder=CausalEncoder(**SHAPE, out=64),
        decoder=CausalDecoder(**SHAPE, out=1),
        quantizer=ResidualQuantizer(
            EMAVectorQuantizer(362, dim=16, decay=0.98, start="kmeans"), count=4
        ),
    ),
    losses=Weights(pixel="l2", commit=0.25),
    kmeans=KMeansInit(step=150, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=1400, batch=4, save_every=700),
)

VARIANTS = {}
