"""Scores of a transformer: what they depend on, what is refused. See test_exact too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import toys
from vqdit import Bytes, Continuous, Discrete, Gaussian, Generator, Masking
from vqdit.diffusion import Linear, UniformState, example_keys
from vqdit.diffusion.process import Process, named
from vqdit.trained import conditions

KEY, IDS = jax.random.key(0), np.arange(4)
IMAGE = np.linspace(-1, 1, 4 * 16, dtype=np.float32).reshape(4, 4, 4, 1)
WORD = np.arange(12).reshape(4, 3, 1) % 5
SOUND = np.linspace(-1, 1, 4 * 6, dtype=np.float32).reshape(4, 6, 1)


@pytest.fixture(scope="module")
def model():
    streams = [
        Continuous("image", (2, 2), 2),
        Continuous("sound", (6,), 1),
        Discrete("word", (3,), 5),
    ]
    processes = {"image": Gaussian(), "sound": Gaussian(), "word": Masking()}
    found = toys.generator(streams, processes, {"image": toys.codec()})
    parts = (found.module, found.params, processes, found.tokenizers)
    return Generator(*parts, left_out=tuple(processes))


@pytest.fixture(scope="module")
def of_word(model):
    return model.scorer("word", draws=4)


@pytest.mark.slow
def test_a_score_is_its_key_and_id(model, of_word):
    """Whatever the batch; a new key, new signals and new masks need no new program."""
    found = of_word(KEY, IDS, {"word": WORD}, given={"image": IMAGE})
    some = np.array([2, 0])
    again = of_word(KEY, some, {"word": WORD[some]}, given={"image": IMAGE[some]})
    np.testing.assert_allclose(again.nats, found.nats[some], rtol=1e-5)
    seen = of_word.compilations()
    other = of_word(jax.random.key(1), IDS, {"word": WORD}, given={"image": -IMAGE})
    assert of_word.compilations() == seen and abs(other.nats - found.nats).max() > 1e-3
    assert (found.nats > 0).all() and (found.error > 0).all()
    np.testing.assert_allclose(found.bits, found.nats / 3 / np.log(2), rtol=1e-6)


@pytest.mark.slow
def test_what_is_shown_of_a_scored_stream_is_given_at_t_0(model):
    """One code is left to be scored: exactly, by the network with the others before it,
    each at its own time. Of latents the rest has as many values as it says."""
    parts = (model.module, model.params, model.processes, model.tokenizers)
    model = Generator(*parts, left_out=model.left_out, parts=("sound", "word"))
    of_word, first = model.scorer("word", draws=4), np.array([[1, 1, 0]] * 4)
    found = of_word(KEY, IDS, {"word": WORD}, shown={"word": first})
    masked, times = WORD.copy(), np.zeros((4, 3), np.float32)
    masked[:, 2], times[:, 2] = 5, 1.0
    one = {"word": jnp.asarray(masked)}, {"word": jnp.asarray(times)}
    output = model.module.apply({"params": model.params}, *one)["word"][:, 2, 0]
    log_p = jax.nn.log_softmax(output)[np.arange(4), WORD[:, 2, 0]]
    np.testing.assert_allclose(found.nats, -log_p, rtol=1e-4)
    assert abs(found.error).max() < 1e-4
    other = WORD.copy()
    other[:, 0] = (other[:, 0] + 1) % 5
    changed = of_word(KEY, IDS, {"word": other}, shown={"word": first})
    assert abs(changed.nats - found.nats).max() > 1e-4  # it is seen
    of_sound, first = model.scorer("sound", draws=4), np.array([[1, 1, 0, 0, 0, 0]] * 4)
    found = of_sound(KEY, IDS, {"sound": SOUND}, shown={"sound": first})
    np.testing.assert_allclose(found.bits, found.nats / 4 / np.log(2), rtol=1e-5)


def test_what_cannot_be_shown_is_refused(model):
    parts = (model.module, model.params, model.processes, model.tokenizers)
    model = Generator(*parts, left_out=model.left_out, parts=("sound", "word"))
    of_sound = model.scorer("sound", draws=4)
    with pytest.raises(ValueError, match=r"shown 'sound' is \(4, 3\); write \(b, \*"):
        of_sound(KEY, IDS, {"sound": SOUND}, shown={"sound": np.ones((4, 3))})
    with pytest.raises(ValueError, match=r"shown 'sound' is \(4,\); write \(b, \*"):
        of_sound(KEY, IDS, {"sound": SOUND}, shown={"sound": np.ones(4)})
    with pytest.raises(ValueError, match=r"shown 'image': write one that is scored"):
        of_sound(KEY, IDS, {"sound": SOUND}, shown={"image": np.ones((4, 2, 2))})
    shown = {"word": np.ones((4, 3))}  # which is given in parts, but not scored
    with pytest.raises(ValueError, match=r"shown 'word': .* in parts, \['sound'\]"):
        of_sound(KEY, IDS, {"sound": SOUND}, shown=shown)
    shown = {"image": np.ones((4, 2, 2))}  # which is scored, but not given in parts
    with pytest.raises(ValueError, match=r"shown 'image': .* in parts, \[\]"):
        model.scorer("image")(KEY, IDS, {"image": IMAGE}, shown=shown)


def test_what_is_unknown_is_neither_seen_nor_scored(model, of_word):
    """Of what is given and of what is scored: bit for bit, whatever stands there."""
    known = {"word": np.array([[1, 1, 0]] * 4), "image": np.array([1, 0, 1, 0])}
    other, image = WORD.copy(), IMAGE.copy()
    other[:, 2] = (other[:, 2] + 1) % 5
    image[1::2] *= -1
    a = of_word(KEY, IDS, {"word": WORD}, given={"image": IMAGE}, known=known)
    b = of_word(KEY, IDS, {"word": other}, given={"image": image}, known=known)
    np.testing.assert_array_equal(a.nats, b.nats)
    np.testing.assert_allclose(a.bits, a.nats / 2 / np.log(2), rtol=1e-6)
    out = of_word(KEY, IDS, {"word": WORD}, known={"word": known["word"]})
    np.testing.assert_allclose(out.nats[1::2], a.nats[1::2], rtol=1e-5)


@pytest.mark.slow
def test_several_streams_are_scored_one_after_the_other(model, of_word):
    both = model.scorer(("word", "sound"), draws=4)
    found = both(KEY, IDS, {"word": WORD, "sound": SOUND}, given={"image": IMAGE})
    word = of_word(KEY, IDS, {"word": WORD}, given={"image": IMAGE})
    given = {"image": IMAGE, "word": WORD}
    sound = model.scorer("sound", draws=4)(KEY, IDS, {"sound": SOUND}, given=given)
    np.testing.assert_allclose(found.nats, word.nats + sound.nats, rtol=1e-4)
    error = np.hypot(word.error, sound.error)
    np.testing.assert_allclose(found.error, error, rtol=1e-4)
    np.testing.assert_allclose(found.bits, found.nats / 9 / np.log(2), rtol=1e-5)


def test_the_error_is_that_of_a_mean(model, monkeypatch):
    """Two draws, of 0 nats and of 1: half of a nat, give or take as much; and of the
    sum of two streams."""

    class Halves:
        def query(self, x0, u, key, known):
            return x0, u

        def bound(self, output, x0, x_t, t, known):
            return jnp.floor(2 * t)

    kinds = {"word": UniformState, "sound": Gaussian}
    halves = {name: type("Halves", (Halves, k), {})() for name, k in kinds.items()}
    network = lambda streams, times, label: streams
    monkeypatch.setattr(conditions, "conditioned", lambda *how: network)
    parts = (model.module, model.params, {**model.processes, **halves})
    score = Generator(*parts, model.tokenizers).scorer(("word", "sound"), draws=2)
    found = score(KEY, IDS, {"word": WORD, "sound": SOUND})
    np.testing.assert_array_equal(found.nats, 1.0)
    np.testing.assert_allclose(found.error, 0.5**0.5, rtol=1e-6)


def test_what_is_shown_stands_as_it_is_at_time_0_and_is_not_scored(model, monkeypatch):
    """Of three codes one: 10 of each code that the network sees, its time, and 100 for
    each that is scored."""

    class Sums(UniformState):
        def query(self, x0, u, key, known):
            return 4 + 0 * x0, jnp.floor(2 * u)

        def bound(self, output, x0, x_t, t, known):
            return output.sum() + 100 * known.sum() + 1000 * t

    def network(streams, times, label):
        word, t = streams["word"], times["word"]
        t = t.reshape(t.shape + (1,) * (word.ndim - t.ndim))
        return {"word": 10.0 * word + t}

    monkeypatch.setattr(conditions, "conditioned", lambda *how: network)
    parts = (model.module, model.params, {**model.processes, "word": Sums()})
    score = Generator(*parts, model.tokenizers, parts=("word",)).scorer("word", draws=2)
    shown = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]])
    found = score(KEY, IDS, {"word": WORD}, shown={"word": shown})
    rest = (1 - shown).sum(1)
    seen = (WORD[..., 0] * shown).sum(1) + 4 * rest
    nats = 10 * seen + 0.5 * rest + 100 * rest + 500
    np.testing.assert_allclose(found.nats, nats, rtol=1e-6)
    np.testing.assert_allclose(found.bits, nats / rest / np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    "stream, process",
    [
        (Continuous("x", (4, 4), 2, patch=2), Gaussian()),
        (Discrete("x", (3,), 5), Masking()),
    ],
    ids=["latents", "codes"],
)
def test_one_stream_is_scored_by_the_plain_path_bit_for_bit(stream, process):
    """Noise, ask, bound: each draw of a stratum of its own, and their mean."""
    model, draws = toys.generator([stream], {"x": process}, classes=3), 4
    process, label = model.processes["x"], jnp.array([0, 1, 2, 1])
    x0 = WORD.astype(np.int32)
    if stream.kind == "latents":
        x0 = np.linspace(-1, 1, 128, dtype=np.float32).reshape(4, 4, 4, 2)

    @jax.jit
    def plain(params, x0):
        known = jnp.ones(x0.shape[:-1], bool)
        own = lambda key: named(key, "x")
        keys = jax.vmap(own)(example_keys(KEY, jnp.asarray(IDS)))

        def draw(i):
            both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))
            place, noise = both(keys).T
            u = (i + jax.vmap(jax.random.uniform)(place)) / draws
            x_t, t = jax.vmap(process.query)(x0, u, noise, known)
            x, t = {"x": x_t}, {"x": t}
            output = model.module.apply({"params": params}, x, t, label)["x"]
            return jax.vmap(process.bound)(output, x0, x_t, t["x"], known)

        return jax.lax.map(draw, jnp.arange(draws)).mean(0)

    found = model.scorer(draws=draws)(KEY, IDS, {"x": x0}, label)
    np.testing.assert_array_equal(found.nats, plain(model.params, x0))


def test_texts_are_scored_as_they_are_written():
    streams = [Discrete("text", (3,), 257)]
    model = toys.generator(streams, {"text": UniformState()}, {"text": Bytes(3)})
    score = model.scorer(draws=2)
    found = score(KEY, IDS[:2], {"text": ["ab", "c"]})
    codes = Bytes(3).encode(["ab", "c"])[..., None]
    np.testing.assert_array_equal(found.nats, score(KEY, IDS[:2], {"text": codes}).nats)


def test_it_is_a_pure_function_inside_a_jit(model, of_word):
    found = of_word(KEY, IDS, {"word": WORD}, given={"image": IMAGE})
    pure = jax.jit(of_word.score)
    word, image = jnp.asarray(WORD), jnp.asarray(IMAGE)
    again = pure(model.arrays, KEY, IDS, {"word": word}, None, {"image": image})
    np.testing.assert_allclose(again.nats, found.nats, rtol=1e-5)


@pytest.mark.parametrize(
    "x, more, message",
    [
        ({}, {}, r"\['word'\] are scored; got \[\]"),
        ({"word": WORD}, {"given": {"word": WORD}}, "scored and given"),
        ({"word": WORD}, {"given": {"wrod": WORD}}, "the streams are"),
        ({"word": WORD[:2]}, {}, "scored 'word' is .*; ids are"),
        ({"word": WORD + 5}, {}, "scored 'word': codes are 0 to 4; got 5 to 9"),
        ({"word": WORD}, {"label": 1}, "no classes"),
        ({"word": WORD}, {"known": {"image": IDS}}, "of nothing that is given"),
    ],
)
def test_calls_that_do_not_fit_are_refused(of_word, x, more, message):
    with pytest.raises(ValueError, match=message) as refusal:
        of_word(KEY, IDS, x, **more)
    assert "\n" not in str(refusal.value)


def test_scorers_that_cannot_be_are_refused(model):
    for fields, message in (
        ({"of": "wrod"}, "write some of the streams"),
        ({"of": ()}, "write some of the streams"),
        ({"of": ("word", "word")}, "write some of the streams"),
        ({"draws": 1}, "draws=1: write 2 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            model.scorer(**fields)

    class Own(Process):
        kind = "codes"

    own = {**model.processes, "word": Own()}
    model = Generator(model.module, model.params, own, model.tokenizers)
    with pytest.raises(ValueError, match="'word': Own has no bound"):
        model.scorer("word")


@pytest.mark.parametrize("schedule", [Linear(), None], ids=str)
def test_masks_are_counted(schedule):
    """Of six codes each count alike, at the time at which so many are expected; of what
    is known alone."""
    process = Masking(5, schedule) if schedule else Masking(5)
    x0 = jnp.arange(6).reshape(3, 2) % 5
    known = jnp.array([True, False, True])
    counts = []
    for i in range(8):
        u, key = jnp.float32((i + 0.5) / 8), jax.random.key(i)
        x_t, t = process.query(x0, u, key, known)
        masked = np.asarray(x_t == 5)
        assert not masked[1].any() and (x_t[~masked] == x0[~masked]).all()
        counts.append(masked.sum())
        assert abs(process.schedule.sigma(t) - masked.sum() / 4) < 1e-3
    np.testing.assert_array_equal(counts, [1, 1, 2, 2, 3, 3, 4, 4])
