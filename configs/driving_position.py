"""The way of a car and the hour, 16 samples in two seconds, to 4 tokens of two codes.

python -m train.stage_one --config=configs/driving_position.py --workdir=runs/position

One of three tokenizers of configs/driving.py. One CPU core: two minutes. Expected:
RESULTS.md, section Driving.
"""

from configs.driving_camera import CONFIG as CAMERA
from train.config import replaced
from train.modalities import Series
from vqdit.tokenizer import ConvDecoder, ConvEncoder

SHAPE = {"widths": (32, 64), "patch": 2, "blocks": 1, "mid_attention": False, "dims": 1}

CONFIG = replaced(
    CAMERA,
    {
        "name": "driving_position",
        "data": Series(
            name="driving",
            length=16,
            channels=4,
            examples=CAMERA.data.examples,
            missing=0.0,
            spikes=0.0,
            cleaning=None,
            threads=1,
        ),
        "model.encoder": ConvEncoder(**SHAPE, out=64),
        "model.decoder": ConvDecoder(**SHAPE, out=4),
    },
)
