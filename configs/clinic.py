"""One transformer over a scan, a record with gaps and a finding: any from any others.

python -m train.stage_one --config=configs/clinic_tokenizer.py \\
    --workdir=runs/clinic_volume
python -m train.stage_two --config=configs/clinic.py --workdir=runs/clinic \\
    --config.streams.volume.tokenizer=runs/clinic_volume
python -m train.evaluate --workdir=runs/clinic --crossings --baselines
python -m train.score --workdir=runs/clinic --of=volume --anomaly=calcified,motion \\
    --usual=none --config.data.name=planted_patients

Generated patients (train/sources/generated/patients.py): phantoms with a lesion or
none, a record of five numbers and two categories of which 15 % are missing, and a
finding that the scan tells in part and the record in part. The latents of a scan by
flow, an entry of a record and the finding as one code each, by masks. One CPU core:
twenty minutes; for a GPU there is configs/clinic_fine.py. Expected: RESULTS.md, section
A clinic.
"""

from configs.clinic_tokenizer import CONFIG as TOKENIZER
from train.config import Optimizer, Run, StageTwo, Stream
from vqdit.diffusion import Case, Gaussian, LogitNormal, Masking, Mixture, Scattered
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Labels, Table

CONFIG = StageTwo(
    name="clinic",
    data=TOKENIZER.data,
    model=DiT(width=64, depth=3, block=Block(4)),
    streams={
        "volume": Stream(Gaussian(), times=LogitNormal(), shape=(4, 4, 4, 12)),
        "record": Stream(
            Masking(), Table(bins=16), shape=(7, 1), codes=85, start="codebook"
        ),
        "finding": Stream(Masking(), Labels(5)),
    },
    mixture=Mixture(
        (
            Case(),
            Case(given=0.5, absent=0.25, weight=2.0),
            Case(parts={"record": Scattered()}),
        )
    ),
    balance=True,
    bars=(
        "volume+record_to_finding likeliest auc > volume_to_finding likeliest auc",
        "volume+record_to_finding likeliest auc > record_to_finding likeliest auc",
        "volume_to_record explained > 0",
        "volume_to_record weight_rmse < volume_to_record mean weight_rmse",
    ),
    optimizer=Optimizer(
        peak_lr=2e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=4000, batch=48, log_every=100, save_every=200),
)
