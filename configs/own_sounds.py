"""A folder of recordings of one's own: 64 codes of 15 bits a second.

python -m train.stage_one --config=configs/own_sounds.py \\
    --config.data.data_dir=recordings --workdir=runs/sounds

Recordings of any rate become 16 kHz, and windows of 1.024 s are cut out of them. A
fifth of the files is held out. The tokenizer sees 64 frames by 64 mel bands as a
picture; Griffin-Lim finds the phases on the way back. Expected score: that of the
recordings; none was measured.
"""

from configs.speech_mel import CONFIG as SPEECH
from train.config import replaced
from train.modalities import Audio
from vqdit.tokenizer import LogMel

CONFIG = replaced(
    SPEECH,
    {
        "name": "own_sounds",
        "data": Audio(name="folder", rate=16_000, length=16_384, crop="random"),
        "model.front": LogMel(rate=16_000, window=512, hop=256, bands=64),
        "run.steps": 3000,
    },
)
