"""MNIST to 7x7 codes out of 512: 49 tokens of 9 bits, 441 bits an image.

python -m train.stage_one --config=configs/mnist_tokenizer.py \\
    --workdir=runs/mnist_tok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

Two CPU cores: 5 minutes of steps. Expected, as measured once:
test PSNR 27.8 dB, every code in use.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import FSQ, EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {"channels": 16, "multipliers": (1, 2, 2), "blocks": 1, "mid_attention": False}

CONFIG = StageOne(
    name="mnist_tokenizer",
    data=Images(name="mnist", size=28, channels=1, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=32),
        decoder=ConvDecoder(**SHAPE, out=1),
        quantizer=EMAVectorQuantizer(num_codes=512, dim=4, decay=0.97, start="kmeans"),
    ),
    losses=Weights(pixel="l2", quantizer={"commit": 0.25}),
    kmeans=KMeansInit(step=200, samples=16_384),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=1600, batch=64, save_every=500),
)

VARIANTS = {
    "fsq": {"model.quantizer": FSQ(levels=(8, 8, 8))},
    "no_kmeans": {"model.quantizer.start": "normal"},
}
