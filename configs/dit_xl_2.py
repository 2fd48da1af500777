"""DiT-XL/2 on ImageNet 256 (arXiv:2212.09748): 675.13M with its position table.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8
python -m train.stage_two --config=configs/dit_xl_2.py --workdir=runs/dit_xl_2 \\
    --config.tokenizers.image=runs/kl_f8

Hardware, hours: one H100-class GPU at 40 % of its bf16 peak would take 51 hours from
    cached latents, by arithmetic (556 images a second); not measured here.
    118.62 G multiply-adds an image forward.
Expected: as published FID-50K 19.47 at 400K steps, batch 256, unguided, 250 DDPM
    steps, on Stable Diffusion's VAE; 18.1 in PyTorch (facebookresearch/DiT). At 7M
    steps, --variant=full: 9.62, and 2.27 guided at scale 1.5.
    On kl_f8, which lacks two of that VAE's losses: unknown.

Departs from the paper in its times, which are continuous and stratified over a batch,
and in its latents, which are posterior means scaled per channel, not samples.
"""

from configs.imagenet import dit, variants

CONFIG = dit("xl", 2)
VARIANTS = variants(CONFIG)
