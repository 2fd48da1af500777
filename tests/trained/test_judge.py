"""What a judge takes for a signal, whatever it is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.tokenizer import LogMel
from vqdit.trained.judge import as_pictures, check_signals, mel_pictures

FRONT = LogMel(2000, 64, 32, bands=8)


def full(shape, value):
    return np.full(shape, value, np.float32)


@pytest.mark.parametrize(
    "front, x, message",
    [
        (FRONT, full((2, 256, 2), 0), r"takes clips \(n, l, 1\)"),
        (FRONT, full((2, 256), 0), r"takes clips \(n, l, 1\)"),
        (FRONT, np.zeros((2, 256, 1), int), r"takes clips \(n, l, 1\) .*int64"),
        (FRONT, full((2, 256, 1), 129), "takes floats in .*; got 129 to 129"),
        (FRONT, full((2, 256, 1), -129), "takes floats in .*; got -129 to -129"),
        (None, full((2, 8), 0), r"takes series .*; got \(2, 8\)"),
        (None, full((2, 2, 2, 2, 2, 2), 0), "takes series .*; got"),
        (None, np.zeros((2, 3, 4, 5, 1), int), "takes uint8 or floats .*; got int64"),
        (None, full((2, 7, 1), np.nan), r"values of \(2, 7, 1\) are not all finite"),
        (None, full((2, 7, 1), np.inf), "not all finite"),
        (None, full((2, 7, 1), -np.inf), "not all finite"),
        (None, full((2, 3, 4, 5, 1), 2.5), "got 2.5 to 2.5: for 0 to 255 write"),
        (None, full((2, 3, 4, 5, 1), -129), "takes floats in .*; got -129"),
    ],
)
def test_what_is_no_signal_is_refused(front, x, message):
    with pytest.raises(ValueError, match=message) as refusal:
        check_signals(front, x)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "front, x",
    [
        (FRONT, full((2, 256, 1), 128)),
        (FRONT, full((0, 256, 1), 0)),
        (None, full((2, 7, 3), 1000)),  # spikes
        (None, full((2, 3, 4, 5, 1), 2)),
        (None, full((2, 3, 4, 5, 1), -3)),
        (None, np.zeros((2, 3, 4, 5, 1), np.uint8)),
        (None, full((2, 4, 5, 1), np.nan)),  # a picture's type is checked as such
    ],
)
def test_what_reaches_a_little_beyond_is_taken(front, x):
    check_signals(front, x)


def test_a_last_part_of_a_hop_is_seen_as_followed_by_silence():
    x = np.random.default_rng(0).uniform(-1, 1, (1, 40, 1)).astype(np.float32)
    x, filled = jnp.asarray(x), jnp.zeros((1, 64, 1)).at[:, :40].set(x)
    np.testing.assert_array_equal(mel_pictures(FRONT, x), FRONT.apply({}, filled))
    assert mel_pictures(FRONT, x[:, :32]).shape == (1, 1, 8, 1)


def test_of_no_signals_there_are_no_pictures_and_of_a_jit_no_values():
    assert as_pictures(None, np.zeros((0, 3, 4, 5, 2), np.uint8)).shape == (0, 4, 5, 6)
    check_signals(None, full((0, 3, 4, 5, 2), 0))
    jax.eval_shape(lambda x: check_signals(None, x), jnp.zeros((2, 3, 4, 5, 1)))


def test_values_that_a_jit_closes_over_are_known():
    x = jnp.asarray(full((2, 7, 1), 0))
    jax.eval_shape(lambda: check_signals(None, x))
    x = x.at[0].set(jnp.nan)
    with pytest.raises(ValueError, match="not all finite"):
        jax.eval_shape(lambda: check_signals(None, x))
