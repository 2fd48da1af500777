"""Every quantizer at the same bits a site, for the tables of quantizers_*.py.

Where a method cannot have just as many codes it has the nearest below, and the table's
column of bits says so.
"""

import dataclasses
import math

from train.config import StageOne
from vqdit.quantizers import (
    BSQ,
    FSQ,
    IBQ,
    LFQ,
    EMAVectorQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    MultiScaleQuantizer,
    ResidualFSQ,
    ResidualQuantizer,
    SimVQ,
    VectorQuantizer,
)


def family(
    base: StageOne,
    levels: tuple[int, ...],
    books: int,
    scales: tuple[int, ...],
    scale_codes: int,
) -> dict[str, StageOne]:
    """The variants of an experiment whose quantizer is an EMAVectorQuantizer.

    levels: FSQ's, of about as many codes. books: that the bits are divided over, for
    residual and grouped ones. scales, scale_codes: of the multi-scale one.
    """
    own = base.model.quantizer
    codes, dim = own.num_codes, own.dim
    bits = round(math.log2(codes))
    small = EMAVectorQuantizer(
        2 ** (bits // books), dim, decay=own.decay, start="kmeans", window=own.window
    )
    # A codebook that learns by gradient, from k-means as the base.
    gradient = VectorQuantizer(codes, dim, start="kmeans", window=own.window)
    found = {
        "cosine": own.clone(cosine=True),
        "rotation": own.clone(estimator="rotation"),
        "split": own.clone(revive="split"),
        "normal_start": own.clone(start="normal"),
        "gradient": gradient,
        "gradient_entropy": gradient.clone(entropy=True),
        "gradient_orthogonal": gradient.clone(orthogonal=True),
        "gumbel": GumbelQuantizer(codes, dim, window=own.window),
        "ibq": IBQ(
            codes,
            dim,
            start="kmeans",
            window=own.window,
            by="distance",
            revive="batch",
        ),
        "simvq": SimVQ(codes, dim, start="kmeans", window=own.window, revive="batch"),
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
    return {
        name: dataclasses.replace(base, model=base.model.clone(quantizer=quantizer))
        for name, quantizer in found.items()
    }
