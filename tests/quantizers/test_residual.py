"""Quantizers of several books: residual, grouped, residual FSQ."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.objectives.codebook import with_revival
from train.runtime.step import init_state, make_step
from vqdit.quantizers import (
    FSQ,
    IBQ,
    LFQ,
    EMAVectorQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    MultiScaleQuantizer,
    Projected,
    ResidualFSQ,
    ResidualQuantizer,
    VectorQuantizer,
)
from vqdit.quantizers.residual import _depths
from vqdit.tokenizer import ConvEncoder

KEY = jax.random.key(2)


def draw(*shape, seed=0, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def start(quantizer, shape=()):
    z = jnp.zeros((1, *shape, quantizer.dim))
    return quantizer.init(jax.random.key(0), z)


def train(quantizer, variables, z):
    """(Quantized, variables afterwards)."""
    mutable = [name for name in variables if name != "params"]
    quantized, state = quantizer.apply(
        variables, z, train=True, key=KEY, mutable=mutable
    )
    return quantized, {**variables, **state}


jit_train = jax.jit(train, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def decode(quantizer, variables, codes):
    return quantizer.apply(variables, codes, method="decode")


PLAIN = {
    "rotation": VectorQuantizer(9, 3, revive="none", estimator="rotation"),
    "cosine": VectorQuantizer(9, 3, revive="none", cosine=True),
    "ibq": IBQ(9, 3),
}


def nested(variables, name):
    return {collection: {name: tree} for collection, tree in variables.items()}


@pytest.mark.parametrize("book", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("kind", ["residual", "scales"])
def test_one_book_or_one_scale_is_the_plain_quantizer(book, kind):
    """Latents, codes, losses, and the gradient of all of them."""
    if kind == "residual":
        whole, name = ResidualQuantizer(book, 1), "books_0"
    elif book.estimator:
        whole, name = MultiScaleQuantizer(book, (2,), phis=0), "book"
    else:
        pytest.skip("scales take a book with an estimator")
    variables, z, weight = start(book), draw(6, 2, 2, 3), draw(6, 2, 2, 3, seed=1)

    @jax.jit
    def both(z):
        answers = []
        for quantizer, own in ((book, variables), (whole, nested(variables, name))):

            def score(z, quantizer=quantizer, own=own):
                answer, _ = train(quantizer, own, z)
                total = (answer.latents * weight).sum() + sum(answer.losses.values())
                return total, (answer.latents, answer.codes.reshape(-1), answer.losses)

            answers.append(jax.value_and_grad(score, has_aux=True)(z))
        return answers

    plain, composed = both(z)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        composed,
        plain,
    )


OWN = {
    "ibq": IBQ(64, 3, start_scale=4.0),
    "gumbel": GumbelQuantizer(64, 3, temperature=0.3),
    "projected": Projected(VectorQuantizer(64, 3, revive="none"), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("book", OWN.values(), ids=OWN)
def test_a_gradient_of_the_books_own_does_not_grow_with_their_number(book):
    """Eight equal books have one's; with dropout too, of however many there are."""
    z, weight = jnp.zeros((64, 3)), draw(64, 3, seed=6)
    alone = nested(start(book), "books_0")

    @functools.partial(jax.jit, static_argnums=0)
    def slope(quantizer, variables):
        latents = lambda z: train(quantizer, variables, z)[0].latents
        return jax.grad(lambda z: (latents(z) * weight).sum())(z)

    single = slope(ResidualQuantizer(book, 1), alone)
    for dropout in (0.0, 0.5):
        many = ResidualQuantizer(book, 8, dropout=dropout)
        variables = start(many)
        for tree in variables.values():
            tree.update({name: tree["books_0"] for name in tree})
        found = jnp.linalg.norm(slope(many, variables))
        assert 0.1 < found / jnp.linalg.norm(single) < 1.5


