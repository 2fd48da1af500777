"""A folder of pictures of one's own, at 64 pixels: 8x8 codes out of 1,000.

python -m train.stage_one --config=configs/own_pictures.py \\
    --config.data.data_dir=photos --workdir=runs/pictures

Classes are sub-folders, a fifth is held out by a hash of each file's name, and a
picture's shorter side becomes 64 pixels. No network is needed, and no k-means, so a
hundred pictures are enough to see it work. For larger ones --config.data.size=128, and
more steps. Expected score: that of the pictures; none was measured.
"""

from train.config import Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import FSQ
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {"channels": 64, "multipliers": (1, 2), "blocks": 2, "patch": 4, "groups": 16}

CONFIG = StageOne(
    name="own_pictures",
    data=Images(name="folder", size=64, channels=3, flip=True),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=96),
        decoder=ConvDecoder(**SHAPE, out=3),
        quantizer=FSQ(levels=(8, 5, 5, 5)),
    ),
    losses=Weights(pixel="l1"),
    optimizer=Optimizer(peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.99),
    run=Run(steps=3000, batch=32),
)
