"""Masked diffusion on text alone: the names of emoji, in byte pairs.

python -m train.stage_two --config=configs/captions.py --workdir=runs/captions \\
    --config.data.data_dir=DIR        # a TFDS data_dir with noto_emoji prepared
python -m train.score --workdir=runs/captions --draws=64 --baselines=True

The 512 pieces are learned of the training part. One CPU core: 5 minutes. With
--variant=long one H100 takes 4.
Expected: 0.92 bits a byte of test text, no better than gzip's 0.95 and far from a
5-gram's 0.58; in that longer run 0.58. RESULTS.md, section Text alone.
"""

from configs.mnist_flow import CONFIG as FLOW
from train.config import Run, Stream, replaced
from train.modalities import Images
from vqdit.diffusion import MaskAndReplace, Masking, UniformState
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import BPE, Bytes

CONFIG = replaced(
    FLOW,
    {
        "name": "captions",
        "data": Images(name="noto_emoji", size=64, channels=3, threads=1),
        "model": DiT(width=96, depth=4, block=Block(4)),
        "streams": {"text": Stream(Masking(), tokenizer=BPE("", 32, words=512))},
        "run": Run(steps=1400, batch=32, save_every=500),
    },
)

VARIANTS = {
    "long": {"run.batch": 64, "run.steps": 10_000, "optimizer.ema": 0.999},
    "bytes": {"streams.text.tokenizer": Bytes(136)},
    "uniform": {"streams.text.process": UniformState()},
    "mask_and_replace": {"streams.text.process": MaskAndReplace()},
}
