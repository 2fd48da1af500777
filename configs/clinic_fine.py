"""configs/clinic.py over finer latents of a scan, trained for longer.

SET=--config.streams.volume.tokenizer=runs/clinic_fine_tok
python -m train.stage_one --config=configs/clinic_fine_tokenizer.py \\
    --workdir=runs/clinic_fine_tok
python -m train.encode --config=configs/clinic_fine.py $SET --out=runs/clinic_fine_cache
python -m train.stage_two --config=configs/clinic_fine.py $SET \\
    --config.cache=runs/clinic_fine_cache --workdir=runs/clinic_fine

Patches of 2 x 2 x 2 latents are as many tokens as the coarse ones, and what they lose
of a scan tells calcifications (train.score --anomaly). One H100: four minutes.
Expected: RESULTS.md, section A clinic.
"""

from configs.clinic import CONFIG as COARSE
from train.config import Stream, replaced
from vqdit.diffusion import Gaussian, LogitNormal

CONFIG = replaced(
    COARSE,
    {
        "name": "clinic_fine",
        "streams.volume": Stream(
            Gaussian(), times=LogitNormal(), shape=(8, 8, 8, 4), patch=2
        ),
        "optimizer.ema": 0.999,
        "run.steps": 5000,
    },
)
