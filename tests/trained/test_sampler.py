"""The sampler as a value: what may be asked of a call, alone and inside a jit."""

import inspect
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import toys
from vqdit import Continuous, Discrete, Gaussian, Generator, Masking, UniformState
from vqdit.diffusion import (
    Confidence,
    Cosine,
    Heun,
    Karras,
    Multistep,
    Steps,
    Unmask,
    example_keys,
    sample,
)
from vqdit.trained import conditions, labels, sampler

KEY, IDS = jax.random.key(0), jnp.arange(4)
LABEL = jnp.array([0, 1, 2, 1])


@pytest.fixture(scope="module")
def model():
    model = toys.labelled()
    model.class_names = ("six", "seven", "eight")
    return model


@pytest.fixture(scope="module")
def guided(model):
    return model.sampler(steps=2, guidance=2.0)


@pytest.fixture(scope="module")
def drawn(guided):
    return guided(KEY, IDS, LABEL)["image"]


def test_classes_have_names(guided, drawn):
    some = guided(KEY, IDS, ["six", "seven", "eight", 1])["image"]
    np.testing.assert_array_equal(some, drawn)
    one = guided(KEY, IDS, "seven")["image"]
    np.testing.assert_array_equal(one[1], drawn[1])
    np.testing.assert_array_equal(one, guided(KEY, IDS, 1)["image"])
    named = labels.check_label(
        guided.generator, np.array(["six", "eight", "six", "six"]), IDS
    )
    assert named.tolist() == [0, 2, 0, 0]
    with pytest.raises(ValueError, match="'sevn'; did you mean seven"):
        guided(KEY, IDS, "sevn")


def test_guidance_of_nothing_is_refused(guided):
    """Neither a label nor a stream is given."""
    with pytest.raises(ValueError, match="guidance needs a condition: give a label or"):
        guided(KEY, IDS)


def test_a_scale_for_each_sample(guided, drawn):
    scales = jnp.array([2.0, 0.0, 3.0, 2.0])
    mixed = guided(KEY, IDS, LABEL, guidance=scales)["image"]
    np.testing.assert_allclose(mixed[::3], drawn[::3], atol=1e-5)
    for i in (1, 2):
        alone = guided(KEY, IDS, LABEL, guidance=scales[i])["image"]
        np.testing.assert_allclose(mixed[i], alone[i], atol=1e-5)


def test_it_is_a_pure_function_inside_a_jit(model, guided, drawn):
    """With labels and scales that are traced, of arguments that are its variables."""

    @jax.jit
    def mine(model, key, label, scale):
        called = guided(key, IDS, label, guidance=scale)["image"]
        pure = guided.draw(model.arrays, key, IDS, label, guidance=scale)["image"]
        return called, pure

    for found in mine(model, KEY, LABEL, 2.0):
        np.testing.assert_allclose(found, drawn, atol=1e-5)


def test_the_pure_function_guides_by_the_scale_of_its_sampler(model, guided, drawn):
    pure = guided.draw(model.arrays, KEY, IDS, LABEL)["image"]
    np.testing.assert_allclose(pure, drawn, atol=1e-5)


def test_given_streams_guide_in_one_order_however_they_are_written():
    """By name, in a call, in the pure function and within a jit."""
    names = ("image", "late", "early")
    streams = [Continuous(name, (2,), 1) for name in names]
    model = toys.generator(streams, {name: Gaussian() for name in names})
    draw = model.sampler(steps=2, want="image", guidance={"late": 3.0, "early": -1.0})
    early, late = jnp.ones((4, 2, 1)), jnp.linspace(-1, 1, 8).reshape(4, 2, 1)
    pure = lambda given: draw.draw(model.arrays, KEY, IDS, given=given)["image"]
    one, other = {"early": early, "late": late}, {"late": late, "early": early}
    first = draw(KEY, IDS, given=one)["image"]
    within = jax.jit(lambda: pure({"late": late, "early": early}))
    for found in (
        draw(KEY, IDS, given=other)["image"],
        pure(one),
        pure(other),
        within(),
    ):
        np.testing.assert_allclose(found, first, atol=1e-4)


