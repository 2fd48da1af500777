"""A flow DiT on CIFAR-10's 8x8 latents, with class labels.

python -m train.stage_two --config=configs/cifar10_dit.py --workdir=runs/dit \\
    --config.data.data_dir=DIR --config.streams.image.tokenizer=runs/tok

One GPU: about two hours. Expected score: not measured yet.
"""

from train.config import Optimizer, Run, StageTwo, Stream
from train.modalities import Images
from vqdit.diffusion import Cosine, Gaussian, LogitNormal, Uniform
from vqdit.dit import DiT
from vqdit.nn import Block

CONFIG = StageTwo(
    name="cifar10_dit",
    data=Images(name="cifar10", size=32, channels=3, flip=True),
    model=DiT(width=384, depth=12, block=Block(6), classes=10),
    streams={"image": Stream(Gaussian(), times=LogitNormal(), shape=(8, 8, 8))},
    optimizer=Optimizer(peak_lr=3e-4, schedule="cosine", warmup=1000, b2=0.99),
    run=Run(steps=100_000, batch=256, save_every=2000, sample_every=10_000),
)

VARIANTS = {
    "uniform_times": {"streams.image.times": Uniform()},
    "cosine": {"streams.image.process": Gaussian(Cosine())},
    "predict_data": {"streams.image.process.target": "data"},
}
