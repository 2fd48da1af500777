"""One transformer over digits and their names: either from the other, both, or one.

python -m train.stage_one --config=configs/demo_tokenizer.py --workdir=runs/digits_tok
python -m train.stage_two --config=configs/digits_joint.py \\
    --workdir=runs/digits_joint --config.streams.image.tokenizer=runs/digits_tok
python -m train.evaluate --workdir=runs/digits_joint --crossings=True --steps=25 \\
    --solver="{'name': Confidence(noise=0.0, temperature=0.1)}"

The 4x4 latents of an 8x8 digit by flow, and five bytes of its name, "nil" to "nine", by
masks. Half of the examples are noised at times of their own, in the others a stream is
given or absent. Two CPU cores: two minutes. Expected: RESULTS.md, section demo.
"""

from configs.demo_flow import CONFIG as FLOW
from configs.demo_masked import MASKING
from train.config import Stream, replaced
from vqdit.diffusion import Case, Mixture
from vqdit.tokenizer import Bytes

NAMES = ("nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

CONFIG = replaced(
    FLOW,
    {
        "name": "digits_joint",
        "data.words": NAMES,
        "model.classes": 0,
        "streams": {
            "image": FLOW.streams["image"],
            "name": Stream(MASKING, tokenizer=Bytes(5)),
        },
        "mixture": Mixture((Case(), Case(given=0.5, absent=0.3))),
        "run.steps": 2500,
    },
)

VARIANTS = {"own": {"model.block.own": ("mlp", "modulation")}}
