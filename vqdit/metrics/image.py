"""How close two stacks of images are: PSNR and SSIM.

Images are (b, h, w, c): uint8, or floats in [-1, 1] with -1 black. Both arguments are
of one kind: a rounded image against an unrounded one is another figure.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.shapes import AnyArray, Float, Shaped

ImageBatch = Shaped[AnyArray, "b h w c"]
WINDOW, DEVIATION = 11, 1.5  # of the SSIM paper


def psnr(a: ImageBatch, b: ImageBatch) -> float:
    """Peak signal to noise, in dB, of the squared error pooled over all images.

    inf where they are equal. Below the mean of `psnr_per_image` unless every image is
    equally wrong, since the logarithm is concave: say which of the two is quoted.
    """
    return float(_decibels(squared_error_per_image(a, b).mean()))


def psnr_per_image(a: ImageBatch, b: ImageBatch) -> Float[np.ndarray, "b"]:
    """PSNR of every image, in dB; inf where the pair is equal."""
    return _decibels(squared_error_per_image(a, b))


def ssim(a: ImageBatch, b: ImageBatch) -> float:
    """Mean structural similarity over images, at most 1."""
    return float(ssim_per_image(a, b).mean())


def ssim_per_image(a: ImageBatch, b: ImageBatch) -> Float[np.ndarray, "b"]:
    """Structural similarity of every image pair (Wang et al. 2004, eq. 13 and 17).

    11x11 Gaussian window of deviation 1.5, only where it lies wholly inside, K1 = 0.01,
    K2 = 0.03, and the mean over places and channels. The paper has grey images only.
    Images smaller than the window get the largest odd window that fits, 7x7 for 8x8,
    of the same deviation: a figure not comparable with that of larger images.
    """
    a, b = _pair(a, b)
    side = min(WINDOW, *a.shape[1:3])
    return np.asarray(_ssim(jnp.asarray(a), jnp.asarray(b), side - 1 + side % 2))


def squared_error_per_image(a: ImageBatch, b: ImageBatch) -> Float[np.ndarray, "b"]:
    """Mean squared error of every image, where black is 0 and white is 1."""
    a, b = _pair(a, b)
    error = _unit(jnp.asarray(a)) - _unit(jnp.asarray(b))
    return np.asarray(jnp.square(error).mean((1, 2, 3)), np.float64)


def _decibels(squared_error):
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(squared_error)


def _pair(a, b):
    if a.dtype != b.dtype or not (
        a.dtype == np.uint8 or jnp.issubdtype(a.dtype, jnp.floating)
    ):
        raise ValueError(
            f"images are {a.dtype} and {b.dtype}; give both as uint8, or both as "
            f"floats of one type in [-1, 1]"
        )
    if a.shape != b.shape or math.prod(a.shape) == 0:
        raise ValueError(
            f"images are {list(a.shape)} and {list(b.shape)}; they go in equal pairs"
        )
    return a, b


def _unit(x):
    """float32 with black at 0 and white at 1. SSIM's first factor needs that zero."""
    if x.dtype == jnp.uint8:
        return x.astype(jnp.float32) / 255.0
    return (x.astype(jnp.float32) + 1.0) / 2.0


@jax.jit(static_argnums=2)
def _ssim(a, b, side):
    a, b = _unit(a), _unit(b)
    place = jnp.arange(side) - (side - 1) / 2
    weights = jnp.exp(-jnp.square(place / DEVIATION) / 2)
    weights /= weights.sum()

    def blur(x):
        for axis in (1, 2):
            size = x.shape[axis] - side + 1
            x = sum(
                weights[i] * jax.lax.slice_in_dim(x, i, i + size, axis=axis)
                for i in range(side)
            )
        return x

    mean_a, mean_b = blur(a), blur(b)
    # Second moments less squared means cancel, by at most float32's 1e-7 of the unit
    # range: four orders under the constant that they are added to.
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean((1, 2, 3))
