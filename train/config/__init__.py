"""What was asked for: the experiment, the command line, and the folder of a run."""

from train.config.evaluations import Reconstructions, Samples
from train.config.experiment import (
    Adversarial,
    Experiment,
    KMeansInit,
    Mesh,
    Run,
    StageOne,
    StageTwo,
    Stream,
)
from train.config.file import load_config, variants
from train.config.optimizers import SGD, Adafactor, AdamW, Muon, Optimizer
from train.config.override import replaced
from train.config.search import Between, Choice
from train.config.weights import Ramp, Weights

__all__ = [
    "Experiment",
    "StageOne",
    "StageTwo",
    "Stream",
    "Weights",
    "Ramp",
    "Adversarial",
    "KMeansInit",
    "Run",
    "Reconstructions",
    "Samples",
    "Mesh",
    "Optimizer",
    "AdamW",
    "Adafactor",
    "Muon",
    "SGD",
    "load_config",
    "variants",
    "replaced",
    "Between",
    "Choice",
]
