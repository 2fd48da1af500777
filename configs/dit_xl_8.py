"""DiT-XL/8 on ImageNet 256 (arXiv:2212.09748): 675.66M parameters.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8
python -m train.stage_two --config=configs/dit_xl_8.py --workdir=runs/dit_xl_8 \\
    --config.tokenizers.image=runs/kl_f8

Hardware, hours: unknown; not yet run here.
    7.39 G multiply-adds an image forward.
Expected: as published FID-50K 106.41 at 400K steps, batch 256, unguided, 250 DDPM
    steps, on Stable Diffusion's VAE.
    On kl_f8, which lacks two of that VAE's losses: unknown.

Departs from the paper in its times, which are continuous and stratified over a batch,
and in its latents, which are posterior means scaled per channel, not samples.
"""

from configs.imagenet import dit, variants

CONFIG = dit("xl", 8)
VARIANTS = variants(CONFIG)
