"""DiT-S/2 on ImageNet 256 (arXiv:2212.09748): 32.96M with its position table.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8
python -m train.stage_two --config=configs/dit_s_2.py --workdir=runs/dit_s_2 \\
    --config.tokenizers.image=runs/kl_f8

Hardware, hours: unknown; not yet run here.
    6.06 G multiply-adds an image forward.
Expected: as published FID-50K 68.40 at 400K steps, batch 256, unguided, 250 DDPM
    steps, on Stable Diffusion's VAE.
    On kl_f8, which lacks two of that VAE's losses: unknown.

Departs from the paper in its times, which are continuous and stratified over a batch,
and in its latents, which are posterior means scaled per channel, not samples.
"""

from configs.imagenet import dit, variants

CONFIG = dit("s", 2)
VARIANTS = variants(CONFIG)
