"""The demo's tokenizer: 8x8 digits to 4x4 codes out of 64, 96 bits an image.

python -m train.stage_one --config=configs/demo_tokenizer.py --workdir=runs/digits_tok

Two CPU cores: about half a minute. Expected: PSNR above 25 dB on the held-out digits,
every code in use.

python -m train.evolve --config=configs/demo_tokenizer.py --workdir=runs/search \\
    --config.run.best=-evaluation_psnr_db --config.run.evaluate='Reconstructions(100)'

looks for better settings in SPACE.
"""

from train.config import Between, Choice, KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {
    "channels": 32,
    "multipliers": (1, 1),
    "blocks": 1,
    "mid_attention": False,
    "groups": 8,
}

CONFIG = StageOne(
    name="demo_tokenizer",
    data=Images(name="digits", size=8, channels=1, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=32),
        decoder=ConvDecoder(**SHAPE, out=1),
        quantizer=EMAVectorQuantizer(
            num_codes=64, dim=4, decay=0.95, start="kmeans", window=16_384
        ),
    ),
    losses=Weights(pixel="l2", quantizer={"commit": 0.25}),
    kmeans=KMeansInit(step=200, samples=8192),
    optimizer=Optimizer(peak_lr=3e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=1500, batch=64, log_every=50, save_every=500),
)

GRADIENT = VectorQuantizer(num_codes=64, dim=4, start="kmeans", window=16_384)

VARIANTS = {
    "fsq": {"model.quantizer": FSQ(levels=(4, 4, 4), window=16_384)},
    "gradient": {"model.quantizer": GRADIENT},
    "no_kmeans": {"model.quantizer.start": "normal"},
    "no_commit": {"losses.quantizer.commit": 0.0},
}

SPACE = {
    "optimizer.peak_lr": Between(3e-4, 3e-2, log=True),
    "losses.quantizer.commit": Between(0.01, 2.0, log=True),
    "model.quantizer.decay": Between(0.8, 0.999),
    "model.quantizer.dim": Choice((2, 4, 8, 16), ordered=True),
}
