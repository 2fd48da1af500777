"""Every quantizer on MNIST: 7x7 sites of 9 bits, one fixed budget.

python -m train.ablate --config=configs/quantizers_mnist.py \\
    --workdir=runs/quantizers_mnist --probe=250 \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

One CPU core: three to four minutes a row. Expected: RESULTS.md has the table.
"""

from configs.quantizers import base, family
from train.modalities import Images

CONFIG = base(
    "quantizers_mnist",
    Images(name="mnist", size=28, channels=1, threads=1),
    channels=16,
    codes=512,
    dim=4,
    samples=16_384,
)

VARIANTS = family(
    CONFIG, levels=(8, 8, 8), books=3, scales=(1, 2, 4, 7), scale_codes=64
)
