"""CIFAR-10 to 8x8 codes out of 1,024: 64 tokens of 10 bits, 640 bits an image.

python -m train.stage_one --config=configs/cifar10_tokenizer.py --workdir=runs/tok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with cifar10 prepared

One GPU: minutes. Two CPU cores: about two hours. Expected score: not measured yet.
Trained on squared error alone, so reconstructions are smooth; --variant=adversarial is
the same against a PatchGAN discriminator from step 5,000 on.
"""

from train.config import (
    AdamW,
    Adversarial,
    KMeansInit,
    Optimizer,
    Run,
    StageOne,
    Weights,
)
from train.modalities import Images
from vqdit.losses import PatchDiscriminator
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {"channels": 64, "multipliers": (1, 2, 2), "blocks": 2, "groups": 32}

CONFIG = StageOne(
    name="cifar10_tokenizer",
    data=Images(name="cifar10", size=32, channels=3, flip=True),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=128),
        decoder=ConvDecoder(**SHAPE, out=3),
        quantizer=EMAVectorQuantizer(num_codes=1024, dim=8, start="kmeans"),
    ),
    losses=Weights(pixel="l2", quantizer={"commit": 0.25}),
    kmeans=KMeansInit(step=500, samples=32_768),
    optimizer=Optimizer(
        peak_lr=1e-3, schedule="cosine", warmup=200, b2=0.99, ema=0.999
    ),
    run=Run(steps=20_000, batch=128, save_every=1000),
)

# Two strided layers: a patch of 34 pixels is all of a picture already.
ADVERSARY = Adversarial(
    discriminator=PatchDiscriminator(channels=64, layers=2),
    start=5000,
    ramp=1000,
    weight=0.5,
    lecam=1e-3,
    optimizer=AdamW(peak_lr=2e-4, b1=0.5, b2=0.9),
)
GRADIENT = VectorQuantizer(num_codes=1024, dim=8, start="kmeans")

VARIANTS = {
    "fsq": {"model.quantizer": FSQ(levels=(8, 8, 4, 4))},
    "gradient": {"model.quantizer": GRADIENT},
    "cosine": {"model.quantizer.cosine": True},
    "adversarial": {"adversarial": ADVERSARY},
}