def test_grids_of_several_lengths_are_refused_where_streams_are_drawn_together():
    model = toys.any_to_any()
    for grid in ({"image": Steps(4)}, {"word": Steps(4), "image": Karras(3)}):
        with pytest.raises(ValueError, match="steps are .* of 'image', .* of 'word': "):
            model.sampler(grid=grid)
    grids = model.sampler(grid={"image": Steps(4)}, before="word").grids
    assert grids == {"image": Steps(4), "word": Steps(50)}, "turn after turn"


def test_a_generator_is_a_pytree(model, drawn):
    doubled = jax.tree.map(lambda x: 2 * x, model)
    assert isinstance(doubled, Generator) and doubled.module == model.module
    leaves = zip(jax.tree.leaves(doubled), jax.tree.leaves(model.params), strict=True)
    assert all((a == 2 * b).all() for a, b in leaves)
    joint = jax.tree.map(lambda x: x, toys.any_to_any())
    assert joint.sampler(steps=1)(KEY, IDS)["image"].shape == (4, 4, 4, 1)
    again = model.sampler(steps=2, guidance=2.0)
    found = again(KEY, IDS, LABEL, params=model.params)["image"]
    np.testing.assert_allclose(found, drawn, atol=1e-5)


def test_one_without_parameters_draws_by_those_of_a_call(model, drawn):
    """As a run does that is scored while it trains."""
    bare = Generator(model.module, {}, model.processes, model.tokenizers)
    draw = bare.sampler(steps=2, guidance=2.0)
    found = draw(KEY, IDS, LABEL, params=model.params)["image"]
    np.testing.assert_allclose(found, drawn, atol=1e-5)


def test_its_repr_says_what_it_is(model, guided):
    assert "image (4, 4, 2) by Gaussian" in repr(model)
    assert "3 classes" in repr(model)
    for word in ("Sampler(", "Generator(", "Steps(steps=2", "guidance=2.0"):
        assert word in repr(guided)


