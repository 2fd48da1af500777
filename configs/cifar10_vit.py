"""CIFAR-10 to 8x8 codes out of 1,024 by transformers over 4x4 patches (ViT-VQGAN).

python -m train.stage_one --config=configs/cifar10_vit.py --workdir=runs/vit \\
    --config.data.data_dir=DIR        # a TFDS data_dir with cifar10 prepared

640 bits an image, as configs/cifar10_tokenizer.py. Expected score: not measured yet.
Trained on squared error alone, so reconstructions are smooth.
"""

from configs.cifar10_tokenizer import CONFIG as CONVOLUTIONAL
from train.config import replaced
from vqdit.tokenizer import ViTDecoder, ViTEncoder

SHAPE = {"patch": 4, "width": 192, "depth": 6, "heads": 3}

MODEL = CONVOLUTIONAL.model.clone(
    encoder=ViTEncoder(**SHAPE, out=192), decoder=ViTDecoder(**SHAPE, out=3)
)
CONFIG = replaced(CONVOLUTIONAL, {"name": "cifar10_vit", "model": MODEL})
