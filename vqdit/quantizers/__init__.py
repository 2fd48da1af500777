"""Quantizers: z (*b, d) -> Quantized(latents, codes, losses, metrics).

A quantizer is a Linen module with `__call__(z, train=, key=)`, `decode(codes)`, and the
properties `dim` and `code_counts`. `None` in its place means continuous latents.
"""

from vqdit.quantizers.fsq import FSQ
from vqdit.quantizers.health import UsageWindow, usage_metrics
from vqdit.quantizers.kmeans import kmeans
from vqdit.quantizers.quantized import Quantized, nearest, straight_through
from vqdit.quantizers.vq import EMAVectorQuantizer, VectorQuantizer

__all__ = [
    "FSQ",
    "EMAVectorQuantizer",
    "Quantized",
    "UsageWindow",
    "VectorQuantizer",
    "kmeans",
    "nearest",
    "straight_through",
    "usage_metrics",
]
