"""VQGAN f16 with 16,384 codes on ImageNet 256 (arXiv:2012.09841): 76.07M parameters.

python -m train.stage_one --config=configs/vqgan_f16_16384.py --workdir=runs/vqgan

Hardware, hours: unknown; not yet run here.
Expected: as published rFID 4.9 on the validation set (CompVis/taming-transformers), and
    under 12 % of the codes in use (VQGAN-LC's comparison). With 1,024 codes
    (--variant=codes_1024, 72.14M parameters) rFID 7.94.

The published recipe's LPIPS loss (weight 1) needs weights that are not shipped: add
--config.losses.lpips=FILE, or expect blurred pictures, a better PSNR and a far worse
rFID than published. The PatchGAN discriminator is the published one but for its
normalisation: weight 0.8, adaptive, after 250K steps. The learning rate of both is
4.5e-6 x batch, batch 12 a GPU on 8; the published length is not stated, so 500K steps
is a choice.
"""

from configs.imagenet import F16, RANDOM, tokenizer
from train.config import AdamW, Adversarial, Optimizer, Run, StageOne, Weights, replaced
from vqdit.losses import PatchDiscriminator
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer

BATCH = 96

CONFIG = StageOne(
    name="vqgan_f16_16384",
    data=replaced(RANDOM, {"flip": False}),
    model=tokenizer(F16, VectorQuantizer(16_384, 256, revive="none")),
    losses=Weights(pixel="l1", quantizer={"commit": 0.25, "codebook": 1.0}),
    adversarial=Adversarial(
        discriminator=PatchDiscriminator(),
        start=250_000,
        weight=0.8,
        optimizer=AdamW(peak_lr=4.5e-6 * BATCH, b1=0.5, b2=0.9, clip=None),
    ),
    optimizer=Optimizer(peak_lr=4.5e-6 * BATCH, b1=0.5, b2=0.9, clip=None, ema=0.0),
    run=Run(steps=500_000, batch=BATCH, log_every=100, save_every=10_000),
)

VARIANTS = {
    "codes_1024": {"model.quantizer.num_codes": 1024},
    "revive": {"model.quantizer.revive": "batch"},
    "cosine": {"model.quantizer.cosine": True},
    "low_dim": {"model.quantizer.dim": 8},
    "ema": {"model.quantizer": EMAVectorQuantizer(16_384, 256, revive="none")},
    "fsq": {"model.quantizer": FSQ((8, 8, 8, 6, 5))},
}
