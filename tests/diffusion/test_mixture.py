"""Mixtures by counting, and what an example's roles do to loss and gradient."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from vqdit import Continuous, Discrete, Gaussian, Masking
from vqdit.diffusion import (
    Around,
    Case,
    LogitNormal,
    Mixture,
    Prefix,
    Scattered,
    Uniform,
    UniformState,
)
from vqdit.diffusion.objectives import Denoising, first_loss, known_mean

N = 6000
STREAMS = (
    Continuous("a", (4, 6), 2, patch=2),
    Discrete("b", (5,), 4),
    Discrete("c", (3,), 4),
)
ALL = {s.name: jnp.ones(N, bool) for s in STREAMS}


def drawn(mixture, known=ALL, seed=0):
    draw = jax.jit(lambda key, known: mixture.draw(key, STREAMS, known))
    roles = draw(jax.random.key(seed), known)
    return jax.tree.map(np.asarray, roles)


def near(found, share, of=N):
    """Within 4 standard errors of a share."""
    assert abs(np.mean(found) - share) <= 4 * np.sqrt(share * (1 - share) / of)


def test_as_it_stands_nothing_is_given_absent_or_together():
    assert drawn(Mixture()) == ({}, {}, None)


def test_cases_have_their_share_of_every_batch():
    cases = (Case(given=("a",)), Case(absent=("a",), weight=2.0), Case(together=True))
    roles = drawn(Mixture(cases))
    for found, share in (
        (roles.given["a"], 0.25),
        (roles.absent["a"], 0.5),
        (roles.together, 0.25),
    ):
        assert abs(found.sum() - share * N) <= 1
    assert not (roles.given["a"] & roles.absent["a"]).any()
    assert roles.given.keys() == roles.absent.keys() == {"a"}


@pytest.mark.parametrize("given,absent", [(0.5, 0.25), (1.0, 0.0), (0.0, 1.0)])
def test_one_stream_is_noised_and_the_others_by_chance(given, absent):
    """Of what an example has; its absence of others changes no chance."""
    u = np.random.default_rng(0).uniform(size=(3, N))
    known = {name: row < 0.7 for name, row in zip("abc", u, strict=True)}
    roles = drawn(Mixture((Case(given=given, absent=absent),)), known)
    none = dict.fromkeys("abc", np.zeros(N, bool))
    gives, lacks = ({**none, **each} for each in roles[:2])
    count = np.sum(list(known.values()), axis=0)
    noised = [known[n] & ~gives[n] & ~lacks[n] for n in "abc"]
    assert (np.sum(noised, axis=0)[count > 0] > 0).all()
    if given + absent == 1:
        assert (np.sum(noised, axis=0)[count > 0] == 1).all()
    for found, chance in ((gives, given), (lacks, absent)):
        for some in (2, 3):
            here = count == some
            for name in "abc":
                rows = here & known[name]
                share = chance * (some - 1) / some
                near(found[name][rows], share, of=max(rows.sum(), 1))


def test_each_stream_has_a_draw_of_its_own_beside_that_of_the_case():
    """A third of the examples have another stream for sure: of the rest half, and of
    two streams at once a quarter."""
    roles = drawn(Mixture((Case(given=0.5, together=True), Case(absent=0.5))))
    for found, rows in ((roles.given, roles.together), (roles.absent, ~roles.together)):
        a, b = found["a"], found["b"]
        assert not (a | b)[~rows].any()
        near(a[rows], 1 / 3, of=N / 2)
        near((a & b)[rows], 1 / 12, of=N / 2)


def test_a_stream_that_is_always_given_is_noised_where_there_is_no_other():
    known = {"a": np.arange(N) % 2 > 0, "b": np.ones(N, bool), "c": np.zeros(N, bool)}
    roles = drawn(Mixture((Case(given=("b",), absent=("c",)),)), known)
    np.testing.assert_array_equal(roles.given["b"], known["a"])


def test_places_that_are_given_are_whole_tokens_and_never_all():
    """Counts within 4 standard errors of the law that is written."""
    parts = {"a": Around(0.5, 1.0), "b": Prefix(), "c": Scattered(0.4, 0.4)}
    given = drawn(Mixture((Case(parts=parts),))).given
    hole = ~given["a"]
    assert hole.shape == (N, 4, 6) and hole.any((1, 2)).all()
    tokens = hole.reshape(N, 2, 2, 3, 2)
    assert (tokens.all((2, 4)) == tokens.any((2, 4))).all()
    rows, columns = hole.any(2), hole.any(1)
    np.testing.assert_array_equal(hole, rows[:, :, None] & columns[:, None])
    for line in (rows, columns):  # one run each
        assert (np.abs(np.diff(line.astype(int), axis=1)).sum(1) <= 2).all()
    # 2 (1 - share)^(1/2), rounded up.
    high = rows[:, ::2].sum(1)
    assert set(high) == {1, 2}
    near(high == 2, 0.5)
    # As many at each place that it may be.
    near(rows[high == 1, 0], 0.5, of=(high == 1).sum())

    count = given["b"].sum(1)
    np.testing.assert_array_equal(given["b"], np.arange(5) < count[:, None])
    for k in range(5):
        assert abs((count == k).sum() - N / 5) <= 1  # stratified

    scattered = given["c"]
    assert not scattered.all(1).any()
    # All three fall below the share, and the highest does not count.
    near(scattered.sum(1) == 2, 3 * 0.4**2 * 0.6 + 0.4**3)
    near(scattered.sum(1) == 0, 0.6**3)


def test_places_of_one_case_are_beside_the_whole_of_another():
    """Each example as its case says, of a stream that both give."""
    cases = (Case(given=("b",)), Case(parts={"b": Prefix(0.4, 0.4)}), Case())
    given = drawn(Mixture(cases)).given["b"].sum(1)
    for count in (5, 2, 0):
        assert abs((given == count).sum() - N / 3) <= 1


def test_a_mixture_says_what_it_leaves_out_and_gives_in_parts():
    half = Case(given=0.25, absent=0.5)
    for case, a, b in (
        (Case(), False, False),
        (half, True, True),
        (Case(absent=("a",)), True, False),
        (Case(given=("a",), absent=0.5), False, True),
        (Case(given=0.5), False, False),
    ):
        mixture = Mixture((Case(), case))
        assert (mixture.leaves_out("a"), mixture.leaves_out("b")) == (a, b)
        assert mixture.parts == ()
    assert half.chances("a") == (0.25, 0.5)
    assert Case(given=("a",), absent=0.5).chances("a") == (1.0, 0.0)
    assert Case(given=("a",), absent=0.5).chances("b") == (0.0, 0.5)
    assert Case(absent=("a",), given=0.5).chances("a") == (0.0, 1.0)
    cases = (Case(parts={"b": Prefix()}), Case(parts={"a": Around(), "b": Prefix()}))
    assert Mixture(cases).parts == ("a", "b")


@pytest.mark.parametrize(
    "case, message",
    [
        (Case(given=("aa",)), "cases.1.given: there is no stream 'aa'; "),
        (Case(absent=("bb",)), "cases.1.absent: there is no stream 'bb'; "),
        (Case(parts={"c": Prefix()}), "cases.1.parts: there is no stream 'c'; "),
        (
            Case(given=("a",), absent=("b",)),
            "cases.1: every stream is given or absent, so nothing is noised; leave one",
        ),
    ],
)
def test_cases_of_other_streams_are_refused(case, message):
    with pytest.raises(ValueError) as refusal:
        Mixture((Case(), case)).check_names(("a", "b"))
    assert str(refusal.value).startswith(message)
    Mixture((Case(given=("a",), parts={"b": Prefix()}),)).check_names(("a", "b"))


def test_a_share_is_drawn_between_its_ends():
    for low, high in ((0.2, 0.2), (0.0, 0.3), (1.0, 1.0)):
        share = jax.jit(Prefix(low, high).share, static_argnums=1)
        found = np.asarray(share(jax.random.key(1), N))
        assert (low <= found).all() and (found <= high + 1e-6).all()
        near(found, (low + high) / 2)
    whole = drawn(Mixture((Case(parts={"b": Prefix(1.0, 1.0)}),)))
    assert (whole.given["b"].sum(1) == 4).all()


def test_a_share_of_whole_tokens_is_that_many():
    """Whatever float32 makes of it."""
    counts = ((6, 5), (10, 9), (12, 5), (22, 13), (23, 7))

    @jax.jit
    def run(key):
        return [
            [kind(k / n, k / n)(key, 1, (n,)).sum() for kind in (Around, Prefix)]
            for n, k in counts
        ]

    expected = [[k, k] for _, k in counts]
    np.testing.assert_array_equal(run(jax.random.key(0)), expected)


PAIR = (Continuous("image", (2, 2), 2), Discrete("word", (3,), 5))
PROCESSES = {"image": Gaussian(), "word": Masking(5)}
TIMES = {"image": Uniform(), "word": LogitNormal()}
B = 16
DATA = {
    "image": jax.random.normal(jax.random.key(1), (B, 2, 2, 2)),
    "word": jnp.arange(3 * B).reshape(B, 3, 1) % 5,
}
LABEL = jnp.full(B, -1)


class Spy:
    """Answers 0, and keeps what it is shown."""

    classes, streams = 0, PAIR

    def apply(self, variables, x, times, label, known=None):
        self.shown = x, times, known
        wide = {"image": x["image"].shape, "word": (*x["word"].shape, 5)}
        return {name: jnp.zeros(wide[name]) for name in x}


def shown(mixture, known=None, processes=PROCESSES):
    batch = {"streams": DATA, "label": LABEL} | ({"known": known} if known else {})

    @jax.jit
    def run(batch):
        spy = Spy()
        objective = Denoising(spy, processes, TIMES, mixture=mixture)
        loss, (_, metrics) = objective({}, {}, batch, jax.random.key(0), 0)
        return (*spy.shown, loss, metrics)

    return run(batch)


@pytest.mark.slow
def test_what_is_given_is_seen_as_it_is_at_time_0():
    case = Case(given=("word",), parts={"image": Scattered(0.5, 0.5)})
    roles = Mixture((case,))
    x, t, known, _, metrics = shown(roles)
    assert known is None
    np.testing.assert_array_equal(x["word"], DATA["word"])
    assert not t["word"].any() and metrics["loss_word"] == 0
    given = np.asarray(t["image"] == 0)
    assert given.shape == (B, 2, 2) and given.any() and not given.all()
    same = np.asarray(x["image"] == DATA["image"]).all(-1)
    np.testing.assert_array_equal(same, given)
    # The others stand where they stood without it.
    plain = shown(Mixture())
    other = np.broadcast_to(plain[1]["image"][:, None, None], given.shape)
    np.testing.assert_array_equal(t["image"][~given], other[~given])
    np.testing.assert_array_equal(x["image"][~given], plain[0]["image"][~given])


def test_together_is_one_draw_by_each_law():
    _, t, *_ = shown(Mixture((Case(together=True),)))
    u = np.asarray(t["image"])
    np.testing.assert_allclose(t["word"], 1 / (1 + np.exp(-norm(u))), atol=1e-5)
    _, t, *_ = shown(Mixture())
    assert (
        np.abs(t["word"] - 1 / (1 + np.exp(-norm(np.asarray(t["image"]))))).max() > 0.1
    )


def norm(u):
    return np.asarray(jax.scipy.special.ndtri(u))


def test_what_is_absent_is_unknown_and_zero():
    gaps = {"image": jnp.ones((B, 2, 2)).at[0, 0, 0].set(0)}
    x, _, known, _, metrics = shown(Mixture((Case(absent=("image",)),)), gaps)
    assert not known["image"].any() and metrics["loss_image"] == 0
    spy_x = shown(Mixture((Case(absent=("word",)),)), gaps)
    np.testing.assert_array_equal(spy_x[2]["image"], gaps["image"] > 0)
    assert not spy_x[2]["word"].any()
    del x


def test_one_is_noised_of_what_an_example_has_something_of():
    """Of no picture and the first letter of each word always the word."""
    known = {"image": jnp.zeros(B), "word": jnp.tile(jnp.arange(3) < 1, (B, 1))}
    _, t, *_ = shown(Mixture((Case(given=1.0),)), known)
    assert (t["word"] > 0).all() and not t["image"].any()


@pytest.mark.parametrize("weight", ["elbo", "none"])
def test_places_that_are_given_leave_the_loss_of_the_others(weight):
    """By hand: the loss of each place as without the mixture, over those noised."""
    processes = {**PROCESSES, "word": Masking(5, weight=weight)}
    case = Case(parts={"word": Prefix(), "image": Around()})
    _, t, _, loss, metrics = shown(Mixture((case,)), processes=processes)
    for name in PROCESSES:
        key = jax.random.split(jax.random.key(0))[1]
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        time_key, noise_key = jax.random.split(own)
        at = TIMES[name](time_key, B)
        x, target = processes[name].corrupt(DATA[name], at, noise_key)
        output = jnp.zeros(x.shape if name == "image" else (*x.shape, 5))
        places = processes[name].loss(output, target, x, at)
        expected = known_mean(places, jnp.broadcast_to(t[name] > 0, places.shape))
        np.testing.assert_allclose(metrics[f"loss_{name}"], expected, rtol=1e-6)
    assert loss > 0


@functools.cache
def gradient(mixture_of):
    """(model's parameters, a jitted (params, streams, known) -> loss, gradients)."""
    model = toys.generator(PAIR, PROCESSES)
    cases = {"absent": Case(absent=("word",)), "given": Case(given=("word",))}
    how = {"mixture": Mixture((cases[mixture_of],))}
    objective = Denoising(model.module, PROCESSES, TIMES, **how)

    @jax.jit
    def run(params, streams):
        batch = {"streams": streams, "label": LABEL}
        grad = jax.value_and_grad(lambda p: objective(p, {}, batch, KEY, 0)[0])
        return grad(params)

    return model.params, run


KEY = jax.random.key(4)


@pytest.mark.slow
def test_a_stream_that_is_absent_has_no_influence_and_no_gradient():
    params, run = gradient("absent")
    first = run(params, DATA)
    other = run(params, DATA | {"word": 4 - DATA["word"]})
    jax.tree.map(np.testing.assert_array_equal, first, other)
    for name, leaf in jax.tree_util.tree_leaves_with_path(first[1]):
        own = name[0].key.startswith("word_")
        assert bool(np.any(leaf)) != own, name


def test_a_stream_that_is_given_matters_and_is_not_predicted():
    params, run = gradient("given")
    loss, slope = run(params, DATA)
    assert not any(map(np.any, jax.tree.leaves(slope["word_out"])))
    assert np.any(slope["word_in"]["table"]) and np.any(slope["image_out"]["kernel"])
    # Never the mask: every code is there.
    assert not np.any(slope["word_in"]["table"][5])
    assert run(params, DATA | {"word": 4 - DATA["word"]})[0] != loss


@pytest.mark.parametrize("name", ["image", "word"])
def test_one_stream_is_the_plain_path_bit_for_bit(name):
    """Corrupt, ask, compare: no step beside it, whatever a mixture of one may say."""
    stream, process = [s for s in PAIR if s.name == name], PROCESSES[name]
    model = toys.generator(stream, {name: process})
    data, key = {name: DATA[name]}, jax.random.key(3)

    @jax.jit
    def plain(params):
        time_key, noise_key = jax.random.split(jax.random.split(key)[1])
        t = TIMES[name](time_key, B)
        x, target = process.corrupt(data[name], t, noise_key)
        apply = lambda p: model.module.apply({"params": p}, {name: x}, {name: t})
        loss = lambda p: process.loss(apply(p)[name], target, x, t).mean()
        return jax.value_and_grad(loss)(params)

    expected = plain(model.params)
    objective = Denoising(model.module, {name: process}, TIMES)
    batch = {"streams": data, "label": LABEL}
    loss = lambda p: objective(p, {}, batch, key, 0)[0]
    found = jax.jit(jax.value_and_grad(loss))(model.params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "case,message",
    [
        (lambda: Case(given=0.7, absent=0.4), "absent=0.4: write at most 0.3"),
        (lambda: Case(given=("a",), absent=("a",)), "absent=.*a: is given; write one"),
        (lambda: Case(given=("a",), parts={"a": Prefix()}), "parts=.*a: is given or"),
        (lambda: Case(absent=("a",), parts={"a": Around()}), "parts=.*a: is given or"),
        (lambda: Case(given=1.5), "given=1.5: write"),
        (lambda: Case(weight=0.0), "weight=0.0: write above 0"),
        (lambda: Prefix(0.5, 0.2), "low=0.5: write at most high, 0.2"),
        (lambda: Mixture(()), "cases=.*: write one or more"),
    ],
)
def test_what_cannot_be_is_refused(case, message):
    with pytest.raises(ValueError, match=message):
        case()


@pytest.mark.parametrize(
    "process,stream,expected",
    [
        (Gaussian(), PAIR[0], 2.0),  # noise less data
        (Gaussian(target="data"), PAIR[0], 1.0),
        (Masking(), PAIR[1], np.log(5)),
        (Masking(weight="none"), PAIR[1], np.log(5)),
        (UniformState(), PAIR[1], np.log(5)),
    ],
    ids=["velocity", "data", "elbo", "none", "uniform"],
)
def test_the_loss_of_who_knows_nothing(process, stream, expected):
    found = first_loss(process.fit(stream), Uniform(), stream)
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_in_each_case_every_stream_is_noised_alike():
    """One of two for sure, and the other given or absent as the case says."""
    mixture = Mixture((Case(given=1.0), Case(absent=1.0)))
    streams = [Discrete(name, (2,), 3) for name in ("a", "b")]
    known = dict.fromkeys(("a", "b"), jnp.ones(400, bool))
    roles = mixture.draw(jax.random.key(0), streams, known)
    for drawn in (roles.given, roles.absent):
        a, b = (np.asarray(drawn[name]) for name in ("a", "b"))
        assert not (a & b).any() and (a | b).sum() == 200
        assert 60 < a.sum() < 140  # of 100 expected, 5 standard errors
