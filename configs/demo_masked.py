"""The demo's masked DiT: masked diffusion on the 4x4 codes of 8x8 digits.

python -m train.stage_two --config=configs/demo_masked.py \\
    --workdir=runs/digits_masked --config.streams.image.tokenizer=runs/digits_tok

Two CPU cores: about two minutes. Expected: see RESULTS.md, section demo. At this budget
MaskGIT's unweighted loss draws better digits than the bound, which is a variant.
"""

from configs.demo_flow import CONFIG as FLOW
from train.config import Stream, replaced
from vqdit.diffusion import Cosine, Masking

MASKING = Masking(schedule=Cosine(), weight="none")

CONFIG = replaced(
    FLOW,
    {
        "name": "demo_masked",
        "streams.image": Stream(MASKING, shape=(4, 4, 1), codes=64),
        "run.steps": 2500,
    },
)

VARIANTS = {"elbo": {"streams.image.process": Masking(schedule=Cosine())}}
