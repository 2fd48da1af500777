"""configs/spoken_written.py by Muon, with MLPs of each stream's own.

Tokenizers and SET as there, and a cache of more variants:

python -m train.encode --config=configs/spoken_written.py $SET --out=runs/cache48 \\
    --epochs=48
python -m train.stage_two --config=configs/spoken_written_muon.py $SET \\
    --config.cache=runs/cache48 --workdir=runs/joint_muon

More pictures alone are asked for, and fewer words of clips. One CPU core: 72 minutes, a
third more than there, and better in all that was measured, of one seed. Expected:
RESULTS.md, section Digits written, spoken and spelled.
"""

import dataclasses

from configs.spoken_written import CONFIG as ADAM
from train.config import Muon, replaced
from vqdit.diffusion import Mixture

WEIGHTS = {3: 2.0, 4: 0.75, 5: 0.35}  # of these cases; others as there

CONFIG = replaced(
    ADAM,
    {
        "name": "spoken_written_muon",
        "model.block.own": ("mlp", "modulation"),
        "mixture": Mixture(
            tuple(
                dataclasses.replace(case, weight=WEIGHTS.get(i, case.weight))
                for i, case in enumerate(ADAM.mixture.cases)
            )
        ),
        "optimizer.rule": Muon(),
        "optimizer.peak_lr": 4e-3,
    },
)
