"""64-pixel emoji as a codec: 8x8 sites of one to six books of 8 bits.

python -m train.stage_one --config=configs/emoji_residual.py \\
    --workdir=runs/emoji_residual \\
    --config.data.data_dir=DIR        # a TFDS data_dir with noto_emoji prepared
python -m train.rates --workdir=runs/emoji_residual

Training rebuilds half of the pictures from a prefix of the books, so that every rate
decodes. Expected: 22.8 dB at 1,168 bits and 23.6 dB at 1,581, above JPEG and WebP by
more than one; RESULTS.md has all rates.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import Tokenizer, ViTDecoder, ViTEncoder

SHAPE = {"patch": 8, "width": 128, "depth": 4, "heads": 4}

CONFIG = StageOne(
    name="emoji_residual",
    data=Images(name="noto_emoji", size=64, channels=3, flip=True, threads=1),
    model=Tokenizer(
        encoder=ViTEncoder(**SHAPE, out=128),
        decoder=ViTDecoder(**SHAPE, out=3),
        quantizer=ResidualQuantizer(
            EMAVectorQuantizer(256, dim=16, decay=0.98, start="kmeans"),
            count=6,
            dropout=0.5,
        ),
    ),
    losses=Weights(pixel="l2", commit=0.25),
    kmeans=KMeansInit(step=200, samples=32_768, iterations=15),
    optimizer=Optimizer(peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.99),
    run=Run(steps=3000, batch=64, save_every=500),
)
