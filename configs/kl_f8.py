"""A continuous f8 tokenizer of 4 channels on ImageNet 256, for the DiT experiments.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8

Hardware, hours: unknown; not yet run here.
Expected: unknown. The published f8d4 VAE (arXiv:2112.10752) has rFID 0.91 (MGVQ's
    protocol), after losses and data that this file does not have.

The shape is Stable Diffusion's VAE: 83.65M parameters.
The published recipe's LPIPS loss (weight 1) needs weights that are not shipped: add
--config.losses.lpips=FILE, or expect a good PSNR, blurred pictures, and a DiT whose FID
is bounded by them. The PatchGAN discriminator is the published one but for its
normalisation: weight 0.5, adaptive, after 50K steps. The optimizers follow VQGAN's rule
of 4.5e-6 x batch; data, batch and length are choices.
"""

from configs.imagenet import RANDOM, tokenizer
from configs.vqgan_f16_16384 import CONFIG as VQGAN
from train.config import Weights, replaced

# The published weight of 1e-6 is against an error summed over the picture; here it is
# the mean.
KL = 1e-6 / (256 * 256 * 3)

CONFIG = replaced(
    VQGAN,
    {
        "name": "kl_f8",
        "data": RANDOM,
        "model": tokenizer(
            (1, 2, 4, 4), None, out=8, attention=False, dim=4, variational=True, back=4
        ),
        "losses": Weights(pixel="l1", quantizer={"kl": KL}),
        "adversarial.start": 50_000,
        "adversarial.weight": 0.5,
        "optimizer.ema": 0.9999,
    },
)

VARIANTS = {
    "plain": {"model.variational": False},
    "heavy_kl": {"losses.quantizer.kl": 100 * KL},
}
