"""A digit that acts: video, action, boxes and text, any from any others.

python -m train.stage_one --config=configs/moving_digits_video.py \\
    --workdir=runs/moving_tok
python -m train.stage_two --config=configs/moving_digits.py \\
    --workdir=runs/moving --config.streams.video.tokenizer=runs/moving_tok
python -m train.evaluate --workdir=runs/moving --baselines --shown.video=3 \\
    --crossings=video_to_action,video_to_boxes,text_to_video --num=200 --steps=16 \\
    --guidance='(1.0, 2.0)'
python -m train.score --workdir=runs/moving --config.data.name=moving_events \\
    --of=video --shown.video=3 --anomaly=jump,vanish,reverse --draws=16 --most=400
python -m train.sample --workdir=runs/moving --given.video=clip.gif --want=boxes \\
    --out=boxes.csv

The 5x4x4 latents of a clip by flow; by masks which of 16 actions it is, the digit and
its box in each frame, and a sentence such as "7 down right fast".

One CPU core: an hour, after 15 minutes for the tokenizer. With --variant=long and a
cache one H100 takes seven minutes. Expected: RESULTS.md, section Moving digits.
"""

from configs.moving_digits_video import CONFIG as VIDEO
from train.config import Optimizer, Run, StageTwo, Stream, replaced
from vqdit.diffusion import (
    Case,
    Confidence,
    Cosine,
    Gaussian,
    LogitNormal,
    Masking,
    Mixture,
    Prefix,
)
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Boxes, Bytes, Labels

MASKING = Masking(schedule=Cosine(), weight="none")
NEXT = {"video": Prefix(0.2, 0.8)}
WORDS = ("action", "boxes", "text")

CONFIG = StageTwo(
    name="moving_digits",
    data=replaced(VIDEO.data, {"boxes": True}),
    model=DiT(width=96, depth=4, block=Block(4)),
    streams={
        "video": Stream(Gaussian(), times=LogitNormal(), shape=(5, 4, 4, 8)),
        "action": Stream(MASKING, Labels(16), solver=Confidence(noise=0.0)),
        "boxes": Stream(
            MASKING,
            tokenizer=Boxes(1, bins=64, classes=10, frames=9),
            solver=Confidence(noise=0.0, temperature=0.1),
        ),
        "text": Stream(MASKING, tokenizer=Bytes(17)),
    },
    mixture=Mixture(
        (
            Case(given=("video",), absent=0.5, weight=0.2),
            Case(given=("text",), absent=("action", "boxes"), weight=0.15),
            Case(given=("text",), absent=("video", "action"), weight=0.1),
            Case(given=("text", "boxes"), absent=("action",), weight=0.2),
            Case(absent=WORDS, parts=NEXT, weight=0.2),
            Case(absent=WORDS, weight=0.05),
            Case(given=0.3, absent=0.3, weight=0.1),
        )
    ),
    balance=True,
    optimizer=Optimizer(
        peak_lr=1.5e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=8000, batch=32, log_every=100, save_every=400),
    bars=(
        "video_to_action accuracy >= 0.95",
        "video_to_boxes iou >= 0.7",
        "text_to_video accuracy >= 0.85",
        "video_after_3 psnr_db > video_after_3 last psnr_db",
        "video_after_3 psnr_db > video_after_3 linear psnr_db",
    ),
)

VARIANTS = {
    "long": {
        "data.examples": 50_000,
        "model.width": 128,
        "model.depth": 6,
        "run.batch": 128,
        "run.steps": 12_000,
        "optimizer.ema": 0.999,
    },
    "own": {"model.block.own": ("mlp", "modulation")},
}
