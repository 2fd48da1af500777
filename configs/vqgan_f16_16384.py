"""VQGAN f16 with 16,384 codes on ImageNet 256 (arXiv:2012.09841): 76.07M parameters.

python -m train.stage_one --config=configs/vqgan_f16_16384.py --workdir=runs/vqgan

Hardware, hours: unknown; not yet run here.
Expected: as published rFID 4.9 on the validation set (CompVis/taming-transformers), and
    under 12 % of the codes in use (VQGAN-LC's comparison).

Trains without two parts of the published recipe: the LPIPS perceptual loss (weight 1)
and the PatchGAN discriminator (weight 0.8 after 250K steps). What is left is the L1
error and the codebook's losses, so expect blurred pictures, a better PSNR and a far
worse rFID than published. The learning rate is 4.5e-6 x batch, batch 12 a GPU on 8; the
published length is not stated, so 500K steps is a choice.
"""

import dataclasses

from configs.imagenet import F16, RANDOM, tokenizer
from train.config import Optimizer, Run, StageOne, Weights
from vqdit.quantizers import FSQ, EMAVectorQuantizer, VectorQuantizer

BATCH = 96

CONFIG = StageOne(
    name="vqgan_f16_16384",
    data=dataclasses.replace(RANDOM, flip=False),
    model=tokenizer(F16, VectorQuantizer(16_384, 256, revive="none")),
    losses=Weights(pixel="l1", commit=0.25, codebook=1.0),
    optimizer=Optimizer(peak_lr=4.5e-6 * BATCH, b1=0.5, b2=0.9, clip=None, ema=0.0),
    run=Run(steps=500_000, batch=BATCH, log_every=100, save_every=10_000),
)


def _with(quantizer) -> StageOne:
    return dataclasses.replace(CONFIG, model=CONFIG.model.clone(quantizer=quantizer))


VARIANTS = {
    "revive": _with(CONFIG.model.quantizer.clone(revive="batch")),
    "cosine": _with(CONFIG.model.quantizer.clone(cosine=True)),
    "low_dim": _with(CONFIG.model.quantizer.clone(dim=8)),
    "ema": _with(EMAVectorQuantizer(16_384, 256, revive="none")),
    "fsq": _with(FSQ((8, 8, 8, 6, 5))),
}
