"""64-pixel emoji to 16x16 latents of four channels.

python -m train.stage_one --config=configs/emoji_fine_tokenizer.py \\
    --workdir=runs/emoji_fine_tok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with noto_emoji prepared

For the joint model of emoji_fine. One H100: two minutes. Expected: 30.0 dB in training.
"""

from configs.emoji_tokenizer import CONFIG as COARSE
from train.config import replaced
from vqdit.tokenizer import ConvDecoder, ConvEncoder

SHAPE = {"channels": 64, "multipliers": (1, 2), "blocks": 1, "patch": 2, "groups": 16}

CONFIG = replaced(
    COARSE,
    {
        "name": "emoji_fine_tokenizer",
        "model.encoder": ConvEncoder(**SHAPE, out=64),
        "model.decoder": ConvDecoder(**SHAPE, out=3),
        "model.quantizer": None,
        "model.dim": 4,
        "model.variational": True,
        "kmeans": None,
        "run.steps": 3000,
    },
)
