"""The demo's masked DiT: masked diffusion on the 4x4 codes of 8x8 digits.

python -m train.stage_two --config=configs/demo_masked.py \\
    --workdir=runs/digits_masked --config.streams.image.tokenizer=runs/digits_tok

Two CPU cores: about a minute. Expected: see RESULTS.md, section demo. At this budget
MaskGIT's unweighted loss draws better digits than the bound, which is a variant.
"""

from train.config import Optimizer, Run, StageTwo, Stream
from train.config.override import replaced
from train.modalities import Images
from vqdit.diffusion import Cosine, Masking
from vqdit.dit import DiT
from vqdit.nn import Block

CONFIG = StageTwo(
    name="demo_masked",
    data=Images(name="digits", size=8, channels=1, threads=1),
    model=DiT(
        width=96,
        depth=4,
        block=Block(4),
        classes=10,
    ),
    streams={
        "image": Stream(
            Masking(schedule=Cosine(), weight="none"), shape=(4, 4, 1), codes=64
        )
    },
    optimizer=Optimizer(
        peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=1500, batch=64, log_every=50, save_every=500),
)

VARIANTS = {
    "elbo": replaced(CONFIG, {"streams.image.process": Masking(schedule=Cosine())}),
}
