"""Modalities: one file a kind of signal, for training and for files alike."""

from train.modalities.audio import Audio
from train.modalities.image import Images
from train.modalities.modality import Modality
from train.modalities.range import Ranges
from train.modalities.record import Batch, Record
from train.modalities.rows import Tables
from train.modalities.series import Series
from train.modalities.transforms.augment import (
    ImageAugment,
    RangeAugment,
    SeriesAugment,
    VolumeAugment,
)
from train.modalities.transforms.gaps import Cleaned, Cleaning
from train.modalities.transforms.normalise import Normaliser, Statistics
from train.modalities.transforms.sound import AudioCleaning
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
