"""A flow over the latents of the tokenizer beside it."""

from train.config import Optimizer, Run, StageTwo, Stream
from train.modalities import Images
from vqdit.diffusion import Gaussian, LogitNormal
from vqdit.dit import DiT
from vqdit.nn import Block

CONFIG = StageTwo(
    name="two_flow",
    data=Images(name="digits", size=8, channels=1, threads=0),
    model=DiT(width=8, depth=2, block=Block(2), classes=10),
    streams={"image": Stream(Gaussian(), times=LogitNormal(), shape=(4, 4, 2))},
    optimizer=Optimizer(peak_lr=3e-3, ema=0.9),
    run=Run(steps=6, batch=16, log_every=2, save_every=3),
)
