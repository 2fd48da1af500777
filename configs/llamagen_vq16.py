"""LlamaGen's VQ-16 on ImageNet 256 (arXiv:2406.06525): 71.88M parameters.

python -m train.stage_one --config=configs/llamagen_vq16.py --workdir=runs/llamagen_vq16

Hardware, hours: unknown; not yet run here.
Expected: as published rFID 2.19, PSNR 20.79 and 97 % of the codes in use, on the
    validation set (FoundationVision/LlamaGen).

The published recipe's LPIPS loss (weight 1) needs weights that are not shipped: add
--config.losses.lpips=FILE, or expect blurred pictures, a better PSNR and a far worse
rFID than published. The PatchGAN discriminator is the published one but for its
normalisation: a constant weight of 0.5 after 20K steps. Its 40 epochs at batch 128 are
400,360 steps. The published program takes a weight decay of 0.05 and never hands it to
its Adam; so none here.
"""

from configs.imagenet import F16, RANDOM, tokenizer
from train.config import AdamW, Adversarial, Optimizer, Run, StageOne, Weights
from vqdit.losses import PatchDiscriminator
from vqdit.quantizers import EMAVectorQuantizer, VectorQuantizer

QUANTIZER = VectorQuantizer(16_384, 8, cosine=True, revive="none")

CONFIG = StageOne(
    name="llamagen_vq16",
    data=RANDOM,
    model=tokenizer(F16, QUANTIZER, dtype="bfloat16"),
    losses=Weights(pixel="l2", quantizer={"commit": 0.25, "codebook": 1.0}),
    adversarial=Adversarial(
        discriminator=PatchDiscriminator(),
        start=20_000,
        weight=0.5,
        adaptive=False,
        optimizer=AdamW(peak_lr=1e-4, b1=0.9, b2=0.95, clip=1.0),
    ),
    optimizer=Optimizer(peak_lr=1e-4, b1=0.9, b2=0.95, clip=1.0, ema=0.0),
    run=Run(steps=400_360, batch=128, log_every=100, save_every=10_000),
)

AVERAGING = EMAVectorQuantizer(16_384, 8, cosine=True, revive="none")
VARIANTS = {
    "revive": {"model.quantizer.revive": "batch"},
    "euclidean": {"model.quantizer.cosine": False},
    "dim_256": {"model.quantizer.dim": 256},
    "ema": {"model.quantizer": AVERAGING},
    "averaged": {"optimizer.ema": 0.9999},
}