def test_an_example_of_one_book_has_the_gradient_of_that_book():
    """Quantizer dropout divides by the books that it kept, not by all there are."""
    book, z, weight = OWN["ibq"], draw(64, 3), draw(64, 3, seed=6)
    many = ResidualQuantizer(book, 4, dropout=1.0)
    variables = start(many)
    first = {c: {"books_0": tree["books_0"]} for c, tree in variables.items()}

    @functools.partial(jax.jit, static_argnums=0)
    def slope(quantizer, variables):
        def score(z):
            latents = train(quantizer, variables, z)[0].latents
            return (latents * weight).sum(), latents

        return jax.grad(score, has_aux=True)(z)

    (found, latents), (alone, expected) = (
        slope(many, variables),
        slope(ResidualQuantizer(book, 1), first),
    )
    one = np.isclose(latents, expected, atol=1e-6).all(1)
    assert 4 < one.sum() < 40  # a quarter of 64
    np.testing.assert_allclose(found[one], alone[one], rtol=1e-4, atol=1e-6)


def test_books_within_books_are_their_own():
    """Factorised codes: each of a residual's has a codebook of its own (DAC)."""
    for kind in (ResidualQuantizer, GroupedQuantizer):
        params = start(kind(OWN["projected"], 2))["params"]
        assert set(params) == {"books_0", "books_1"}
        first, second = (params[name]["book"]["codewords"] for name in sorted(params))
        assert (first != second).any()


@functools.cache
def trained():
    """(quantizer, variables, z): four books set from data, waiting before."""
    quantizer = ResidualQuantizer(EMAVectorQuantizer(16, 3, start="kmeans"), 4)
    z = draw(600, 3)
    variables = start(quantizer)
    waiting, _ = jit_train(quantizer, variables, z)
    np.testing.assert_array_equal(waiting.latents, z)
    assert all(loss == 0 for loss in waiting.losses.values())
    variables, metrics = quantizer.from_data(variables, KEY, z, 8)
    assert metrics["usage_min"] == 1
    return quantizer, variables, z


@pytest.mark.slow
def test_any_prefix_of_the_books_decodes_and_every_book_helps():
    """Each book of 16 codes in 3 dimensions takes most of what is left."""
    quantizer, variables, z = trained()
    quantized = jax.jit(quantizer.apply)(variables, z)
    errors, total = [float(jnp.square(z).mean())], 0
    for m in range(1, 5):
        latents = decode(quantizer, variables, quantized.codes[..., :m])
        book = {"codebook": variables["codebook"][f"books_{m - 1}"]}
        codes = quantized.codes[..., m - 1 : m]
        total = total + decode(quantizer.book, book, codes)
        np.testing.assert_allclose(latents, total, atol=1e-6)
        errors.append(float(jnp.square(z - latents).mean()))
    assert (np.diff(np.log(errors)) < np.log(0.5)).all()
    np.testing.assert_array_equal(latents, quantized.latents)
    for books in (0, 5):
        codes = jnp.zeros((2, books), jnp.int32)
        with pytest.raises(ValueError, match="1 to 4 books"):
            quantizer.apply(variables, codes, method="decode")


def test_a_book_moves_no_other():
    """What the later ask for depends on the earlier's codes, and teaches them nothing:
    codewords have the gradient of their own residual's mean square."""
    quantizer = ResidualQuantizer(VectorQuantizer(9, 3, revive="none"), 3)
    variables, z = start(quantizer), draw(40, 3)

    @jax.jit
    @jax.grad
    def slope(params):
        losses = train(quantizer, {**variables, "params": params}, z)[0].losses
        return losses["commit"] + losses["codebook"]

    found, left = slope(variables["params"]), np.asarray(z)
    for i in range(3):
        table = np.asarray(variables["params"][f"books_{i}"]["codewords"])
        index = np.square(left[:, None] - table).sum(-1).argmin(1)
        left = left - table[index]
        pull = np.zeros_like(table)
        np.add.at(pull, index, -2 * left / left.size / 3)
        np.testing.assert_allclose(found[f"books_{i}"]["codewords"], pull, atol=1e-6)


@pytest.mark.parametrize("dropout", [0.5, 1.0])
def test_an_example_has_any_number_of_books_alike(dropout):
    depth = _depths(KEY, (4000,), 4, dropout)
    share = np.bincount(depth, minlength=6) / 4000
    p = np.array([0, *[dropout / 4] * 3, 1 - dropout * 3 / 4, 0])
    assert (np.abs(share - p) <= 4 * np.sqrt(p * (1 - p) / 4000)).all()


