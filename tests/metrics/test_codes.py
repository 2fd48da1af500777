import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.metrics import code_counts, entropy_bits, perplexity, usage


def test_even_use_of_half_the_codebook():
    codes = np.repeat(np.arange(0, 16, 2), 5).reshape(8, 5)
    assert usage(codes, 16) == 0.5
    assert entropy_bits(codes, 16) == pytest.approx(3.0)
    assert perplexity(codes, 16) == pytest.approx(8.0)


def test_one_code_costs_nothing():
    codes = jnp.full((4, 3), 2, jnp.int32)
    assert entropy_bits(codes, 7) == 0.0
    assert perplexity(codes, 7) == 1.0
    assert usage(codes, 7) == pytest.approx(1 / 7)


def test_a_code_seen_once_is_in_use():
    assert usage(np.array([0, 0, 3]), 4) == 0.5


def test_entropy_of_uneven_use():
    """p = (1/2, 1/4, 1/8, 1/8) costs 1.75 bits, whatever the order and the dtype."""
    codes = np.random.default_rng(0).permutation([0] * 8 + [1] * 4 + [3] * 2 + [5] * 2)
    assert entropy_bits(codes.astype(np.uint8), 6) == pytest.approx(1.75)


def test_counts_of_two_windows_add_up():
    codes = np.random.default_rng(0).integers(0, 9, (40, 3))
    whole = code_counts(codes, 9)
    np.testing.assert_array_equal(
        whole, code_counts(codes[:11], 9) + code_counts(codes[11:], 9)
    )
    np.testing.assert_array_equal(whole, [(codes == i).sum() for i in range(9)])


@pytest.mark.parametrize("code", [-1, 4])
def test_a_code_outside_the_codebook_is_refused(code):
    with pytest.raises(ValueError, match="codebook of 4"):
        usage(np.array([0, code, 1]), 4)


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="empty"):
        perplexity(np.zeros((0, 2), np.int32), 4)
