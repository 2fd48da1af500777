"""Spoken digits as a waveform: 125 latents a second in 4 residual books, 5 kbps.

python -m train.stage_one --config=configs/speech_wave.py --workdir=runs/speech_wave \\
    --config.data.data_dir=DIR        # a TFDS data_dir with spoken_digit prepared
python -m train.evaluate --workdir=runs/speech_wave

The network learns its own transform of the samples, phases included. In training each
clip is rebuilt from 1 to 4 of the books, so that any prefix of them decodes: 1.25 kbps
a book. Takes 0 to 4 of every speaker and digit are held out.

A step takes 2.2 s on one CPU core: this is for an accelerator, and a CPU has
configs/speech_vocos.py. Expected: not measured.
"""

from train.config import KMeansInit, Optimizer, Run, StageOne, Weights
from train.config.override import replaced
from train.modalities import Audio
from vqdit.quantizers import EMAVectorQuantizer, ResidualQuantizer
from vqdit.tokenizer import Tokenizer, WaveDecoder, WaveEncoder

CONFIG = StageOne(
    name="speech_wave",
    data=Audio(
        name="spoken_digit", rate=8000, length=6144, crop="random", holdout="takes:0-4"
    ),
    model=Tokenizer(
        encoder=WaveEncoder(channels=16, strides=(4, 4, 4), out=64),
        decoder=WaveDecoder(channels=16, strides=(4, 4, 4), out=1),
        quantizer=ResidualQuantizer(
            book=EMAVectorQuantizer(
                num_codes=1024, dim=16, decay=0.97, start="kmeans", window=32_768
            ),
            count=4,
            dropout=0.5,
        ),
    ),
    # The samples weigh most: spectra alone leave the phases open.
    losses=Weights(pixel="l1", reconstruction=30.0, stft=1.0, mel=1.0),
    kmeans=KMeansInit(step=200, samples=16_384, iterations=15),
    optimizer=Optimizer(peak_lr=2e-3, schedule="cosine", warmup=50, b2=0.99, ema=0.99),
    run=Run(steps=6000, batch=16, save_every=1000),
)

VARIANTS = {
    "speaker": replaced(CONFIG, {"data.holdout": "speaker:theo"}),
    "no_dropout": replaced(CONFIG, {"model.quantizer.dropout": 0.0}),
}
