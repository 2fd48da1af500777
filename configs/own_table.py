"""A table of one's own, a row an example: new rows, and the gaps of rows filled.

python -m train.inspect   --config=configs/own_table.py \\
    --config.data.data_dir=patients.csv --out=looked
python -m train.stage_two --config=configs/own_table.py \\
    --config.data.data_dir=patients.csv --workdir=runs/table
python -m train.sample    --workdir=runs/table --given.record=patients.csv \\
    --want=record --out=filled.csv

A CSV or Parquet file whose columns have names; numbers and categories are told apart by
what stands there, and an empty entry is missing. Any entry is then drawn given any
others, so that a column of classes is one among them. data.columns chooses columns.

Two CPU cores, ten columns: about three minutes. Expected score: that of the table; none
was measured.
"""

from train.config import Optimizer, Run, StageTwo, Stream
from train.modalities import Tables
from vqdit.diffusion import Case, Masking, Mixture, Scattered
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Table

CONFIG = StageTwo(
    name="own_table",
    data=Tables(holdout=0.1),
    model=DiT(width=64, depth=3, block=Block(4)),
    streams={"record": Stream(Masking(), Table(bins=16))},
    mixture=Mixture((Case(), Case(parts={"record": Scattered()}))),
    optimizer=Optimizer(peak_lr=1e-3, warmup=100, b2=0.99, ema=0.998),
    run=Run(steps=2000, batch=64, save_every=500),
)
