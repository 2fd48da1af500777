"""Scans of the clinic, 16 x 16 x 16 voxels, to 8 x 8 x 8 latents of four channels.

python -m train.stage_one --config=configs/clinic_fine_tokenizer.py \\
    --workdir=runs/clinic_fine_tok

See configs/clinic_fine.py. Expected: 30.1 dB in training. One H100: two minutes.
"""

from configs.clinic_tokenizer import CONFIG as COARSE
from train.config import replaced

CONFIG = replaced(
    COARSE,
    {
        "name": "clinic_fine_tokenizer",
        "model.encoder.patch": 2,
        "model.decoder.patch": 2,
        "model.dim": 4,
        "run.steps": 1500,
    },
)
