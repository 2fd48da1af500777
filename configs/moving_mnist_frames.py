"""Moving MNIST frame by frame: 17x4x4 codes out of 1,024, 2,720 bits a clip of 17.

python -m train.stage_one --config=configs/moving_mnist_frames.py \\
    --workdir=runs/moving_frames \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

An image tokenizer on every frame, 160 bits each: where configs/moving_mnist_video.py
starts, and what it has to be better than.

One CPU core: 11 minutes. Expected: RESULTS.md has the table.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Video
from vqdit.quantizers import EMAVectorQuantizer
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
        quantizer=EMAVectorQuantizer(1024, dim=8, decay=0.98, start="kmeans"),
    ),
    losses=Weights(pixel="l2"),
    kmeans=KMeansInit(step=150, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=2400, batch=4, save_every=1200),
)
