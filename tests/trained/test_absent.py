"""Streams that are neither wanted nor given: noise at t = 1, or out of the sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import toys
from vqdit import Continuous, Discrete, Gaussian, Generator, Masking
from vqdit.diffusion import example_keys, priors
from vqdit.dit import DiT
from vqdit.trained import conditions

KEY, IDS = jax.random.key(0), jnp.arange(4)
WORD = jnp.arange(12).reshape(4, 3, 1) % 5
SOUND = jnp.linspace(-1, 1, 4 * 6).reshape(4, 6, 1)
SHAPES = {"image": (2, 2, 2), "sound": (6, 1), "word": (3, 1)}


@pytest.fixture(scope="module")
def noised():
    streams = [
        Continuous("image", (2, 2), 2),
        Continuous("sound", (6,), 1),
        Discrete("word", (3,), 5),
    ]
    processes = {"image": Gaussian(), "sound": Gaussian(), "word": Masking()}
    return toys.generator(streams, processes)


@pytest.fixture(scope="module")
def left_out(noised):
    out = tuple(noised.streams)
    return Generator(noised.module, noised.params, noised.processes, {}, left_out=out)


def drawn(model, given, known=None, scale=None, ids=IDS):
    draw = model.sampler(want="image", steps=2, guidance=scale)
    given = {name: x[: len(ids)] for name, x in given.items()}
    return draw(KEY, ids, given=given, known=known)["image"]


@pytest.mark.parametrize("scale", [None, 3.0])
def test_left_out_is_masked_out(left_out, scale):
    """To rounding, whatever stands in what is masked; and guided away from it."""
    out = drawn(left_out, {"word": WORD}, scale=scale)
    for sound in (SOUND, SOUND + 5):
        given, known = {"word": WORD, "sound": sound}, {"sound": jnp.zeros(4)}
        if scale is None:
            masked = drawn(left_out, given, known)
            np.testing.assert_allclose(out, masked, atol=1e-5)
    assert abs(out - drawn(left_out, {"word": WORD[::-1]}, scale=scale)).max() > 1e-3


def test_the_network_is_told_what_each_copy_of_the_batch_sees(noised, left_out):
    """Known places of those that are there; others as their noise at t = 1, or out."""
    seen = {}

    def apply(streams, times, label, known=None):
        seen.update(streams=streams, times=times, label=label, known=known)
        return dict(streams)

    keys = example_keys(KEY, IDS[:2])
    known = {"word": jnp.array([[True, False, True], [True, True, False]])}
    twice = np.array([0, 1, 0, 1])
    streams = {"word": WORD[twice], "sound": SOUND[twice]}
    times = {name: jnp.full(4, 0.5) for name in streams}
    there = jnp.array([True, True, False, False])
    for model in (noised, left_out):
        how = model, None, keys, ("word", "sound"), known, apply
        network = conditions.conditioned(*how)
        out = network(streams, times, None, {"word": there, "sound": there})
        assert out.keys() == {"word", "sound"} and seen["label"] is None
        np.testing.assert_array_equal(seen["known"]["word"][:2], known["word"])
        assert not seen["known"]["word"][2:].any()
        np.testing.assert_array_equal(seen["known"]["sound"], there)
        network(streams, times, None)
        np.testing.assert_array_equal(seen["known"]["word"][2:], known["word"])
        assert seen["known"].keys() == {"word"}
        assert ("image" in seen["streams"]) is (model is noised)
        if model is noised:
            noise = priors(model.processes, {"image": (2, 2, 2)}, keys)["image"]
            np.testing.assert_array_equal(seen["streams"]["image"][:2], noise)
            np.testing.assert_array_equal(seen["streams"]["image"][2:], noise)
            np.testing.assert_array_equal(seen["times"]["image"], jnp.ones(4))
        conditions.conditioned(*how[:4], {}, apply)(streams, times, None)
        assert seen["known"] is None


def test_nothing_need_be_given(noised, left_out):
    found = [drawn(model, {}) for model in (noised, left_out)]
    assert abs(found[0] - found[1]).max() > 1e-3


def test_what_is_left_out_costs_nothing(left_out, monkeypatch):
    """The network is never shown it, nor a token in its place."""
    asked, apply = [], DiT.apply

    def spy(self, variables, x, *rest, **fields):
        asked.append((set(x), fields))
        return apply(self, variables, x, *rest, **fields)

    monkeypatch.setattr(DiT, "apply", spy)
    draw = left_out.sampler(want="image", steps=2)
    jax.eval_shape(draw.draw, left_out.arrays, KEY, IDS, given={"word": WORD})
    assert asked and all(call == ({"image", "word"}, {}) for call in asked)


@pytest.mark.slow
def test_as_noise_it_stands_at_its_end(noised):
    """As if it were given there: a draw of its prior, a function of (key, id)."""
    seen = {}

    class Spied:
        streams, classes = noised.module.streams, 0

        def apply(self, variables, x, t, label):
            seen.update({name: (x[name], t[name]) for name in x})
            return noised.module.apply(variables, x, t, label)

    model = Generator(noised.module, noised.params, noised.processes, {})
    model.module = Spied()
    draw = model.sampler(want="image", steps=1)
    with jax.disable_jit():
        draw.draw(model.arrays, KEY, IDS, given={"word": WORD})
    noise = priors(noised.processes, SHAPES, example_keys(KEY, IDS))
    np.testing.assert_array_equal(seen["sound"][0], noise["sound"])
    np.testing.assert_array_equal(seen["sound"][1], 1)
    np.testing.assert_array_equal(seen["word"][1], 0)
    everyone, few = (drawn(noised, {"word": WORD}, ids=ids) for ids in (IDS, IDS[:2]))
    np.testing.assert_allclose(few, everyone[:2], atol=1e-5)


def test_guidance_leaves_out_where_training_did(noised, left_out):
    """A scale of 0 is a draw with nothing given, of either kind."""
    draw = left_out.sampler(want="image", steps=2, guidance=0.0)
    none = draw(KEY, IDS, given={"word": WORD, "sound": SOUND})["image"]
    np.testing.assert_allclose(none, drawn(left_out, {}), atol=1e-4)
    draw = noised.sampler(want="image", steps=2, guidance=0.0)
    none = draw(KEY, IDS, given={"word": WORD, "sound": SOUND})["image"]
    np.testing.assert_allclose(none, drawn(noised, {}), atol=1e-4)


@pytest.mark.slow
def test_streams_are_left_out_each_as_it_was_in_training(noised, left_out):
    """The word was; the sound never, so it is noise at t = 1."""
    how = noised.module, noised.params, noised.processes, {}
    model = Generator(*how, left_out=("word",))
    none = drawn(model, {"sound": SOUND})
    np.testing.assert_allclose(none, drawn(left_out, {"sound": SOUND}), atol=1e-4)
    given = {"word": WORD, "sound": SOUND}
    forgotten = drawn(model, given, scale={"sound": 1.0, "word": 0.0})
    np.testing.assert_allclose(forgotten, none, atol=1e-4)
    np.testing.assert_allclose(
        drawn(model, given, scale=0.0), drawn(model, {}), atol=1e-4
    )
    for other in (noised, left_out):
        assert abs(drawn(model, {}) - drawn(other, {})).max() > 1e-3


def test_each_condition_is_left_out_by_its_own_scale(left_out):
    """The word first, then the sound beside it: a scale of 0 forgets that alone."""
    draw = left_out.sampler(want="image", steps=2, guidance=1.0)
    given, scales = {"word": WORD, "sound": SOUND}, {"sound": 0.0, "word": 1.0}
    # In the order of the streams: without both, with the sound, with the word too.
    last = draw(KEY, IDS, given=given, guidance={"sound": 1.0, "word": 0.0})["image"]
    np.testing.assert_allclose(last, drawn(left_out, {"sound": SOUND}), atol=1e-4)
    other = draw(KEY, IDS, given=given, guidance=scales)["image"]
    assert abs(other - last).max() > 1e-3


def test_a_program_for_each_set(left_out):
    draw = left_out.sampler(want="image", steps=2)
    for given in ({}, {"word": WORD}, {"word": WORD[::-1]}, {"sound": SOUND}):
        draw(KEY, IDS, given=given)
    assert draw.compilations() == 3


def test_a_bundle_says_how_absent_streams_are(noised, left_out, tmp_path):
    for model in (noised, left_out):
        folder = tmp_path / str(len(model.left_out))
        vqdit.save(folder, model)
        again = vqdit.load(folder)
        assert again.left_out == model.left_out
        assert jax.tree.map(lambda x: x, again).left_out == model.left_out
    # A file says it where it is not what all files of before mean.
    assert '"left_out"' not in (tmp_path / "0" / "config.json").read_text()


def test_tokens_that_are_known_whole_are_given():
    """A token has one time: one that is known in part stands with what is drawn."""
    stream = Continuous("image", (4, 4), 2, patch=2)
    known = np.zeros((2, 4, 4), int)
    known[0, :2] = known[0, 2, 2] = known[1, 1:3, 1:3] = 1
    whole = np.zeros((2, 4, 4), bool)
    whole[0, :2] = True
    np.testing.assert_array_equal(
        conditions.whole_tokens(stream, jnp.asarray(known)), whole
    )
    rows = np.array([[1, 0, 0, 0], [0, 0, 0, 1]])
    whole = np.zeros((2, 4, 4), bool)
    whole[0, 0] = whole[1, 3] = True
    line = Discrete("image", (4, 4), 5)
    np.testing.assert_array_equal(
        conditions.whole_tokens(line, jnp.asarray(rows)), whole
    )


def test_places_of_a_stream_that_was_trained_in_parts(noised):
    """They stay, they are seen, and the same places given otherwise are as before."""
    parts = (noised.module, noised.params, noised.processes, {})
    model = Generator(*parts, parts=("sound",))
    known = {"sound": jnp.array([[1, 1, 0, 0, 0, 0]] * 4)}

    def ask(model, sound):
        draw = model.sampler(want=("sound", "word"), steps=2)
        return draw(KEY, IDS, given={"sound": sound}, known=known)

    found, other = ask(model, SOUND), ask(model, SOUND + 0.5)
    np.testing.assert_array_equal(found["sound"][:, :2], SOUND[:, :2])
    assert abs(found["sound"] - other["sound"])[:, 2:].max() > 1e-3
    assert abs(found["sound"] - ask(noised, SOUND)["sound"])[:, 2:].max() > 1e-3
