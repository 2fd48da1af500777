"""Figures of merit: functions of arrays, knowing nothing of models, files or devices.

They are for evaluation, outside jit: they check what they are given and return Python
floats or NumPy arrays, so a figure can go straight into a report.
"""

from vqdit.metrics.audio import kbps, log_mel_distance, si_sdr
from vqdit.metrics.codes import (
    code_counts,
    entropy_bits,
    entropy_of,
    perplexity,
    usage,
    usage_of,
)
from vqdit.metrics.frechet import (
    FeatureStatistics,
    feature_sums,
    frechet_distance,
    statistics,
)
from vqdit.metrics.histogram import Histogram
from vqdit.metrics.image import (
    psnr,
    psnr_per_image,
    squared_error_per_image,
    ssim,
    ssim_per_image,
)
from vqdit.metrics.neighbours import nearest_neighbours, neighbourhoods

__all__ = [
    "psnr",
    "psnr_per_image",
    "squared_error_per_image",
    "ssim",
    "ssim_per_image",
    "si_sdr",
    "log_mel_distance",
    "kbps",
    "usage",
    "usage_of",
    "code_counts",
    "entropy_bits",
    "entropy_of",
    "perplexity",
    "FeatureStatistics",
    "feature_sums",
    "statistics",
    "frechet_distance",
    "nearest_neighbours",
    "neighbourhoods",
    "Histogram",
]
