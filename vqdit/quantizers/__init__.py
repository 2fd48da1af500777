"""Quantizers: z (*b, d) -> Quantized(latents, codes, losses, metrics).

A quantizer is a Linen module with `__call__(z, train=, key=)`, `decode(codes)`, and the
properties `dim` and `code_counts`. `None` in its place means continuous latents.
"""

from vqdit.quantizers.bsq import BSQ
from vqdit.quantizers.codebook.centroids import kmeans
from vqdit.quantizers.codebook.estimators import rotation, straight_through
from vqdit.quantizers.codebook.health import UsageWindow, usage_metrics
from vqdit.quantizers.codebook.search import nearest
from vqdit.quantizers.fsq import FSQ
from vqdit.quantizers.grouped import GroupedQuantizer
from vqdit.quantizers.gumbel import GumbelQuantizer
from vqdit.quantizers.ibq import IBQ
from vqdit.quantizers.lfq import LFQ
from vqdit.quantizers.multiscale import MultiScaleQuantizer
from vqdit.quantizers.projected import Projected
from vqdit.quantizers.quantized import Quantized
from vqdit.quantizers.residual import ResidualQuantizer
from vqdit.quantizers.residual_fsq import ResidualFSQ
from vqdit.quantizers.simvq import SimVQ
from vqdit.quantizers.vq import EMAVectorQuantizer, VectorQuantizer

__all__ = [
    "VectorQuantizer",
    "EMAVectorQuantizer",
    "FSQ",
    "LFQ",
    "BSQ",
    "GumbelQuantizer",
    "IBQ",
    "SimVQ",
    "ResidualQuantizer",
    "ResidualFSQ",
    "GroupedQuantizer",
    "MultiScaleQuantizer",
    "Projected",
    "Quantized",
    "straight_through",
    "rotation",
    "nearest",
    "kmeans",
    "UsageWindow",
    "usage_metrics",
]
