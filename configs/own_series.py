"""A CSV file, or a folder of them: windows of 256 rows, 64 codes of 10 bits each.

python -m train.stage_one --config=configs/own_series.py \\
    --config.data.data_dir=readings.csv --config.data.channels=3 \\
    --config.model.decoder.out=3 --workdir=runs/series

Every column is a channel but that of the times, `--config.data.time=NAME` with
`--config.data.rate=SAMPLES_A_SECOND`, where there is one; `--config.data.columns=a,b,c`
takes some. The last fifth of one file is held out, of a folder a fifth of its files.
Gaps and spikes are found, and have no loss. Expected score: that of the file; none was
measured.
"""

from configs.series_generated import CONFIG as GENERATED
from train.config import replaced
from train.modalities import Cleaning, Series

CONFIG = replaced(
    GENERATED,
    {
        "name": "own_series",
        "data": Series(
            name="folder", stride=64, cleaning=Cleaning(outliers="missing", limit=6.0)
        ),
        "run.batch": 32,
    },
)
