"""Trained models in use: codec, generator, judge; their contract; bundles on disk."""

from vqdit.trained.bundle import load, save
from vqdit.trained.codec import Codec
from vqdit.trained.contract import LatentContract
from vqdit.trained.extractor import Extractor
from vqdit.trained.generator import Generator
from vqdit.trained.inverter import Inverter
from vqdit.trained.judge import Judge
from vqdit.trained.sampler import Sampler
from vqdit.trained.scorer import Score, Scorer

__all__ = [
    "load",
    "save",
    "Codec",
    "Generator",
    "Sampler",
    "Inverter",
    "Scorer",
    "Score",
    "Judge",
    "Extractor",
    "LatentContract",
]
