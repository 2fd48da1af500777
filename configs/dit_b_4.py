"""DiT-B/4 on ImageNet 256 (arXiv:2212.09748): 130.43M parameters.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8
python -m train.stage_two --config=configs/dit_b_4.py --workdir=runs/dit_b_4 \\
    --config.tokenizers.image=runs/kl_f8

Hardware, hours: unknown; not yet run here.
    5.57 G multiply-adds an image forward.
Expected: as published FID-50K 68.38 at 400K steps, batch 256, unguided, 250 DDPM
    steps, on Stable Diffusion's VAE; PyTorch runs of the authors reach 68.9 and 68.3
    (facebookresearch/DiT).
    On kl_f8, which lacks two of that VAE's losses: unknown.

Departs from the paper in its times, which are continuous and stratified over a batch,
and in its latents, which are posterior means scaled per channel, not samples.
"""

from configs.imagenet import dit, variants

CONFIG = dit("b", 4)
VARIANTS = variants(CONFIG)
