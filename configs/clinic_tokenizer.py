"""Scans of the clinic, 16 x 16 x 16 voxels, to 4 x 4 x 4 latents of 12 channels.

python -m train.stage_one --config=configs/clinic_tokenizer.py \\
    --workdir=runs/clinic_volume

Phantoms with a lesion, or none; see configs/clinic.py. Expected: 20.8 dB. One CPU core:
five minutes.
"""

from train.config import Optimizer, Run, StageOne, Weights
from train.modalities import Volumes
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {
    "channels": 48,
    "multipliers": (1,),
    "patch": 4,
    "blocks": 1,
    "mid_attention": False,
    "dims": 3,
}

CONFIG = StageOne(
    name="clinic_tokenizer",
    data=Volumes(name="patients", size=(16, 16, 16), examples=6144, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=48),
        decoder=ConvDecoder(**SHAPE, out=1),
        dim=12,
        variational=True,
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(peak_lr=3e-3, schedule="cosine", warmup=30, b2=0.99, ema=0.99),
    run=Run(steps=500, batch=32, save_every=250),
)