@pytest.mark.slow
def test_dropout_rebuilds_each_example_from_a_prefix():
    """Half of the examples, of length 1 to 4 alike: 5/8 of all have all the books."""
    quantizer, variables, _ = trained()
    quantizer = quantizer.clone(dropout=0.5)
    z = draw(800, 2, 3, seed=3)
    quantized, _ = jit_train(quantizer, variables, z)
    prefixes = np.stack(
        [decode(quantizer, variables, quantized.codes[..., :m]) for m in range(1, 5)]
    )
    distance = np.abs(prefixes - np.asarray(quantized.latents)).max((2, 3))
    depth = distance.argmin(0)
    assert distance.min(0).max() < 1e-5  # both vectors of an example from one prefix
    share = np.bincount(depth, minlength=4) / 800
    p = np.array([1, 1, 1, 5]) / 8
    assert (np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / 800)).all()
    # What the books learn from does not depend on the draw.
    full, _ = jit_train(quantizer.clone(dropout=0.0), variables, z)
    np.testing.assert_array_equal(full.codes, quantized.codes)
    np.testing.assert_allclose(full.losses["commit"], quantized.losses["commit"])


def test_residual_signs_are_binary_digits():
    """1 + 1/2 + 1/4 of signs: z in [-2, 2] to within 1/4."""
    quantizer = ResidualQuantizer(LFQ(3), 3)
    z = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (200, 3)), jnp.float32)
    latents = jax.jit(quantizer.init_with_output)(KEY, z)[0].latents
    assert 0.24 < np.abs(z - latents).max() <= 0.25
    assert set(np.unique(np.abs(latents))) == {0.25, 0.75, 1.25, 1.75}


def objective(quantizer, params, stats, batch, key, step):
    quantized, stats = quantizer.apply(
        {"params": params, **stats}, batch, train=True, key=key, mutable=list(stats)
    )
    return sum(quantized.losses.values()), (dict(stats), {})


def test_train_step_replaces_dead_rows_of_the_book_they_belong_to():
    """Row 2 of the second of two books is far away, and no other row is."""
    quantizer = ResidualQuantizer(VectorQuantizer(3, 2, window=32), 2)
    variables = start(quantizer)
    params = {f"books_{i}": {"codewords": draw(3, 2, scale=0.3)} for i in range(2)}
    rows = params["books_1"]["codewords"].at[2].set(90.0)
    params["books_1"] = {"codewords": rows}
    tx = optax.adamw(1e-3)
    step = jax.jit(with_revival(make_step(functools.partial(objective, quantizer), tx)))
    state = init_state(KEY, {**variables, "params": params}, tx)
    for seed in range(2):
        state, _ = step(state, draw(64, 2, seed=seed))
    first, second = (state.params[f"books_{i}"]["codewords"] for i in range(2))
    assert np.abs(second[2]).max() < 5
    assert np.abs(state.ema["books_1"]["codewords"][2]).max() < 5
    np.testing.assert_allclose(second[:2], rows[:2], atol=0.01)
    np.testing.assert_allclose(first, params["books_0"]["codewords"], atol=0.01)


@pytest.mark.slow
def test_groups_quantize_their_own_channels():
    book = EMAVectorQuantizer(8, 2, start="kmeans")
    quantizer = GroupedQuantizer(book, 3)
    z = draw(100, 6)
    variables, metrics = quantizer.from_data(start(quantizer), KEY, z, 5)
    quantized = jax.jit(quantizer.apply)(variables, z)
    commit = 0.0
    for i in range(3):
        own = {"codebook": variables["codebook"][f"books_{i}"]}
        assert own["codebook"]["ready"]
        channels = slice(2 * i, 2 * i + 2)
        alone = book.apply(own, z[:, channels])
        commit += jnp.square(alone.latents - z[:, channels]).mean() / 3
        np.testing.assert_array_equal(quantized.codes[:, i], alone.codes[:, 0])
        np.testing.assert_allclose(
            quantized.latents[:, channels], alone.latents, atol=1e-6
        )
    trained, _ = jit_train(quantizer, variables, z)
    np.testing.assert_allclose(trained.losses["commit"], commit, rtol=1e-5)
    assert metrics["usage_min"] == 1 and quantizer.code_counts == (8, 8, 8)
    # Three codebooks of 8, trained: most of each group's spread is taken.
    assert jnp.square(z - quantized.latents).mean() < 0.35


