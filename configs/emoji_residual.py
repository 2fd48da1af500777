"""64-pixel emoji as a codec: 8x8 sites of one to six books of 8 bits.

python -m train.stage_one --config=configs/emoji_residual.py \\
    --workdir=runs/emoji_residual \\
    --config.data.data_dir=DIR        # a TFDS data_dir with noto_emoji prepared
python -m train.rates --workdir=runs/emoji_residual

Training rebuilds half of the pictures from a prefix of the books, so that every rate
decodes. Expected: 22.8 dB at 1,168 bits and 23.6 dB at 1,581, above JPEG and WebP by
more than one; RESULTS.md has all rates.
"""

from configs.cifar10_residual import CONFIG as CIFAR10
from train.config import replaced
from vqdit.tokenizer import ViTDecoder, ViTEncoder

SHAPE = {"patch": 8, "width": 128, "depth": 4, "heads": 4}

CONFIG = replaced(
    CIFAR10,
    {
        "name": "emoji_residual",
        "data.name": "noto_emoji",
        "data.size": 64,
        "model.encoder": ViTEncoder(**SHAPE, out=128),
        "model.decoder": ViTDecoder(**SHAPE, out=3),
        "model.quantizer.book.dim": 16,
        "kmeans.step": 200,
        "optimizer.warmup": 100,
        "run.steps": 3000,
        "run.batch": 64,
        "run.save_every": 500,
    },
)