def test_noise_may_be_given(model):
    """That of the prior gives what is drawn without; a sample follows its noise."""
    draw = model.sampler(steps=2, trajectory=True)
    first = draw(KEY, IDS, LABEL)
    noise = first["image_path"][0]
    given = draw(jax.random.key(9), IDS + 7, LABEL, noise={"image": noise})
    np.testing.assert_allclose(given["image"], first["image"], atol=1e-5)
    for wrong, message in (
        (noise[..., :1], "noise 'image': it is"),
        (noise.at[0, 0, 0, 0].set(jnp.nan), "noise 'image': values .* not all finite"),
        (jnp.ones(noise.shape, jnp.int32), "its latents are float32; got int32"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(KEY, IDS, LABEL, noise={"image": wrong})


@pytest.mark.parametrize(
    "want, name, value, message",
    [
        ("word", "image", jnp.nan, "given 'image': values .* not all finite"),
        ("word", "image", 255.0, r"given 'image': this tokenizer takes floats in \[-1"),
        ("word", "image", 7, "given 'image': .* got int32: for uint8"),
        ("image", "word", -1, "given 'word': codes are 0 to 4; got -1"),
        ("image", "word", 5, "given 'word': codes are 0 to 4; got 5"),
        ("image", "word", 1.0, "given 'word': its codes are int32; got float32"),
    ],
)
def test_what_is_given_is_checked_at_the_door(want, name, value, message):
    shape = {"image": (4, 4, 4, 1), "word": (4, 3, 1)}[name]
    draw = toys.any_to_any().sampler(want=(want,), steps=2)
    with pytest.raises(ValueError, match=message):
        draw(KEY, IDS, given={name: jnp.full(shape, value)})


def test_a_sound_of_another_length_is_refused_in_one_line():
    """Also one that its tokenizer alone would take, whatever reads it."""
    streams = [Continuous("sound", (8,), 2), Discrete("word", (3,), 5)]
    processes = {"sound": Gaussian(), "word": Masking()}
    model = toys.generator(streams, processes, {"sound": toys.sound()})
    draw, score = model.sampler(want="word"), model.scorer("word")
    heard, read = model.scorer("sound"), model.extractor(of="sound")
    word = {"word": np.zeros((4, 3, 1), np.int32)}
    for shape in ((4, 8, 1), (4, 20, 1), (4, 15, 1), (4, 16)):
        sound = {"sound": np.zeros(shape, np.float32)}
        for what, call in (
            ("given", lambda x: draw(KEY, IDS, given=x)),
            ("given", lambda x: score(KEY, IDS, word, given=x)),
            ("scored", lambda x: heard(KEY, IDS, x)),
            ("x", lambda x: read(x, key=KEY)),
        ):
            with pytest.raises(ValueError) as refusal:
                call(sound)
            assert str(refusal.value) == (
                f"{what} 'sound': it is {shape}; write (b, 16, 1), cut or padded to "
                "these"
            )
    assert not draw.compilations() + score.compilations() + heard.compilations()


@pytest.mark.parametrize(
    "stream, process, solver",
    [
        (Continuous("x", (4, 4), 2, patch=2), Gaussian(), Heun()),
        (Discrete("x", (3,), 5), Masking(), Unmask()),
    ],
    ids=["latents", "codes"],
)
def test_one_stream_is_drawn_by_the_plain_path_bit_for_bit(stream, process, solver):
    """The network is asked as it stands, of this stream and its class, and no more."""
    model = toys.generator([stream], {"x": process}, classes=3)
    process, grid = model.processes["x"], Steps(3, 2.0)

    @jax.jit
    def plain(params):
        def predict(x, t):
            return model.module.apply({"params": params}, x, t, LABEL)

        keys, times = example_keys(KEY, IDS), grid(process, process.start)
        shapes = {"x": stream.shape}
        return sample({"x": process}, {"x": solver}, predict, keys, shapes, times)

    found = model.sampler(grid=grid, solver=solver)(KEY, IDS, LABEL)
    assert [*found] == ["x"]
    np.testing.assert_array_equal(found["x"], plain(model.params)["x"])


def test_guidance_has_the_interval_that_the_sampler_or_the_call_says(monkeypatch):
    seen, model = [], toys.labelled()
    spy = lambda *of, **_: seen.append(of[6])
    monkeypatch.setattr(sampler.diffusion, "guided", spy)
    monkeypatch.setattr(sampler.diffusion, "sample", lambda *of: {"image": of[3]})
    how = {"guidance": 2.0, "decode": False}
    some = model.sampler(interval=(0.4, 0.8), **how)
    for each, asked in ((model.sampler(**how), None), (some, None), (some, (0.1, 0.9))):
        each.draw(model.arrays, KEY, IDS, LABEL, interval=asked)
    assert seen == [None, (0.4, 0.8), (0.1, 0.9)]


def test_streams_that_are_drawn_together_start_together(monkeypatch):
    """At the earlier of their starts: of a noise target that is below 1."""
    streams = [Continuous("a", (2,), 1), Continuous("b", (2,), 1)]
    late = Gaussian(Cosine(), target="noise")
    assert late.start < Gaussian().start == 1
    seen = []

    def spy(processes, solvers, predict, keys, shapes, times, *_):
        seen.append({name: float(t[0]) for name, t in times.items()})
        return {name: jnp.zeros((4, *shape)) for name, shape in shapes.items()}

    monkeypatch.setattr(sampler.diffusion, "sample", spy)
    for name in ("a", "b"):
        processes = {"a": Gaussian(), "b": Gaussian(), name: late}
        model = toys.generator(streams, processes)
        model.sampler(steps=3).draw(model.arrays, KEY, IDS)
    for starts in seen:
        assert set(starts.values()) == {np.float32(late.start)}


def test_each_turn_is_asked_of_what_it_draws_beside_what_there_is(monkeypatch):
    """What is known of a stream stays where it is drawn, masks it where it is only
    seen, and says no more of one that is drawn by then."""
    turns, model = [], toys.any_to_any()

    def conditioned(model, params, keys, shown, mask):
        turns.append({"shown": shown, "mask": {*mask}})
        return lambda streams, times, label: streams

    def drawn(processes, solvers, predict, keys, shapes, times, given, path, *rest):
        noise, fixed, parts = map(set, rest)
        more = {"draws": {*shapes}, "given": {*given}, "noise": noise, "fixed": fixed}
        turns[-1] |= more | {"parts": parts}
        return {name: jnp.zeros((4, *shape)) for name, shape in shapes.items()}

    monkeypatch.setattr(sampler.conditions, "conditioned", conditioned)
    monkeypatch.setattr(sampler.diffusion, "sample", drawn)
    parts = model.module, model.params, model.processes, model.tokenizers
    model = Generator(*parts, parts=("word",))
    draw = model.sampler(before="word", steps=2, decode=False)
    word = {"word": jnp.zeros((4, 3, 1), jnp.int32)}
    image = {"image": jnp.zeros((4, 4, 4, 1))}
    how = {"noise": {"image": jnp.zeros((4, 2, 2, 2))}}
    first = {"shown": ("word",), "mask": set(), "draws": {"word"}, "given": set()}
    first |= {"noise": set(), "fixed": {"word"}, "parts": {"word"}}
    then = {"shown": ("image", "word"), "mask": set(), "draws": {"image"}}
    then |= {"given": {"word"}, "noise": {"image"}, "fixed": set(), "parts": set()}
    known = {"word": jnp.ones((4, 3))}
    run = lambda *given: jax.eval_shape(
        lambda: draw.draw(model.arrays, KEY, IDS, None, *given, **how)
    )
    x = run(word, known)
    assert turns == [first, then] and [*x] == ["image", "word"]
    turns.clear()
    run(image, {"image": jnp.ones(4)})
    first |= {"shown": ("word", "image"), "mask": {"image"}, "given": {"image"}}
    first |= {"fixed": set(), "parts": set()}
    then |= {"fixed": {"image"}}
    assert turns == [first, then]


def test_what_is_known_of_a_stream_that_is_drawn_later_guides_nothing(monkeypatch):
    guides, model = [], toys.any_to_any()
    spy = lambda *of, **_: guides.append({*of[4]})
    zeros = lambda shapes: {n: jnp.zeros((4, *shape)) for n, shape in shapes.items()}
    monkeypatch.setattr(sampler.diffusion, "guided", spy)
    monkeypatch.setattr(sampler.diffusion, "sample", lambda *of: zeros(of[4]))
    draw = model.sampler(before="word", guidance=5.0, decode=False)
    image = {"image": jnp.zeros((4, 4, 4, 1))}
    draw.draw(model.arrays, KEY, IDS, None, image, {"image": jnp.ones(4)})
    assert guides == [{"word"}]


def test_what_is_drawn_before_is_given_to_the_others():
    """What two samplers make, one after the other; and guided by it."""
    model, how = toys.any_to_any(), {"steps": 4, "shift": 3.0, "decode": False}
    x = model.sampler(before="word", guidance=2.0, **how)(KEY, IDS)
    first = model.sampler(want="word", **how)(KEY, IDS)
    np.testing.assert_array_equal(x["word"], first["word"])
    given = {"word": jnp.asarray(first["word"], jnp.int32)}
    for scale, same in ((2.0, True), (1.0, False)):
        then = model.sampler(want="image", guidance=scale, **how)
        then = then(KEY, IDS, given=given)["image"]
        assert np.allclose(then, x["image"], atol=1e-6) is same


@pytest.mark.slow
def test_one_of_the_others_alone_and_the_path_of_both():
    model, how = toys.any_to_any(), {"steps": 4, "shift": 3.0, "decode": False}
    x = model.sampler(before="word", guidance=2.0, **how)(KEY, IDS)
    alone = model.sampler(want="image", before="word", guidance=2.0, **how)
    for scale in (2.0, {"word": 2.0}):
        image = alone(KEY, IDS, guidance=scale)
        assert [*image] == ["image"]
        np.testing.assert_allclose(image["image"], x["image"], atol=1e-6)
    path = model.sampler(before="word", trajectory=True, **how)(KEY, IDS)
    np.testing.assert_array_equal(path["word_path"][-1], path["word"])
    assert len(path["word_path"]) == len(path["image_path"]) == 5


@pytest.mark.slow
def test_what_is_drawn_before_keeps_what_is_known_of_it():
    model, how = toys.any_to_any(), {"steps": 3, "decode": False}
    codes = np.arange(12).reshape(4, 3, 1) % 4
    known = {"word": np.array([[1, 0, 0]] * 4)}
    call = {"given": {"word": codes}, "known": known}
    x = model.sampler(before="word", **how)(KEY, IDS, **call)["word"]
    only = model.sampler(want="word", **how)(KEY, IDS, **call)["word"]
    np.testing.assert_array_equal(x, only)
    np.testing.assert_array_equal(x[:, 0], codes[:, 0])
    # What is known of the image is seen by the word before it, and guides nothing.
    image = np.random.default_rng(0).uniform(-1, 1, (4, 4, 4, 1)).astype(np.float32)
    half = {"given": {"image": image}, "known": {"image": np.eye(2)[[0, 1, 0, 1]]}}
    draw = model.sampler(before="word", guidance=5.0, **how)
    x = draw(KEY, IDS, **half)["word"]
    same = draw(KEY, IDS, guidance={"word": 5.0}, **half)["word"]
    np.testing.assert_array_equal(x, same)
    assert (x != draw(KEY, IDS)["word"]).any()
    with pytest.raises(ValueError, match="'word'. is drawn and given"):
        model.sampler(want="image", before="word")(KEY, IDS, given=call["given"])


@pytest.mark.parametrize(
    ("before", "want"), [("wrod", None), (("word", "image"), None), ("word", "word")]
)
def test_a_stream_that_goes_before_none_is_refused(before, want):
    with pytest.raises(
        ValueError, match=r"before=.*: write some of .*, and want .*; wanted is "
    ):
        toys.any_to_any().sampler(before=before, want=want)


def test_grids_are_values_or_times(model):
    even = model.sampler(grid=Steps(2))(KEY, IDS, LABEL)["image"]
    written = model.sampler(grid=(1.0, 0.5, 0.0))(KEY, IDS, LABEL)["image"]
    np.testing.assert_array_equal(even, written)
    other = model.sampler(grid={"image": Karras(3)}, solver=Multistep())
    assert np.isfinite(other(KEY, IDS, LABEL)["image"]).all()
    with pytest.raises(ValueError, match="write them in grid="):
        model.sampler(steps=3, grid=Steps(2))


@pytest.mark.parametrize(
    "ids,message",
    [
        (np.array([0.2, 0.9]), "ids are float64"),
        (np.array([], int), "whole numbers"),
        (np.array([1, 2**32 + 1]), "id 4294967297: write ids from -2.31 to below 2.31"),
        (np.array([3, 2**31]), "id 2147483648: write ids"),
        (np.array([5, -(2**31) - 1]), "id -2147483649: write ids"),
        (np.array([[1]]), "ids are int64 .1, 1.; write .b,. whole numbers"),
        (3, "whole numbers"),
    ],
)
def test_ids_that_number_nothing_are_refused(guided, ids, message):
    with pytest.raises(ValueError, match=message):
        guided(KEY, ids, label=0)


def test_ids_are_whole_numbers_of_32_bits():
    ends = conditions.whole([-(2**31), 0, 2**31 - 1])
    assert ends.dtype == jnp.int32 and ends.tolist() == [-(2**31), 0, 2**31 - 1]
    assert conditions.whole(np.array([7], np.uint8)).dtype == jnp.int32


def test_what_is_known_of_a_stream_stays():
    """The rest is drawn around it, and looks at it."""
    joint = toys.any_to_any()
    draw = joint.sampler(steps=3, decode=False)
    word = jnp.array([[[0], [1], [2]]] * 4)
    known = jnp.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1]])
    found = draw(KEY, IDS, given={"word": word}, known={"word": known})
    free = draw(KEY, IDS)
    mask = known[..., None] > 0
    np.testing.assert_array_equal(found["word"][mask], word[mask])
    np.testing.assert_array_equal(found["word"][1], free["word"][1])
    np.testing.assert_allclose(found["image"][1], free["image"][1], atol=1e-5)
    assert abs(found["image"][3] - free["image"][3]).max() > 1e-3
    with pytest.raises(ValueError, match=r"\['word'\] is of nothing that is given"):
        draw(KEY, IDS, known={"word": known})


