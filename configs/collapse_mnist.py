"""A planted codebook collapse on MNIST, and its cure.

python -m train.ablate --config=configs/collapse_mnist.py --workdir=runs/collapse \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

1,024 codes that start twenty times as far out as latents lie, without k-means: one of
them is nearest to everything. The base revives no code; the variants do, from vectors
of the batch or by splitting the most used code. Expected: 4 % of
the codes in use without revival, all of them with it.
"""

from configs.quantizers_mnist import CONFIG as MNIST
from train.config import replaced
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder

SHAPE = {"channels": 8, "multipliers": (1, 2, 4), "blocks": 1, "mid_attention": False}
QUANTIZER = EMAVectorQuantizer(
    num_codes=1024, dim=4, decay=0.97, window=16_384, revive="none", start_scale=20.0
)
MODEL = MNIST.model.clone(
    encoder=ConvEncoder(**SHAPE, out=32),
    decoder=ConvDecoder(**SHAPE, out=1),
    quantizer=QUANTIZER,
)

CONFIG = replaced(MNIST, {"name": "collapse_mnist", "model": MODEL})
VARIANTS = {name: {"model.quantizer.revive": name} for name in ("batch", "split")}
