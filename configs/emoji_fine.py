"""configs/emoji_joint.py over finer latents, trained for longer.

SET="--config.data.data_dir=DIR --config.streams.image.tokenizer=runs/emoji_fine_tok"
python -m train.stage_one --config=configs/emoji_fine_tokenizer.py \\
    --workdir=runs/emoji_fine_tok --config.data.data_dir=DIR
python -m train.encode --config=configs/emoji_fine.py $SET --out=runs/emoji_cache
python -m train.stage_two --config=configs/emoji_fine.py $SET \\
    --config.cache=runs/emoji_cache --workdir=runs/emoji_fine

Patches of 2x2 latents are as many tokens as the coarse ones. One H100: four minutes.
Expected: RESULTS.md, section Emoji and their names.
"""

from configs.emoji_joint import CONFIG as COARSE
from train.config import Stream, replaced
from vqdit.diffusion import Gaussian, LogitNormal

CONFIG = replaced(
    COARSE,
    {
        "name": "emoji_fine",
        "streams.image": Stream(
            Gaussian(), times=LogitNormal(), shape=(16, 16, 4), patch=2
        ),
        "optimizer.ema": 0.999,
        "run.steps": 10_000,
        "run.batch": 128,
    },
)
