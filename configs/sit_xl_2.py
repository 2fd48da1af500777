"""SiT-XL/2 on ImageNet 256 (arXiv:2401.08740): DiT-XL/2 trained as a flow.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8
python -m train.stage_two --config=configs/sit_xl_2.py --workdir=runs/sit_xl_2 \\
    --config.tokenizers.image=runs/kl_f8

Hardware, hours: as dit_xl_2; not yet run here.
Expected: as published FID-50K 8.3 (SDE) or 9.5 (ODE) at 7M steps, --variant=full, batch
    256, unguided, and 2.06 guided (willisma/SiT), on Stable Diffusion's VAE. At the
    400K steps of CONFIG, and on kl_f8, which lacks two of that VAE's losses: unknown.

The published head returns twice the channels and throws half of them away; that dead
half (18,448 parameters) is left out here. Time is embedded as 1000 t, as DiT does; the
published code embeds t itself, and counts it from noise to data.
"""

from configs.imagenet import transformer, variants
from vqdit.diffusion import Gaussian, Linear

CONFIG = transformer("sit_xl_2", "xl", 2, Gaussian(Linear(), target="velocity"))
VARIANTS = variants(CONFIG)
