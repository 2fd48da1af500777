"""What a camera sees of a street, 32x32 pixels, to 8x8 tokens of two codes of 9 bits.

python -m train.stage_one --config=configs/driving_camera.py --workdir=runs/camera

One of three tokenizers of configs/driving.py; see train/sources/generated/driving.py.
One CPU core: ten minutes. Expected: RESULTS.md, section Driving.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

BOOK = EMAVectorQuantizer(512, dim=8, decay=0.97, start="kmeans")
SHAPE = {"widths": (96,), "patch": 4, "blocks": 1, "mid_attention": False}

CONFIG = StageOne(
    name="driving_camera",
    data=Images(name="driving", size=32, channels=3, examples=16_384, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=64),
        decoder=ConvDecoder(**SHAPE, out=3),
        quantizer=ResidualQuantizer(BOOK, 2),
    ),
    losses=Weights(pixel="l2", quantizer={"commit": 0.25}),
    kmeans=KMeansInit(step=200, samples=16_384),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=1600, batch=32, save_every=800),
)
