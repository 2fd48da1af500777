"""Every quantizer on CIFAR-10: 8x8 sites of 10 bits, one fixed budget.

python -m train.ablate --config=configs/quantizers_cifar10.py \\
    --workdir=runs/quantizers_cifar10 --probe=250 \\
    --config.data.data_dir=DIR        # a TFDS data_dir with cifar10 prepared

One CPU core: four minutes a row. Expected: RESULTS.md has the table.
"""

from configs.quantizers import family
from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

CONFIG = StageOne(
    name="quantizers_cifar10",
    data=Images(name="cifar10", size=32, channels=3, flip=True, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(
            channels=32,
            multipliers=(1, 2),
            blocks=1,
            mid_attention=False,
            patch=2,
            out=64,
        ),
        decoder=ConvDecoder(
            channels=32,
            multipliers=(1, 2),
            blocks=1,
            mid_attention=False,
            patch=2,
            out=3,
        ),
        quantizer=EMAVectorQuantizer(
            num_codes=1024, dim=8, decay=0.97, start="kmeans", window=65_536
        ),
    ),
    losses=Weights(pixel="l2", commit=0.25),
    kmeans=KMeansInit(step=60, samples=32_768, iterations=15),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=300, batch=64, save_every=300),
)

VARIANTS = family(
    CONFIG, levels=(8, 8, 4, 4), books=2, scales=(1, 2, 4, 8), scale_codes=256
)
