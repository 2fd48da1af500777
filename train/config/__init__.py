"""What was asked for: the experiment, the command line, and the folder of a run."""

from train.config.experiment import (
    AdamW,
    Adversarial,
    Experiment,
    KMeansInit,
    Mesh,
    Optimizer,
    Run,
    StageOne,
    StageTwo,
    Stream,
    Weights,
)
from train.config.file import load_config, variants
from train.config.override import replaced
