"""CIFAR-10 to 32 codes out of 1,024, tied to no place in the image (TiTok).

python -m train.stage_one --config=configs/cifar10_titok.py --workdir=runs/titok \\
    --config.data.data_dir=DIR        # a TFDS data_dir with cifar10 prepared

320 bits an image, half of configs/cifar10_tokenizer.py; the variants spend a quarter
and as many. Expected score: not measured yet. Trained on squared error alone, so
reconstructions are smooth.
"""

import dataclasses

from configs.cifar10_tokenizer import CONFIG as CONVOLUTIONAL
from train.config import StageOne
from vqdit.tokenizer import TiTokDecoder, TiTokEncoder

SHAPE = {"patch": 4, "width": 192, "depth": 6, "heads": 3}

CONFIG: StageOne = dataclasses.replace(
    CONVOLUTIONAL,
    name="cifar10_titok",
    model=CONVOLUTIONAL.model.clone(
        encoder=TiTokEncoder(tokens=32, **SHAPE, out=192),
        decoder=TiTokDecoder(size=(32, 32), **SHAPE, out=3),
    ),
)


def _tokens(count: int) -> StageOne:
    encoder = CONFIG.model.encoder.clone(tokens=count)
    return dataclasses.replace(CONFIG, model=CONFIG.model.clone(encoder=encoder))


VARIANTS = {"tokens_16": _tokens(16), "tokens_64": _tokens(64)}
