"""Spoken digits as a waveform: 125 latents a second in 4 residual books, 5 kbps.

python -m train.stage_one --config=configs/speech_vocos.py \\
    --workdir=runs/speech_vocos \\
    --config.data.data_dir=DIR        # a TFDS data_dir with spoken_digit prepared
python -m train.evaluate --workdir=runs/speech_vocos

The network sees and draws short-time spectra, phases included, and an inverse transform
makes the samples. In training a quarter of the clips are rebuilt from 1 to 4 of the
books, so that any prefix of them decodes: 1.25 kbps a book. Takes 0 to 4 of every
speaker and digit are held out.

Strided convolutions (configs/speech_wave.py) see a bounded stretch of the signal and so
take recordings of any length in chunks; transformers see all of a clip.

One CPU core, shared: 59 minutes. Expected, as measured once on the 300 held-out
clips: SI-SDR 7.1 dB, log-mel distance 0.210 nat, digits heard in 96.0 % of the
reconstructions and in 99.7 % of the originals.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.modalities import Audio
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import Tokenizer, VocosDecoder, VocosEncoder

SHAPE = {"window": 256, "hop": 64, "width": 192, "depth": 6, "heads": 6}

CONFIG = StageOne(
    name="speech_vocos",
    data=Audio(
        name="spoken_digit", rate=8000, length=6144, crop="random", holdout="takes:0-4"
    ),
    model=Tokenizer(
        encoder=VocosEncoder(**SHAPE, out=64),
        decoder=VocosDecoder(**SHAPE, out=1),
        quantizer=ResidualQuantizer(
            book=EMAVectorQuantizer(
                num_codes=1024, dim=16, decay=0.97, start="kmeans", window=32_768
            ),
            count=4,
            dropout=0.25,
        ),
    ),
    # The samples weigh most: spectra alone leave the phases open.
    losses=Weights(pixel="l1", reconstruction=50.0, stft=1.0, mel=3.0),
    kmeans=KMeansInit(step=200, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.99),
    run=Run(steps=9000, batch=8, save_every=900),
)

VARIANTS = {
    "speaker": {"data.holdout": "speaker:theo"},
    "no_dropout": {"model.quantizer.dropout": 0.0},
}
