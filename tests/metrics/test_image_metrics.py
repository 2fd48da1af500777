import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.metrics import image, psnr, psnr_per_image, ssim, ssim_per_image


def pictures(shape=(3, 20, 17, 2), seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, shape)
    b = np.clip(a + rng.integers(-40, 41, shape), 0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


def signal(x):
    return x.astype(np.float32) / 127.5 - 1


def test_psnr_of_a_constant_error():
    a = np.full((2, 8, 8, 1), 100, np.uint8)
    expected = 20 * np.log10(255 / 16)
    assert psnr(a, a + 16) == pytest.approx(expected, abs=1e-4)
    # Unsigned bytes must not wrap where the second is the smaller.
    assert psnr(a, a - 16) == pytest.approx(expected, abs=1e-4)
    assert psnr(a, a) == np.inf


def test_pooled_psnr_is_of_the_mean_error():
    """Errors of 10 and 20 levels: pooled by mean square, per image by mean of dB."""
    a = np.zeros((2, 4, 4, 3), np.uint8)
    b = a + np.array([10, 20], np.uint8)[:, None, None, None]
    each = 20 * np.log10(255 / np.array([10, 20]))
    np.testing.assert_allclose(psnr_per_image(a, b), each, rtol=1e-5)
    assert psnr(a, b) == pytest.approx(20 * np.log10(255 / np.sqrt(250)), abs=1e-4)
    assert psnr(a, b) < each.mean()


def test_bytes_and_signals_agree():
    a, b = pictures()
    assert psnr(signal(a), signal(b)) == pytest.approx(psnr(a, b), abs=1e-3)
    assert ssim(signal(a), jnp.asarray(signal(b))) == pytest.approx(
        ssim(a, b), abs=1e-5
    )


def ssim_by_the_book(a, b, side):
    """Wang et al. 2004 at every place, as its equations stand, on levels to 255."""
    place = np.arange(side) - side // 2
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for i in range(a.shape[0] - side + 1):
        for j in range(a.shape[1] - side + 1):
            x, y = (v[i : i + side, j : j + side].astype(float) for v in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            found.append(
                (2 * mx * my + c1)
                * (2 * cov + c2)
                / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return np.mean(found)


@pytest.mark.parametrize("shape,side", [((2, 20, 17, 2), 11), ((2, 8, 8, 1), 7)])
def test_ssim_is_that_of_the_paper(shape, side):
    a, b = pictures(shape)
    expected = [
        np.mean([ssim_by_the_book(x[..., c], y[..., c], side) for c in range(shape[3])])
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim_per_image(a, b), expected, atol=1e-5)


def test_ssim_of_equals_is_one_and_of_negatives_is_below_zero():
    a, _ = pictures((1, 12, 12, 1))
    assert ssim(a, a) == pytest.approx(1, abs=1e-6)
    assert ssim(a, 255 - a) < 0


def test_unlike_pairs_are_refused():
    a, b = pictures()
    with pytest.raises(ValueError, match="both as uint8"):
        psnr(a, signal(b))
    with pytest.raises(ValueError, match="both as uint8"):
        ssim(a.astype(np.int32), b.astype(np.int32))
    with pytest.raises(ValueError, match="equal pairs"):
        image._pair(a, b[:2])  # past the type hook, which users do not have
    with pytest.raises(ValueError, match="equal pairs"):
        psnr(a[:0], b[:0])
