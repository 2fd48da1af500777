"""Figures of merit: functions of arrays, knowing nothing of models, files or devices.

They are for evaluation, outside jit: they check what they are given and return Python
floats or NumPy arrays, so a figure can go straight into a report.
"""

from vqdit.metrics.audio import kbps, log_mel_distance, si_sdr
from vqdit.metrics.codes import code_counts, entropy_bits, perplexity, usage
from vqdit.metrics.frechet import FeatureStatistics, frechet_distance, statistics
from vqdit.metrics.image import psnr, psnr_per_image, ssim, ssim_per_image
from vqdit.metrics.neighbours import memorisation_ratio, nearest

__all__ = [
    "FeatureStatistics",
    "code_counts",
    "entropy_bits",
    "frechet_distance",
    "kbps",
    "log_mel_distance",
    "memorisation_ratio",
    "nearest",
    "perplexity",
    "psnr",
    "psnr_per_image",
    "si_sdr",
    "ssim",
    "ssim_per_image",
    "statistics",
    "usage",
]
