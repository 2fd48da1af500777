"""Data: where examples come from, and how they become batches.

The only room that knows TFDS and Grain.
"""

from train.data.audio import Audio
from train.data.images import Images
from train.data.pipeline import batches, prepare, whole
from train.data.signals import Examples, Signals
from train.data.sources import Source, open_source

__all__ = [
    "Audio",
    "Examples",
    "Images",
    "Signals",
    "Source",
    "batches",
    "open_source",
    "prepare",
    "whole",
]
