"""Every quantizer on CIFAR-10: 8x8 sites of 10 bits, one fixed budget.

python -m train.ablate --config=configs/quantizers_cifar10.py \\
    --workdir=runs/quantizers_cifar10 --probe=250 \\
    --config.data.data_dir=DIR        # a TFDS data_dir with cifar10 prepared

One CPU core: four minutes a row. Expected: RESULTS.md has the table.
"""

from configs.quantizers import family
from configs.quantizers_mnist import CONFIG as MNIST
from train.config import replaced
from train.modalities import Images

CONFIG = replaced(
    MNIST,
    {
        "name": "quantizers_cifar10",
        "data": Images(name="cifar10", size=32, channels=3, flip=True, threads=1),
        "model.encoder.channels": 32,
        "model.encoder.out": 64,
        "model.decoder.channels": 32,
        "model.decoder.out": 3,
        "model.quantizer.num_codes": 1024,
        "model.quantizer.dim": 8,
        "model.quantizer.window": 65_536,
        "kmeans.samples": 32_768,
    },
)

VARIANTS = family(
    CONFIG, levels=(8, 8, 4, 4), books=2, scales=(1, 2, 4, 8), scale_codes=256
)