def test_every_group_draws_its_own_codes():
    """Two equal groups of one book's weights, asked about the same vectors."""
    quantizer = GroupedQuantizer(GumbelQuantizer(8, 2, window=80), 2)
    variables = start(quantizer)
    params = {name: variables["params"]["books_0"] for name in ("books_0", "books_1")}
    z = jnp.tile(draw(40, 2, scale=0.1), 2)
    quantized, _ = jit_train(quantizer, {**variables, "params": params}, z)
    # Eight codes nearly alike: two draws agree about once in eight.
    assert (quantized.codes[:, 0] == quantized.codes[:, 1]).mean() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("levels", [(3,), (4,), (5, 2)])
def test_residual_fsq_of_m_books_is_levels_to_the_m_cells(levels):
    """Middles of equal cells of [-1, 1], all of them reached; prefixes are coarser."""
    quantizer = ResidualFSQ(levels, 3)
    side = np.linspace(-0.9999, 0.9999, 2000)
    u = np.stack([side] * len(levels), -1)
    z = jnp.asarray(np.arctanh(u), jnp.float32)
    variables = start(quantizer)
    quantized = jax.jit(quantizer.apply)(variables, z)
    for m in (1, 2, 3):
        cells = np.array(levels) ** m
        middle = (2 * np.floor((u + 1) / 2 * cells) + 1) / cells - 1
        latents = decode(quantizer, variables, quantized.codes[:, :m])
        inside = np.abs(u * cells / 2 - np.round(u * cells / 2)).min(-1) > 0.01
        np.testing.assert_allclose(latents[inside], middle[inside], atol=1e-6)
        assert len(np.unique(np.asarray(latents)[:, 0])) == levels[0] ** m


def test_residual_fsq_cuts_cells_again_in_closed_form():
    """9 cells of channel one, 4 of channel two; a book's first channel is fastest."""
    quantizer = ResidualFSQ((3, 2), 2)
    assert quantizer.code_counts == (6, 6) and quantizer.dim == 2
    u = np.array([[-0.99, -0.99], [0.99, 0.99], [0.05, 0.2], [-0.5, -0.6]])
    z = jnp.asarray(np.arctanh(u), jnp.float32)
    variables = start(quantizer)

    @jax.jit
    def run(z):
        def latents(z):
            quantized, after = train(quantizer, variables, z)
            return quantized.latents.sum(), (quantized, after)

        return quantizer.apply(variables, z), jax.grad(latents, has_aux=True)(z)

    quantized, (slope, (trained, after)) = run(z)
    expected = [[-8 / 9, -0.75], [8 / 9, 0.75], [0, 0.25], [-4 / 9, -0.75]]
    assert quantized.codes.tolist() == [[0, 0], [5, 5], [4, 1], [0, 2]]
    np.testing.assert_allclose(quantized.latents, expected, atol=1e-6)
    np.testing.assert_allclose(trained.latents, expected, atol=1e-6)
    np.testing.assert_allclose(slope, 1 - u**2, rtol=1e-3)
    assert quantized.losses == trained.losses == {}
    first = [[-2 / 3, -0.5], [2 / 3, 0.5], [0, 0.5], [-2 / 3, -0.5]]
    found = decode(quantizer, variables, quantized.codes[:, :1])
    np.testing.assert_allclose(found, first, atol=1e-6)
    ends, _ = run(jnp.array([[-1e6, -1e6], [1e6, 1e6]] * 2))
    assert ends.codes.tolist() == [[0, 0], [5, 5]] * 2
    counts = [after["usage"][f"usage_{i}"]["counts"].tolist() for i in range(2)]
    assert counts == [[2, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 1]]
    for m in (0, 3):
        with pytest.raises(ValueError, match=rf"\(2, {m}\): the last axis has 1 to 2"):
            decode(quantizer, variables, jnp.zeros((2, m), jnp.int32))
    assert ResidualFSQ((2,), 22).count == 22
    with pytest.raises(ValueError, match="count=23: cells of 1 / 8388608 are finer"):
        ResidualFSQ((2,), 23)
    with pytest.raises(ValueError, match="count=0: write at least 1"):
        ResidualFSQ((2,), 0)


