"""Every quantizer at the same bits a site, for the tables of quantizers_*.py.

Where a method cannot have just as many codes it has the nearest below, and the table's
column of bits says so.
"""

import math

import flax.linen as nn

from train.config import StageOne
from vqdit.quantizers import (
    BSQ,
    FSQ,
    IBQ,
    LFQ,
    GroupedQuantizer,
    GumbelQuantizer,
    MultiScaleQuantizer,
    ResidualFSQ,
    ResidualQuantizer,
    SimVQ,
    VectorQuantizer,
)


def family(
    chosen: StageOne,
    levels: tuple[int, ...],
    books: int,
    scales: tuple[int, ...],
    scale_codes: int,
) -> dict[str, dict[str, nn.Module]]:
    """The variants of an experiment whose quantizer is an EMAVectorQuantizer.

    levels: FSQ's, of about as many codes. books: that the bits are divided over, for
    residual and grouped ones. scales, scale_codes: of the multi-scale one.
    """
    own = chosen.model.quantizer
    codes, dim = own.num_codes, own.dim
    bits = round(math.log2(codes))
    small = own.clone(num_codes=2 ** (bits // books))
    # A codebook that learns by gradient, from k-means as the base.
    start = {"start": "kmeans", "window": own.window}
    gradient = VectorQuantizer(codes, dim, **start)
    quantizers = {
        "cosine": own.clone(cosine=True),
        "rotation": own.clone(estimator="rotation"),
        "split": own.clone(revive="split"),
        "normal_start": own.clone(start="normal"),
        "gradient": gradient,
        "gradient_entropy": gradient.clone(entropy=True),
        "gradient_orthogonal": gradient.clone(orthogonal=True),
        "gumbel": GumbelQuantizer(codes, dim, window=own.window),
        "ibq": IBQ(codes, dim, by="distance", revive="batch", **start),
        "simvq": SimVQ(codes, dim, revive="batch", **start),
        "residual": ResidualQuantizer(small, books),
        "grouped": GroupedQuantizer(small.clone(dim=max(dim // 2, 1)), books),
        "multi_scale": MultiScaleQuantizer(
            gradient.clone(num_codes=scale_codes), scales
        ),
        "fsq": FSQ(levels, window=own.window),
        "residual_fsq": ResidualFSQ((2,) * (bits // books), books, window=own.window),
        "lfq": LFQ(bits, window=own.window),
        "bsq": BSQ(bits, window=own.window),
    }
    return {name: {"model.quantizer": each} for name, each in quantizers.items()}
