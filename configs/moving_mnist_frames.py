"""Moving MNIST frame by frame: 17x4x4 codes out of 1,024, 2,720 bits a clip of 17.

python -m train.stage_one --config=configs/moving_mnist_frames.py \\
    --workdir=runs/moving_frames \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

An image tokenizer on every frame, 160 bits each: what configs/moving_mnist_video.py and
configs/moving_mnist_clip.py have to be better than.

One CPU core: 17 minutes. Expected: RESULTS.md has the table.
"""

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
    run=Run(steps=2000, batch=8, save_every=500),
)

VARIANTS = {}