def test_groups_have_the_codes_of_their_own_channels():
    quantizer = GroupedQuantizer(VectorQuantizer(5, 2, revive="none"), 2)
    assert quantizer.code_counts == (5, 5) and quantizer.dim == 4
    variables, z = start(quantizer), draw(20, 4)
    quantized, _ = jit_train(quantizer, variables, z)
    halves, errors = [], []
    for i, part in enumerate(np.split(np.asarray(z), 2, axis=1)):
        table = np.asarray(variables["params"][f"books_{i}"]["codewords"])
        index = np.square(part[:, None] - table).sum(-1).argmin(1)
        np.testing.assert_array_equal(quantized.codes[:, i], index)
        halves.append(table[index])
        errors.append(np.square(part - table[index]).mean())
    expected = np.concatenate(halves, 1)
    np.testing.assert_allclose(quantized.latents, expected, atol=1e-6)
    np.testing.assert_allclose(quantized.losses["commit"], np.mean(errors), rtol=1e-5)
    found = decode(quantizer, variables, quantized.codes)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"codes are \(3, 1\): the last axis has 2"):
        decode(quantizer, variables, jnp.zeros((3, 1), jnp.int32))


def test_groups_are_made_of_their_own_channels():
    """Two values in each channel, and two codes."""
    book = EMAVectorQuantizer(2, 1, start="kmeans")
    quantizer = GroupedQuantizer(book, 2)
    assert quantizer.start == "kmeans" and GroupedQuantizer(FSQ((3,)), 2).start != book
    z = jnp.array([[0.0, 5.0], [9.0, 5.0], [0.0, -3.0], [0.0, 5.0]])
    variables, metrics = quantizer.from_data(start(quantizer), KEY, z, 5)
    latents = jax.jit(quantizer.apply)(variables, z).latents
    np.testing.assert_allclose(latents, z, atol=1e-4)
    np.testing.assert_allclose(metrics["usage_min"], 1)
    perplexity = np.exp(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    np.testing.assert_allclose(metrics["perplexity"], perplexity, rtol=1e-5)


def test_factorised_codes_are_looked_up_and_made_in_the_books_own_space():
    book = EMAVectorQuantizer(2, 1, start="kmeans")
    quantizer = Projected(book, 2)
    assert (quantizer.start, quantizer.num_codes) == ("kmeans", 2)
    assert Projected(LFQ(2), 3).start == "normal"
    variables = start(quantizer)
    into = {"kernel": jnp.array([[1.0], [0.0]]), "bias": jnp.array([0.5])}
    params = {**variables["params"], "into": into}
    z = jnp.array([[0.0, 7.0], [9.0, -7.0], [0.0, 2.0], [9.0, 3.0]])
    made, metrics = quantizer.from_data({**variables, "params": params}, KEY, z, 5)
    own = made["codebook"]["book"]
    rows = own["sums"] / own["counts"][:, None]
    np.testing.assert_allclose(np.sort(rows[:, 0]), [0.5, 9.5], rtol=1e-4)
    assert own["ready"] and metrics["usage"] == 1
    both = jax.jit(
        lambda v: (quantizer.apply(v, z), quantizer.apply(v, z, method="search"))
    )
    quantized, index = both(made)
    np.testing.assert_array_equal(index, quantized.codes[:, 0])
    np.testing.assert_allclose(rows[index, 0], z[:, 0] + 0.5, rtol=1e-4)


def test_a_vector_by_itself_is_rebuilt_from_one_prefix():
    """Not each of its channels from a depth of its own."""
    quantizer = ResidualQuantizer(VectorQuantizer(4, 8, revive="none"), 2, dropout=1.0)
    variables, z = start(quantizer), draw(8)
    quantized, _ = jit_train(quantizer, variables, z)
    first, second = (
        variables["params"][f"books_{i}"]["codewords"][code]
        for i, code in enumerate(quantized.codes)
    )
    apart = [np.abs(quantized.latents - q).max() for q in (first, first + second)]
    assert min(apart) < 1e-5 and max(apart) > 1e-3


def test_books_of_a_residual_shrink_where_codewords_have_one_length():
    books = (
        (GumbelQuantizer(4, 2), 1.0),
        (Projected(VectorQuantizer(4, 2, cosine=True), 3), 1.0),
        (VectorQuantizer(4, 2), 1.0),
        (EMAVectorQuantizer(4, 2, cosine=True), 0.5),
        (LFQ(2), 0.5),
    )
    assert [book.shrink for book, _ in books] == [size for _, size in books]


def test_what_a_residual_cannot_do_is_refused():
    quantizer = ResidualQuantizer(VectorQuantizer(4, 2, revive="none"), 2, dropout=0.5)
    z = jnp.zeros((3, 2))
    variables = jax.eval_shape(quantizer.init, KEY, z)
    for m in (0, 3):
        with pytest.raises(ValueError, match=rf"\(2, {m}\): the last axis has 1 to 2"):
            call = lambda v, m=m: quantizer.apply(
                v, jnp.zeros((2, m), int), method="decode"
            )
            jax.eval_shape(call, variables)
    call = lambda train: lambda v: quantizer.apply(v, z, train=train, mutable="usage")
    with pytest.raises(ValueError, match="quantizer dropout draws books: pass key="):
        jax.eval_shape(call(True), variables)
    assert jax.eval_shape(call(False), variables)[0].codes.shape == (3, 2)
    whole = quantizer.clone(dropout=0.0)  # which draws nothing
    call = lambda v: whole.apply(v, z, train=True, mutable="usage")
    assert jax.eval_shape(call, variables)[0].codes.shape == (3, 2)
    kmeans = ResidualQuantizer(VectorQuantizer(4, 2, start="kmeans"), 2)
    assert (quantizer.start, kmeans.start) == ("normal", "kmeans")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ResidualQuantizer(FSQ((3,)), 2), r"write ResidualFSQ\(levels, count"),
        (lambda: ResidualQuantizer(VectorQuantizer(4, 2), 0), "count=0: write at"),
        (lambda: ResidualQuantizer(ResidualFSQ((3,), 2), 2), "a quantizer of one book"),
        (lambda: Projected(ResidualFSQ((3,), 2), 3), "a quantizer of one book"),
        (lambda: Projected(LFQ(2), 0), "dim=0: write at least 1"),
        (lambda: GroupedQuantizer(ConvEncoder(), 2), "a quantizer of vectors"),
        (lambda: ResidualQuantizer(LFQ(2), 2, dropout=2.0), "dropout=2.0: write at"),
        (lambda: ResidualQuantizer(LFQ(2), 2, shrink=0.0), "shrink=0.0: write ab"),
        (lambda: ResidualFSQ((3,), 20), "finer than float32; write fewer books"),
        (lambda: ResidualFSQ((3, 1), 2), "each at least 2"),
        (lambda: GroupedQuantizer(LFQ(2), 0), "count=0: write at least 1"),
        (
            lambda: GroupedQuantizer(MultiScaleQuantizer(LFQ(2), (1, 2)), 2),
            r"book=MultiScaleQuantizer\(...\): write a quantizer of vectors",
        ),
    ],
)
def test_impossible_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_books_that_shrink_are_made_of_what_those_before_leave():
    """The books find in the same vectors the clusters that they were made of."""
    book = EMAVectorQuantizer(6, 3, cosine=True, start="kmeans")
    quantizer, z = ResidualQuantizer(book, 4), draw(300, 3)
    variables, made = quantizer.from_data(start(quantizer), KEY, z, 60)
    used = jax.jit(quantizer.apply)(variables, z).metrics
    assert used["perplexity"] == pytest.approx(float(made["perplexity"]), rel=1e-3)
