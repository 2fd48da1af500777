"""The demo's flow DiT: rectified flow on the continuous latents of 8x8 digits.

python -m train.stage_two --config=configs/demo_flow.py --workdir=runs/digits_flow \\
    --config.streams.image.tokenizer=runs/digits_tok

Two CPU cores: about two and a half minutes. Expected: see RESULTS.md, section demo.
"""

from train.config import Optimizer, Run, StageTwo, Stream
from train.modalities import Images
from vqdit.diffusion import Cosine, Gaussian, LogitNormal, Uniform
from vqdit.dit import DiT
from vqdit.nn import Block

CONFIG = StageTwo(
    name="demo_flow",
    data=Images(name="digits", size=8, channels=1, threads=1),
    model=DiT(width=96, depth=4, block=Block(4), classes=10),
    streams={"image": Stream(Gaussian(), times=LogitNormal(), shape=(4, 4, 4))},
    optimizer=Optimizer(
        peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=2500, batch=64, log_every=50, save_every=500),
)

VARIANTS = {
    "uniform_times": {"streams.image.times": Uniform()},
    "cosine": {"streams.image.process": Gaussian(Cosine())},
    "predict_data": {"streams.image.process.target": "data"},
    "rotary": {"model.positions": "rotary"},
}
