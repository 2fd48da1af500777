"""Pictures and clips that come back, beside those that went in."""

from collections.abc import Callable

import numpy as np

from train.evaluation.evaluator import Evaluators
from train.evaluation.means import Mean, Values, decibels
from train.evaluation.reconstruction.measures import Compared, Measures
from train.modalities import Batch
from vqdit.metrics import squared_error_per_image, ssim_per_image
from vqdit.signal import to_uint8

CLIPS = 512  # of video that are scored unless asked for more


def pictures(score: Measures, found: Compared) -> Evaluators:
    """PSNR of the pooled error, mean SSIM of 8-bit pictures, and use of each book."""
    yield from score.use(named=True)
    for prefix, name in found.items():
        error = _by_picture(squared_error_per_image, name)
        yield Mean(f"{prefix}psnr_db", error, decibels)
        yield Mean(f"{prefix}ssim", _by_picture(ssim_per_image, name))


def clips(score: Measures) -> Evaluators:
    """The same frame by frame, of at most CLIPS clips unless asked for more.

    psnr_db pools the error of all frames; psnr_by_frame_db has one figure a place in
    the clip, so that a first frame that is coded alone can be told from the rest.
    """
    score.most = score.most or CLIPS
    yield from score.use()
    error, alike = map(_by_picture, (squared_error_per_image, ssim_per_image))
    frames = score.data.shape[0]
    yield Mean("psnr_db", error, decibels)
    yield Mean("psnr_frame_mean_db", lambda batch: decibels(error(batch)))
    yield Mean("ssim", alike)
    yield Mean("psnr_by_frame_db", error, decibels, frames)
    yield Mean("ssim_by_frame", alike, np.ndarray.tolist, frames)


def _by_picture(metric: Callable, name: str = "x_hat") -> Values:
    """A metric of two stacks of pictures, of every picture, (n,), or frame of a clip,
    (n, frames)."""

    def values(batch: Batch) -> np.ndarray:
        x, found = batch["x"], batch[name]
        found = found if found.dtype == np.uint8 else to_uint8(found)
        flat = (each.reshape(-1, *x.shape[-3:]) for each in (found, x))
        return metric(*flat).reshape(x.shape[:-3])

    return values
