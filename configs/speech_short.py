"""Spoken digits to 24 tokens of 9 bits a clip of 0.77 s, for a transformer on top.

python -m train.stage_one --config=configs/speech_short.py \\
    --workdir=runs/speech_short --config.data.data_dir=DIR
python -m train.evaluate --workdir=runs/speech_short

A token is the whole spectrum of 32 ms, so that it says what is spoken there, wherever
in the clip that is; speech_mel's are of 8 of its 64 bands, 128 ms long. All of a
speaker, and takes 0 to 4 of the others, are held out.

One CPU core: nine minutes. Expected: RESULTS.md, digits written, spoken and spelled.
"""

from configs.speech_mel import CONFIG as SPEECH
from train.config import KMeansInit, replaced
from train.modalities import SeriesAugment
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder

SHAPE = {
    "widths": (96, 128),
    "patch": (1, 64),  # all bands are channels of one frame
    "strides": ((2, 1),),
    "blocks": 2,
    "mid_attention": False,
}

CONFIG = replaced(
    SPEECH,
    {
        "name": "speech_short",
        "data.length": 6144,
        "data.augment": SeriesAugment(shift=400),
        "data.holdout": "match:_theo_|_[0-4]$",
        "model.encoder": ConvEncoder(**SHAPE, out=64),
        "model.decoder": ConvDecoder(**SHAPE, out=1),
        "model.quantizer": EMAVectorQuantizer(512, dim=8, decay=0.97, start="kmeans"),
        "losses.quantizer.commit": 0.25,
        "kmeans": KMeansInit(step=200, samples=16_384),
        "run.steps": 1500,
    },
)
