"""Gestures that write digits, as a poor sensor sees them, to 12 codes of 10 bits each.

python -m train.stage_one --config=configs/gesture.py --workdir=runs/gesture \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared
python -m train.evaluate --workdir=runs/gesture

48 places along the way of a hand (across, down, pen), found from MNIST's ink, with
white noise 10 dB below them. The truth is known, so the score is the error to it.

One of two CPU cores: four minutes. Expected: RESULTS.md, gestures.
"""

from configs.series_generated import CONFIG as GENERATED
from configs.series_generated import SHAPE
from train.config import replaced
from train.modalities import Series
from vqdit.tokenizer import ConvDecoder, ConvEncoder

GESTURES = Series(
    name="mnist_strokes",
    length=48,
    channels=3,
    examples=8192,
    cleaning=None,
    missing=0.0,
    spikes=0.0,
    noise=0.1,
)

CONFIG = replaced(
    GENERATED,
    {
        "name": "gesture",
        "data": GESTURES,
        "model.encoder": ConvEncoder(**SHAPE, out=64),
        "model.decoder": ConvDecoder(**SHAPE, out=3),
        "run.steps": 1500,
    },
)
