"""Moving MNIST, 16 frames of 64 px, to 2x8x8 sites of 20 bits: 2,560 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_clip.py \\
    --workdir=runs/moving_clip \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

Transformers over cubes of 8 frames by 8 by 8 pixels, for clips of one length; the
`clip` variant of configs/moving_mnist_frames.py spends as many bits frame by frame.

One CPU core: 7 minutes. Expected, as measured once: 17.7 dB, short of the 18.2 dB of
frame by frame.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import Tokenizer, ViTDecoder, ViTEncoder

SHAPE = {"patch": 8, "width": 192, "depth": 4, "heads": 6}

CONFIG = StageOne(
    name="moving_mnist_clip",
    data=Video(name="moving_mnist", frames=16, size=64),
    model=Tokenizer(
        encoder=ViTEncoder(**SHAPE, out=64),
        decoder=ViTDecoder(**SHAPE, out=1),
        quantizer=ResidualQuantizer(
            EMAVectorQuantizer(1024, dim=16, decay=0.98, start="kmeans"), count=2
        ),
    ),
    losses=Weights(pixel="l2", commit=0.25),
    kmeans=KMeansInit(step=300, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.99),
    run=Run(steps=2000, batch=4, save_every=1000),
)
