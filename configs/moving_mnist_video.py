"""Moving MNIST, 1 + 16 frames of 64 px, to 17x4x4 codes of 10 bits: 2,720 bits a clip.

python -m train.stage_one --config=configs/moving_mnist_video.py \\
    --workdir=runs/moving_video --config.init=runs/moving_frames \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

A causal tokenizer that starts as the frame-by-frame one of
configs/moving_mnist_frames.py, trained before: the same codes of the same grid, the
same pictures to rounding, and kernels that may learn to look back. What a frame's code
says is then not all that its picture is drawn from. `clip` has 16 frames, 2,560 bits.

Without --config.init it trains from nothing, and is behind: kernels that look back
learn noise first.

One CPU core: 16 minutes, after 11 for the frames. Expected: RESULTS.md has the table.
"""

from configs.moving_mnist_frames import CONFIG as FRAMES
from train.config import replaced
from vqdit.tokenizer import CausalDecoder, CausalEncoder

SHAPE = {
    "channels": 32,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "strides": ((1, 2, 2), (1, 2, 2)),
    "patch": 4,
}

CONFIG = replaced(
    FRAMES,
    {
        "name": "moving_mnist_video",
        "model.encoder": CausalEncoder(**SHAPE, temporal=(False, False, True), out=64),
        "model.decoder": CausalDecoder(**SHAPE, temporal=(False, True, True), out=1),
        "optimizer.peak_lr": 1e-3,
        "optimizer.warmup": 200,
    },
)

VARIANTS = {"clip": {"data.frames": 16}}
