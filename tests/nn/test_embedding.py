import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.nn import LabelEmbedding, TimeEmbedding, sincos_positions
from vqdit.nn.embedding import CodeEmbedding, normal
from vqdit.sums import take


def published_2d(width, size):
    """get_2d_sincos_pos_embed of DiT and MAE (arXiv:2111.06377), from their formulas:
    the first half of the channels encodes the column, the second the row."""
    omega = 1.0 / 10_000 ** (np.arange(width // 4) / (width / 4.0))
    rows = []
    for row in range(size):
        for column in range(size):
            halves = [
                np.concatenate([np.sin(p * omega), np.cos(p * omega)])
                for p in (column, row)
            ]
            rows.append(np.concatenate(halves))
    return np.array(rows)


@pytest.mark.parametrize("width,size", [(384, 16), (1152, 2), (8, 5)])
def test_2d_positions_are_the_published_ones(width, size):
    table = sincos_positions((size, size), width)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table, published_2d(width, size), atol=1e-6)


def test_1d_positions_are_those_of_the_first_transformer():
    """sin and cos of position / 10000^(2i / width)."""
    angles = np.arange(7)[:, None] / 10_000 ** (2 * np.arange(4) / 8)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(sincos_positions((7,), 8), expected, atol=1e-6)


@pytest.mark.parametrize("grid", [(30,), (5, 6), (2, 3, 5), ()])
def test_every_place_has_a_position_of_its_own(grid):
    """Width 14 does not divide over 2 or 3 axes: the rest of the channels stays 0."""
    table = sincos_positions(grid, 14)
    assert table.shape == (np.prod(grid), 14)
    assert len(np.unique(table, axis=0)) == len(table)
    assert np.abs(table).max(initial=0) <= 1


def test_width_without_a_pair_per_axis_is_refused():
    with pytest.raises(ValueError, match="width 5 is too small .* 3 axes; .*least 6"):
        sincos_positions((2, 2, 2), 5)
    with pytest.raises(ValueError, match="width 1 is too small .* 1 axes; .*least 2"):
        sincos_positions((), 1)
    assert sincos_positions((2, 2, 2), 6).shape == (8, 6)


def test_a_table_of_positions_too_large_to_hold_is_refused():
    message = "a table of 524289 places by 512 is too large; write positions='rotary'"
    with pytest.raises(ValueError, match=message):
        sincos_positions((3, 174_763), 512)


def test_time_is_embedded_as_published():
    """DiT's timestep_embedding at 1000 t, and its MLP."""
    t = np.array([0.0, 0.25, 0.999, 1.0], np.float32)
    y, variables = TimeEmbedding(12, features=8).init_with_output(
        jax.random.key(0), jnp.asarray(t)
    )
    frequencies = np.exp(-np.log(10_000) * np.arange(4) / 4)
    angles = 1000 * t[:, None] * frequencies
    x = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    params = jax.device_get(variables["params"])
    h = x @ params["up"]["kernel"]
    h = h / (1 + np.exp(-h)) @ params["down"]["kernel"]
    np.testing.assert_allclose(y, h, atol=1e-4)


def test_neighbouring_times_differ_in_bfloat16():
    module = TimeEmbedding(32, dtype="bfloat16")
    t = jnp.array([0.998, 0.999, 1.0])
    variables = module.init(jax.random.key(0), t)
    wide = jax.tree.map(lambda x: 30 * x, variables)  # out of rounding's reach
    y = np.asarray(module.apply(wide, t), np.float32)
    assert np.abs(np.diff(y, axis=0)).max(1).min() > 0.1


def test_time_takes_any_leading_axes():
    module = TimeEmbedding(6)
    t = jnp.linspace(0, 1, 6).reshape(2, 3)
    y, variables = module.init_with_output(jax.random.key(0), t)
    np.testing.assert_allclose(y.reshape(6, 6), module.apply(variables, t.ravel()))


def test_label_table_has_one_more_row_for_the_null_class():
    y, variables = LabelEmbedding(10, 4).init_with_output(
        jax.random.key(0), jnp.array([0, 10, 3])
    )
    table = variables["params"]["table"]
    assert table.shape == (11, 4)
    np.testing.assert_array_equal(y, table[np.array([0, 10, 3])])


@pytest.mark.parametrize("kind", ["label", "codes"])
def test_tables_are_read_and_learned_alike_by_scatter_and_by_product(kind):
    """Gradients of the table, and those of a derivative along something else."""
    shape = {"label": (64,), "codes": (4, 5, 3)}[kind]
    index = jax.random.randint(jax.random.key(1), shape, 0, 6)
    make = {
        "label": lambda adding: LabelEmbedding(5, 8, adding),
        "codes": lambda adding: CodeEmbedding(6, 3, 8, normal, adding),
    }[kind]
    params = make(None).init(jax.random.key(0), index)

    def found(adding):
        module = make(adding)
        call = lambda params, t: jnp.sin(t + 9 * module.apply(params, index))
        slope = lambda params: jax.jvp(lambda t: call(params, t), (0.5,), (1.0,))[1]
        grads = [
            jax.grad(lambda p, f=f: jnp.square(f(p)).sum())(params)["params"]["table"]
            for f in (lambda p: call(p, 0.5), slope)
        ]
        return module.apply(params, index), *grads

    added, product = found("scatter"), found("product")
    np.testing.assert_array_equal(added[0], product[0])
    for one, other in zip(added[1:], product[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


ADDING = ("scatter", "product")


def test_reading_a_table_has_a_forward_mode_and_counts_from_the_end():
    """Along the table, and through a gradient along it, however the sums are made."""
    table = jnp.arange(8.0).reshape(4, 2)
    index = jnp.array([[0, -1], [2, 0]])

    def found(adding):
        read = lambda table: jnp.sin(take(table, index, adding))
        slope = jax.grad(lambda table: jnp.square(read(table)).sum())
        along = jax.jvp(slope, (table,), (jnp.cos(table),))
        return read(table), *along, jax.jvp(read, (table,), (jnp.cos(table),))[1]

    added, product = (jax.jit(found, static_argnums=0)(x) for x in ADDING)
    for one, other in zip(added, product, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
