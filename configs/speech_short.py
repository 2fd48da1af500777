"""Spoken digits to 48 tokens of 10 bits a clip of 0.77 s, for a transformer on top.

python -m train.stage_one --config=configs/speech_short.py \\
    --workdir=runs/speech_short --config.data.data_dir=DIR
python -m train.evaluate --workdir=runs/speech_short

As speech_mel, in half of its time a clip. All of a speaker, and takes 0 to 4 of the
others, are held out.

Two CPU cores: ten minutes. Expected: RESULTS.md, digits written, spoken and spelled.
"""

from configs.speech_mel import CONFIG as SPEECH
from train.config import replaced
from train.modalities import SeriesAugment
from vqdit.quantizers import FSQ
from vqdit.tokenizer import ConvDecoder, ConvEncoder

SHAPE = {"widths": (16, 32, 64), "patch": 2, "blocks": 1, "mid_attention": False}

CONFIG = replaced(
    SPEECH,
    {
        "name": "speech_short",
        "data.length": 6144,
        "data.augment": SeriesAugment(shift=400),
        "data.holdout": "match:_theo_|_[0-4]$",
        "model.encoder": ConvEncoder(**SHAPE, out=64),
        "model.decoder": ConvDecoder(**SHAPE, out=1),
        "model.quantizer": FSQ(levels=(8, 5, 5, 5)),
        "run.steps": 700,
    },
)
