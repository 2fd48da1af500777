"""CIFAR-10 to 32 codes out of 1,024, tied to no place in the image (TiTok).

python -m train.stage_one --config=configs/cifar10_titok.py --workdir=runs/titok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with cifar10 prepared

320 bits an image, half of configs/cifar10_tokenizer.py; the variants spend a quarter
and as many. Expected score: not measured yet. Trained on squared error alone, so
reconstructions are smooth.
"""

from configs.cifar10_tokenizer import CONFIG as CONVOLUTIONAL
from train.config import replaced
from vqdit.tokenizer import TiTokDecoder, TiTokEncoder

SHAPE = {"patch": 4, "width": 192, "depth": 6, "heads": 3}

MODEL = CONVOLUTIONAL.model.clone(
    encoder=TiTokEncoder(tokens=32, **SHAPE, out=192),
    decoder=TiTokDecoder(size=(32, 32), **SHAPE, out=3),
)
CONFIG = replaced(CONVOLUTIONAL, {"name": "cifar10_titok", "model": MODEL})

VARIANTS = {f"tokens_{count}": {"model.encoder.tokens": count} for count in (16, 64)}
