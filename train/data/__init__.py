"""Data: where examples come from, and how they become batches.

The only room that knows TFDS and Grain.
"""

from train.data.audio import Audio
from train.data.augment import (
    ImageAugment,
    RangeAugment,
    SeriesAugment,
    VolumeAugment,
)
from train.data.clean import Cleaned, Cleaning
from train.data.clean_audio import AudioCleaning
from train.data.images import Images
from train.data.normalise import Normaliser, Statistics
from train.data.pipeline import batches, prepare, whole
from train.data.ranges import Ranges
from train.data.series import Series
from train.data.signals import Examples, Signals
from train.data.sources import Source, open_source
from train.data.video import Video
from train.data.volumes import Volumes

__all__ = [
    "Audio",
    "AudioCleaning",
    "Cleaned",
    "Cleaning",
    "ImageAugment",
    "Normaliser",
    "RangeAugment",
    "SeriesAugment",
    "Statistics",
    "VolumeAugment",
    "Examples",
    "Images",
    "Ranges",
    "Series",
    "Signals",
    "Source",
    "Video",
    "Volumes",
    "batches",
    "open_source",
    "prepare",
    "whole",
]
