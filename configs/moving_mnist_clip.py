"""Moving MNIST, 16 frames of 64 px, to 8x4x4 sites of 20 bits: 2,560 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_clip.py \\
    --workdir=runs/moving_clip \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

Transformers over cubes of 2 frames by 16 by 16 pixels, for clips of one length. Every
clip costs what configs/moving_mnist_frames.py spends on 16 frames.

One CPU core: 17 minutes. Expected: RESULTS.md has the table.
"""

from train.config import Optimizer, Run, StageOne, Weights
from train.data import Video
from vqdit.quantizers import FSQ, GroupedQuantizer
from vqdit.tokenizer import Tokenizer, ViTDecoder, ViTEncoder

SHAPE = {"patch": (2, 16, 16), "width": 192, "depth": 4, "heads": 6}

CONFIG = StageOne(
    name="moving_mnist_clip",
    data=Video(name="moving_mnist", frames=16, size=64),
    model=Tokenizer(
        encoder=ViTEncoder(**SHAPE, out=64),
        decoder=ViTDecoder(**SHAPE, out=1),
        quantizer=GroupedQuantizer(FSQ(levels=(8, 8, 4, 4)), count=2),
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.99),
    run=Run(steps=7000, batch=4, save_every=1000),
)

VARIANTS = {}
