"""One transformer over emoji and their names: either from the other, both, or one.

python -m train.stage_one --config=configs/emoji_tokenizer.py \\
    --workdir=runs/emoji_tok --config.data.data_dir=DIR
python -m train.stage_two --config=configs/emoji_joint.py \\
    --workdir=runs/emoji_joint --config.data.data_dir=DIR \\
    --config.streams.image.tokenizer=runs/emoji_tok
python -m train.score --workdir=runs/emoji_joint --of=text --given=image --rank=100 \\
    --draws=4 --baselines=True

The 8x8 latents of a picture by flow, and its name in byte pairs by masks. A quarter of
the examples are noised at times of their own, in others a stream is given or absent.
The third command ranks the true picture of each name among 100; with the two streams
changed about, the true name of each picture. One CPU core: 20 minutes; for a GPU there
is configs/emoji_fine.py. Expected: RESULTS.md, section Emoji and their names.
"""

from configs.captions import CONFIG as CAPTIONS
from train.config import Run, Stream, replaced
from vqdit.diffusion import Case, Gaussian, LogitNormal, Mixture

CONFIG = replaced(
    CAPTIONS,
    {
        "name": "emoji_joint",
        "streams": {
            "image": Stream(Gaussian(), times=LogitNormal(), shape=(8, 8, 8)),
            "text": CAPTIONS.streams["text"],
        },
        "mixture": Mixture((Case(), Case(given=0.5, absent=0.2, weight=3.0))),
        "balance": True,
        "run": Run(steps=3200, batch=32, save_every=500),
    },
)
