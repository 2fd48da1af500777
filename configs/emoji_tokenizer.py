"""64-pixel emoji to 8x8 codes out of 1,024, or as many latents of eight channels.

python -m train.stage_one --config=configs/emoji_tokenizer.py \\
    --workdir=runs/emoji_tok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with noto_emoji prepared

For the joint model of emoji_joint. One CPU core: half an hour beside other work.
Expected: 20.1 dB in training, all codes in use.
"""

from configs.emoji_residual import CONFIG as RESIDUAL
from train.config import replaced
from vqdit.quantizers import EMAVectorQuantizer

CONFIG = replaced(
    RESIDUAL,
    {
        "name": "emoji_tokenizer",
        "model.quantizer": EMAVectorQuantizer(1024, dim=8, decay=0.98, start="kmeans"),
        "run.steps": 1800,
        "run.batch": 32,
    },
)
