"""A tokenizer that starts by k-means and revives codes within a few steps."""

from train.config import KMeansInit, Optimizer, Run, StageOne
from train.modalities import Images
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

PART = {"channels": 4, "multipliers": (1, 1), "blocks": 1, "mid_attention": False}
CONFIG = StageOne(
    name="two_tokenizer",
    data=Images(name="digits", size=8, channels=1, threads=0),
    model=Tokenizer(
        ConvEncoder(**PART, out=4),
        ConvDecoder(**PART, out=1),
        EMAVectorQuantizer(16, 2, start="kmeans", window=512),
    ),
    kmeans=KMeansInit(step=2, samples=256, iterations=5),
    optimizer=Optimizer(peak_lr=3e-3, ema=0.9),
    run=Run(steps=6, batch=16, log_every=2, save_every=3),
)
