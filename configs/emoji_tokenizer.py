"""64-pixel emoji to 8x8 codes out of 1,024, or as many latents of eight channels.

python -m train.stage_one --config=configs/emoji_tokenizer.py \\
    --workdir=runs/emoji_tok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with noto_emoji prepared

For the joint model of emoji_joint. One CPU core: half an hour beside other work.
Expected: 20.1 dB in training, all codes in use. --variant=fine is for a GPU: three
minutes for --config.run.steps=3000 on an H100 beside other work.
"""

from configs.emoji_residual import CONFIG as RESIDUAL
from train.config import replaced
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder

FINE = {"channels": 64, "multipliers": (1, 2), "blocks": 1, "patch": 2, "groups": 16}

CONFIG = replaced(
    RESIDUAL,
    {
        "name": "emoji_tokenizer",
        "model.quantizer": EMAVectorQuantizer(1024, dim=8, decay=0.98, start="kmeans"),
        "run.steps": 1800,
        "run.batch": 32,
    },
)

# 16x16 latents of four channels; patches of two make as many tokens of them.
VARIANTS = {
    "fine": {
        "model.encoder": ConvEncoder(**FINE, out=64),
        "model.decoder": ConvDecoder(**FINE, out=3),
        "model.quantizer": None,
        "model.dim": 4,
        "model.variational": True,
        "kmeans": None,
    }
}
