"""A masked DiT on CIFAR-10's 8x8 codes, with class labels.

python -m train.stage_two --config=configs/cifar10_masked.py --workdir=runs/masked \\
    --config.data.data_dir=DIR --config.streams.image.tokenizer=runs/tok

One GPU: about two hours. Expected score: not measured yet.
"""

from configs.cifar10_dit import CONFIG as FLOW
from train.config import Stream, replaced
from vqdit.diffusion import Linear, Masking

CONFIG = replaced(
    FLOW,
    {
        "name": "cifar10_masked",
        "streams.image": Stream(Masking(), shape=(8, 8, 1), codes=1024),
    },
)

VARIANTS = {
    "linear": {"streams.image.process": Masking(schedule=Linear())},
    "unweighted": {"streams.image.process": Masking(weight="none")},
}
