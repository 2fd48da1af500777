import jax.numpy as jnp
import numpy as np

from vqdit.signal import to_signal, to_uint8


def test_every_pixel_comes_back():
    pixels = jnp.arange(256, dtype=jnp.uint8).reshape(2, 8, 16)
    np.testing.assert_array_equal(to_uint8(to_signal(pixels)), pixels)


def test_ends_and_middle_of_the_range():
    x = to_signal(jnp.array([0, 255, 127, 128], jnp.uint8))
    assert x.dtype == jnp.float32
    assert x[0] == -1 and x[1] == 1
    np.testing.assert_allclose(x[2] + x[3], 0, atol=1e-6)  # 127.5 is zero


def test_signals_pass_through():
    x = jnp.array([-1.0, 0.25, 1.0], jnp.bfloat16)
    assert to_signal(x).dtype == jnp.float32
    np.testing.assert_array_equal(to_signal(x), x.astype(jnp.float32))


def test_pixels_are_rounded_and_clipped():
    """0.49 and 0.51 of a level above 100; and beyond both ends."""
    x = jnp.array([100.49, 100.51, -300.0, 400.0]) / 127.5 - 1
    pixels = to_uint8(x)
    assert pixels.dtype == jnp.uint8 and pixels.tolist() == [100, 101, 0, 255]
