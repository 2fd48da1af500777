"""The demo's masked DiT: masked diffusion on the 4x4 codes of 8x8 digits.

python -m train.stage_two --config=configs/demo_masked.py \\
    --workdir=runs/digits_masked --config.tokenizers.image=runs/digits_tok

Two CPU cores: about a minute. Expected: see RESULTS.md, section demo. At this budget
MaskGIT's unweighted loss draws better digits than the bound, which is a variant.
"""

import dataclasses

from train.config import Optimizer, Run, StageTwo
from train.modalities import Images
from vqdit.diffusion import Cosine, Masking, Uniform
from vqdit.dit import DiT
from vqdit.nn import Block, Discrete

CONFIG = StageTwo(
    name="demo_masked",
    data=Images(name="digits", size=8, channels=1, threads=1),
    model=DiT(
        streams=(Discrete("image", grid=(4, 4), vocab=64),),
        width=96,
        depth=4,
        block=Block(4),
        classes=10,
    ),
    processes={"image": Masking(vocab=64, schedule=Cosine(), weight="none")},
    times={"image": Uniform()},
    optimizer=Optimizer(
        peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=1500, batch=64, log_every=50, save_every=500),
)

VARIANTS = {
    "elbo": dataclasses.replace(
        CONFIG, processes={"image": Masking(vocab=64, schedule=Cosine())}
    ),
}
