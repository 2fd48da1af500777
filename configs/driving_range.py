"""Sweeps of 8 rows by 128 azimuths to 2x32 tokens of two codes of 9 bits.

python -m train.stage_one --config=configs/driving_range.py --workdir=runs/sweep

One of three tokenizers of configs/driving.py. One CPU core: eight minutes. Expected:
RESULTS.md, section Driving.
"""

from configs.driving_camera import CONFIG as CAMERA
from train.config import replaced
from train.modalities import Ranges
from vqdit.tokenizer import ConvDecoder, ConvEncoder

SHAPE = {
    "widths": (96,),
    "patch": 4,
    "blocks": 1,
    "mid_attention": False,
    "wrap": (False, True),
}

CONFIG = replaced(
    CAMERA,
    {
        "name": "driving_range",
        "data": Ranges(
            name="driving",
            rows=8,
            azimuth=128,
            far=60.0,
            examples=CAMERA.data.examples,
            threads=1,
        ),
        "model.encoder": ConvEncoder(**SHAPE, out=64),
        "model.decoder": ConvDecoder(**SHAPE, out=1),
    },
)