def test_what_is_known_is_that_of_each_sample():
    """A guided batch holds every sample several times, each with its own mask."""
    draw = toys.any_to_any().sampler(
        steps=2, want=("image",), guidance=3.0, decode=False
    )
    word = jnp.array([[[0], [1], [2]]] * 4)

    def ask(known, ids=IDS):
        given = {"word": word[: len(ids)]}
        return draw(KEY, ids, given=given, known={"word": known})["image"]

    known = jnp.array([1, 0, 0, 1])
    found, whole, none = ask(known), ask(jnp.ones(4)), ask(jnp.zeros(4))
    assert abs(whole - none).max() > 1e-3
    mask = known[:, None, None, None] > 0
    np.testing.assert_allclose(found, jnp.where(mask, whole, none), atol=1e-5)


def test_each_condition_has_its_own_scale():
    """Scales alike are one scale; a scale of 0 forgets its condition."""
    streams = [vqdit.Continuous("image", (2, 2), 2), Discrete("word", (3,), 5)]
    processes = {"image": vqdit.Gaussian(), "word": vqdit.Masking()}
    model = toys.generator(streams, processes, classes=3)
    draw = model.sampler(steps=2, want=("image",), guidance=1.0)
    word = jnp.arange(12).reshape(4, 3, 1) % 5

    def ask(label, word, /, **scales):
        given = {"word": word}
        return draw(KEY, IDS, label, given=given, guidance=scales)["image"]

    one = draw(KEY, IDS, LABEL, given={"word": word}, guidance=2.5)["image"]
    np.testing.assert_allclose(ask(LABEL, word, word=2.5, label=2.5), one, atol=1e-4)
    unlabelled = ask(LABEL, word, word=2.0, label=0.0)
    other = ask((LABEL + 1) % 3, word, word=2.0, label=0.0)
    np.testing.assert_allclose(unlabelled, other, atol=1e-4)
    assert abs(unlabelled - ask(LABEL, word[::-1], word=2.0, label=0.0)).max() > 1e-3
    with pytest.raises(ValueError, match="write a scale for each of"):
        ask(LABEL, word, word=2.0)


