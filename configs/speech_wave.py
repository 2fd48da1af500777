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

from configs import speech_vocos
from train.config import replaced
from vqdit.tokenizer import WaveDecoder, WaveEncoder

SHAPE = {"channels": 16, "strides": (4, 4, 4)}

CONFIG = replaced(
    speech_vocos.CONFIG,
    {
        "name": "speech_wave",
        "model.encoder": WaveEncoder(**SHAPE, out=64),
        "model.decoder": WaveDecoder(**SHAPE, out=1),
        "model.quantizer.dropout": 0.5,
        "losses.reconstruction": 30.0,
        "losses.mel": 1.0,
        "optimizer.peak_lr": 2e-3,
        "optimizer.warmup": 50,
        "run.steps": 6000,
        "run.batch": 16,
        "run.save_every": 1000,
    },
)

VARIANTS = speech_vocos.VARIANTS
