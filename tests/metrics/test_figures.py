"""What figures come as."""

import json

import numpy as np

from vqdit import metrics
from vqdit.metrics.histogram import DECIBELS, DISTANCES


def test_figures_are_python_floats_that_a_report_can_hold():
    """NumPy's scalars of 32 bits cannot be written as JSON."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 2, 8, 8, 1)).astype(np.float32)
    codes, x = np.array([0, 1, 1, 3]), rng.normal(size=(12, 2)).astype(np.float32)
    features = metrics.statistics(x)
    figures = [
        metrics.psnr(a, b),
        metrics.ssim(a, b),
        metrics.usage(codes, 4),
        metrics.perplexity(codes, 4),
        metrics.entropy_bits(codes, 4),
        metrics.frechet_distance(features, features),
        metrics.kbps(640, 8192, 8000),
        *metrics.neighbourhoods(x, x + 0.1).values(),
    ]
    for histogram in (DECIBELS, DISTANCES):
        counts = histogram.counts(np.abs(x[:, 0]))
        figures += [histogram.median(counts), histogram.below(counts, 0.5)]
        figures += [histogram.median(0 * counts), histogram.below(0 * counts, 0.5)]
    assert {type(figure) for figure in figures} == {float}
    json.dumps(figures)
    for each in (metrics.psnr_per_image, metrics.ssim_per_image):
        assert type(each(a, b)) is np.ndarray and each(a, b).shape == (2,)
