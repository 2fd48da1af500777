"""A flow transformer on the latents of a tokenizer of one's own files.

python -m train.stage_two --config=configs/own_flow.py \\
    --config.streams.signal.tokenizer=runs/pictures \\
    --config.data.data_dir=photos --workdir=runs/flow

--variant=sounds goes with the tokenizer of own_sounds, --variant=series with that of
own_series. The data are the tokenizer's. Labels are not used: for classes in N
sub-folders write --config.model.classes=N, and draw with --label=NAME --guidance=2.

Expected score: that of the files; none was measured.
"""

from configs.own_pictures import CONFIG as PICTURES
from configs.own_series import CONFIG as SERIES
from configs.own_sounds import CONFIG as SOUNDS
from train.config import Optimizer, Run, StageTwo, Stream
from vqdit.diffusion import Gaussian, LogitNormal
from vqdit.dit import DiT
from vqdit.nn import Block

CONFIG = StageTwo(
    name="own_flow",
    data=PICTURES.data,
    model=DiT(width=256, depth=6, block=Block(4)),
    streams={"signal": Stream(Gaussian(), times=LogitNormal())},
    optimizer=Optimizer(
        peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=5000, batch=32),
)
VARIANTS = {"sounds": {"data": SOUNDS.data}, "series": {"data": SERIES.data}}