def test_a_third_process_is_drawn_by_being_written(tmp_path):
    """Saved, loaded and sampled; a solver of masks is not one for it."""
    codec = toys.codec()
    codes = Discrete("image", (2, 2), 9)
    model = toys.generator([codes], {"image": UniformState()}, {"image": codec})
    assert model.processes["image"].vocab == 9
    vqdit.save(tmp_path / "bundle", model)
    again = vqdit.load(tmp_path / "bundle")
    draw = again.sampler(steps=3)
    found = draw(KEY, IDS)["image"]
    assert found.shape == (4, 4, 4, 1) and abs(found).max() <= 1
    np.testing.assert_array_equal(found, model.sampler(steps=3)(KEY, IDS)["image"])
    with pytest.raises(ValueError, match="Confidence is a solver for Masking"):
        again.sampler(solver=Confidence(math.inf))


CALLS = """
import jax, jax.numpy as jnp, numpy as np
from tests import toys

model, ids = toys.any_to_any(), jnp.arange(2)
x = {n: np.zeros((2, *s.shape), s.dtype) for n, s in model.streams.items()}
x |= {n: np.zeros((2, *c.contract.shape), "f4") for n, c in model.codecs.items()}
of = next(iter(model.streams))
for key in (jax.random.PRNGKey(0), 0, None, jax.random.split(jax.random.key(0))):
    for call in (
        lambda: model.sampler(steps=1)(key, ids),
        lambda: model.scorer(draws=2)(key, ids, x),
        lambda: model.extractor(of=of, time=0.5)(x, key=key),
    ):
        try:
            call()
        except ValueError as error:
            print(error)
"""


def test_example_keys_are_made_of_one_typed_key():
    make = inspect.unwrap(example_keys)
    assert make(KEY, IDS).shape == (4,)
    with pytest.raises(ValueError, match=r"key is uint32 \(2,\); write one typed key"):
        make(jax.random.PRNGKey(0), IDS)


@pytest.mark.slow
def test_a_key_that_is_not_typed_is_refused_in_one_line():
    """Without the check of annotations, which users do not have."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS], capture_output=True, text=True, check=True
    )
    said = "key is {}; write one typed key, jax.random.key(0)".format
    absent = "'image' is late, and stands there as noise: pass key="
    expected = [said("uint32 (2,)")] * 3 + [said("int32 ()")] * 3
    expected += [said("None")] * 2 + [absent] + [said("key<fry> (2,)")] * 3
    assert done.stdout.splitlines() == expected
