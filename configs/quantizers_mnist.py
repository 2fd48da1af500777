"""Every quantizer on MNIST: 7x7 sites of 9 bits, one fixed budget.

python -m train.ablate --config=configs/quantizers_mnist.py \\
    --workdir=runs/quantizers_mnist --probe=250 \\
    --config.data.data_dir=DIR        # a TFDS data_dir with mnist prepared

One CPU core: three to four minutes a row. Expected: RESULTS.md has the table.
"""

from configs.quantizers import family
from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Images
from vqdit.quantizers import EMAVectorQuantizer
from vqdit.tokenizer import ConvDecoder, ConvEncoder, Tokenizer

SHAPE = {
    "channels": 16,
    "multipliers": (1, 2),
    "blocks": 1,
    "mid_attention": False,
    "patch": 2,
}

CONFIG = StageOne(
    name="quantizers_mnist",
    data=Images(name="mnist", size=28, channels=1, threads=1),
    model=Tokenizer(
        encoder=ConvEncoder(**SHAPE, out=32),
        decoder=ConvDecoder(**SHAPE, out=1),
        quantizer=EMAVectorQuantizer(
            num_codes=512, dim=4, decay=0.97, start="kmeans", window=32_768
        ),
    ),
    losses=Weights(pixel="l2", quantizer={"commit": 0.25}),
    kmeans=KMeansInit(step=60, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=300, batch=64, save_every=300),
)

VARIANTS = family(
    CONFIG, levels=(8, 8, 8), books=3, scales=(1, 2, 4, 7), scale_codes=64
)
