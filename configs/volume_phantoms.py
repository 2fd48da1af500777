"""Phantoms of 24 x 24 x 24 voxels to 216 codes of 9 bits: 0.14 bits a voxel.

python -m train.stage_one --config=configs/volume_phantoms.py --workdir=runs/volume
python -m train.evaluate --workdir=runs/volume

Nested ellipsoids with noise, generated. The score is the PSNR on held-out phantoms,
beside k-means on blocks of 4 x 4 x 4 voxels with as many codes: equal bits.

One CPU core: 14 minutes. Expected, as measured once: 22.6 dB, and 22.0 of k-means.
"""

from train.config import Optimizer, Run, StageOne, Weights
from train.modalities import Volumes
from vqdit.quantizers import FSQ
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {
    "channels": 32,
    "multipliers": (1, 2),
    "patch": 2,
    "blocks": 1,
    "mid_attention": False,
    "dims": 3,
}

CONFIG = StageOne(
    name="volume_phantoms",
    data=Volumes(name="phantoms", size=(24, 24, 24), examples=1024, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=32),
        decoder=ConvDecoder(**SHAPE, out=1),
        quantizer=FSQ(levels=(8, 8, 8)),
    ),
    losses=Weights(pixel="l2"),
    optimizer=Optimizer(peak_lr=3e-3, schedule="cosine", warmup=30, b2=0.99, ema=0.99),
    run=Run(steps=800, batch=16, save_every=400),
)
