"""Modalities: one file a kind of signal, for training and for files alike."""

from train.modalities.audio import Audio
from train.modalities.augment import (
    ImageAugment,
    RangeAugment,
    SeriesAugment,
    VolumeAugment,
)
from train.modalities.gaps import Cleaned, Cleaning
from train.modalities.image import Images
from train.modalities.modality import Batch, Modality, Record
from train.modalities.normalise import Normaliser, Statistics
from train.modalities.range import Ranges
from train.modalities.rows import Tables
from train.modalities.series import Series
from train.modalities.sound import AudioCleaning
from train.modalities.video import Video
from train.modalities.volume import Volumes

__all__ = [
    "Images",
    "Audio",
    "Video",
    "Series",
    "Volumes",
    "Ranges",
    "Tables",
    "ImageAugment",
    "RangeAugment",
    "SeriesAugment",
    "VolumeAugment",
    "AudioCleaning",
    "Cleaning",
    "Cleaned",
    "Modality",
    "Record",
    "Batch",
    "Normaliser",
    "Statistics",
]
