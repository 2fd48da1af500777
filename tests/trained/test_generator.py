"""Samplers: what compiles, what a sample depends on, what is refused."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vqdit
from tests import toys
from vqdit import Continuous, Discrete, Gaussian, Generator, Masking
from vqdit.diffusion import (
    Confidence,
    Heun,
    ImplicitEuler,
    Plain,
    Reversed,
    Steps,
    example_keys,
    priors,
)
from vqdit.trained import conditions, inputs, labels
from vqdit.trained.generator import check_stream
from vqdit.trained.inputs import grid as grid_of

KEY = jax.random.key(0)
IDS = jnp.arange(8)
LABEL = jnp.array([0, 1, 2, 0, 1, 2, 0, 1])


@pytest.fixture(scope="module")
def model():
    return toys.labelled()


@pytest.fixture(scope="module")
def guided(model):
    return model.sampler(steps=2, guidance=2.0)


@pytest.fixture(scope="module")
def unguided(model):
    return model.sampler(steps=2)


@pytest.fixture(scope="module")
def everyone(guided):
    return guided(KEY, IDS, LABEL)["image"]


def test_nothing_but_shapes_compiles(guided, everyone):
    guided(KEY, IDS, LABEL, interval=(0.5, 1.0))  # a program of its own
    seen = guided.compilations()
    assert seen >= 2
    others = [
        guided(jax.random.key(5), IDS, LABEL),
        guided(KEY, IDS + 100, LABEL),
        guided(KEY, IDS, (LABEL + 1) % 3),
        guided(KEY, IDS, LABEL, guidance=3.5),
        guided(KEY, IDS, LABEL, interval=(0.6, 1.0)),
        guided(KEY, IDS, LABEL, guidance=0.0, interval=(0.0, 0.6)),
    ]
    assert guided.compilations() == seen
    for other in others:
        assert abs(other["image"] - everyone).max() > 1e-3


def test_a_sample_is_its_key_and_id(guided, everyone):
    order = jnp.array([5, 0, 3, 7, 1, 1, 2, 4])
    again = guided(KEY, order, LABEL[order])["image"]
    np.testing.assert_allclose(again, everyone[order], atol=1e-5)
    few = guided(KEY, order[:3], LABEL[order[:3]])["image"]
    np.testing.assert_allclose(few, everyone[order[:3]], atol=1e-5)


def test_a_sample_is_the_same_on_eight_devices(guided, everyone):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    many = guided(KEY, jax.device_put(IDS, batch), LABEL)["image"]
    assert len(many.sharding.device_set) == 8
    np.testing.assert_allclose(many, everyone, atol=1e-4)


def test_scale_one_is_no_guidance(guided, unguided, everyone):
    plain = unguided(KEY, IDS, LABEL)["image"]
    one = guided(KEY, IDS, LABEL, guidance=1.0)["image"]
    np.testing.assert_allclose(one, plain, atol=1e-4)
    never = guided(KEY, IDS, LABEL, interval=(2.0, 3.0))["image"]
    np.testing.assert_allclose(never, plain, atol=1e-4)
    assert abs(everyone - plain).max() > 1e-2


def test_scale_zero_forgets_the_label(guided, unguided):
    null = unguided(KEY, IDS, jnp.full(8, 3))["image"]
    none = guided(KEY, IDS, LABEL, guidance=0.0)["image"]
    np.testing.assert_allclose(none, null, atol=1e-4)
    assert abs(unguided(KEY, IDS, LABEL)["image"] - null).max() > 1e-3


def test_a_constant_velocity_is_subtracted_from_the_noise(model):
    """The one network whose samples are known: what is drawn is x_1 - velocity."""
    out = {"kernel": 0 * model.params["image_out"]["kernel"]}
    out["bias"] = jnp.tile(jnp.array([3.0, -1.0]), 4)
    params = {**model.params, "image_out": out}
    constant = Generator(model.module, params, model.processes, {})
    draw = constant.sampler(steps=3, guidance=5.0, shift=2.0, trajectory=True)
    found = draw(KEY, IDS + 20, LABEL)
    keys = example_keys(KEY, IDS + 20)
    noise = priors(model.processes, {"image": (4, 4, 2)}, keys)["image"]
    expected = noise - jnp.array([3.0, -1.0])
    np.testing.assert_allclose(found["image"], expected, atol=1e-5)
    path = found["image_path"]
    assert path.shape == (4, 8, 4, 4, 2)
    np.testing.assert_allclose(path[0], noise, atol=1e-6)
    np.testing.assert_allclose(path[-1], found["image"], atol=1e-6)
    # t = 2/3 and 1/3 of even steps, moved towards noise by the shift.
    np.testing.assert_allclose(path[1], noise - 0.2 * (noise - expected), atol=1e-5)
    np.testing.assert_allclose(path[2], noise - 0.5 * (noise - expected), atol=1e-5)


# Any to any: images through a tokenizer, and words.


@pytest.fixture(scope="module")
def joint():
    return toys.any_to_any()


LATENT = Continuous("image", (2, 2), 2)
CODES = Discrete("image", (2, 2), 9)

IMAGE = jnp.linspace(-1, 1, 8 * 16).reshape(8, 4, 4, 1)
WORD = jnp.arange(24).reshape(8, 3, 1) % 5


def test_all_streams_are_drawn_together(joint):
    draw = joint.sampler(steps=2, solver={"image": Heun()})
    found = draw(KEY, IDS)
    assert found["image"].shape == (8, 4, 4, 1)  # decoded
    assert abs(found["image"]).max() <= 1
    assert found["word"].shape == (8, 3, 1) and found["word"].dtype == jnp.int32
    assert 0 <= found["word"].min() and found["word"].max() < 5


def test_a_stream_is_drawn_by_its_own_solver_unless_told(joint, tmp_path):
    """Kept in the bundle, and by what JAX makes of a generator."""
    solvers = {"word": Confidence(noise=0.0), "image": Heun()}
    parts = joint.module, joint.params, joint.processes, joint.tokenizers
    own = Generator(*parts, joint.class_names, solvers=solvers)
    vqdit.save(tmp_path, own)
    for model in (own, vqdit.load(tmp_path), jax.tree.map(jnp.asarray, own)):
        assert model.solvers == solvers
        assert model.sampler(want="word").solvers == {"word": Confidence(noise=0.0)}
        some = model.sampler(solver={"image": Plain()}).solvers
        assert some == solvers | {"image": Plain()}
        assert model.sampler(want="image", solver=Plain()).solvers["image"] == Plain()
    draw = lambda model, **how: model.sampler(steps=2, **how)(KEY, IDS)["word"]
    np.testing.assert_array_equal(draw(own), draw(joint, solver=solvers))
    assert (np.asarray(draw(own)) != draw(joint)).any()
    assert joint.solvers == {} and joint.sampler().solvers["word"] == Plain()
    with pytest.raises(ValueError, match="'word': Heun is a solver for Gaussian"):
        Generator(*parts, solvers={"word": Heun()})
    with pytest.raises(ValueError, match="^solvers for wrod: the streams"):
        Generator(*parts, solvers={"wrod": Heun()})


def ask(draw, given, scale):
    return draw(KEY, IDS, given=given, guidance=scale)


def check_condition(draw, name, given):
    """It changes what is drawn, unless the scale is 0, and costs no compilation."""
    found = ask(draw, {name: given}, 1.0)
    assert len(found) == 1 and name not in found
    ((want, values),) = found.items()
    other = given[::-1]
    assert not jnp.array_equal(ask(draw, {name: other}, 1.0)[want], values)
    absent = [ask(draw, {name: x}, 0.0)[want] for x in (given, other)]
    np.testing.assert_allclose(*absent, atol=1e-5)
    assert draw.compilations() == 1
    return values


def test_words_are_a_condition_of_images(joint):
    draw = joint.sampler(steps=4, want=("image",), guidance=1.0, decode=False)
    check_condition(draw, "word", WORD)


def test_images_are_a_condition_of_words(joint):
    draw = joint.sampler(steps=2, want=("word",), guidance=1.0)
    check_condition(draw, "image", IMAGE)


def test_signals_become_what_the_stream_models(joint):
    """Latents by the contract's mean and std for a Gaussian, codes for masks."""
    codec = joint.tokenizers["image"]
    coded = toys.generator([CODES], {"image": Masking(9)}, {"image": codec})
    variables = coded.arrays

    @jax.jit
    def run(variables, x):
        latents, codes = (m.encode("image", variables, x) for m in (joint, coded))
        z = codec.module.apply(variables["tokenizers"]["image"], x, method="encode")
        signals = (
            joint.decode("image", variables, latents),
            coded.decode("image", variables, codes),
        )
        return z, latents, codes, signals

    z, latents, codes, (first, second) = run(variables, IMAGE)
    mean, std = codec.contract.mean, codec.contract.std
    np.testing.assert_allclose(latents * jnp.array(std) + jnp.array(mean), z, atol=1e-5)
    assert codes.shape == (8, 2, 2, 1) and codes.dtype == jnp.int32
    # Decoding quantizes latents, so both ways lead to one signal.
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert abs(first).max() <= 1 and first.std() > 1e-3


# What is refused, before anything compiles.


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"want": ("sound",)}, "the streams are"),
        ({"want": ()}, "the streams are"),
        ({"solver": Confidence()}, "'image': Confidence is a solver for Masking"),
        ({"solver": {"word": Heun()}}, "'word': Heun is a solver for Gaussian"),
        ({"solver": {"imgae": Heun()}}, "imgae"),
        ({"solver": {"image": Heun}}, "write a value"),
        ({"guidance": 2.0}, "guidance needs a condition"),
        ({"steps": 0}, "at least 1"),
        ({"shift": 0.0}, "shift=0.0: write above 0"),
        ({"want": ("image",), "guidance": {}}, "guidance of none: write a scale for"),
        ({"guidance": {"word": 2.0}, "want": "word"}, "of word: write a scale"),
        ({"grid": (1.0, 0.2, 0.5)}, "falling from at most 1 to 0"),
    ],
)
def test_samplers_that_cannot_be_are_refused(joint, fields, message):
    with pytest.raises(ValueError, match=message) as refusal:
        joint.sampler(**fields)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "refuses,message",
    [
        (lambda: inputs.names("want", 5), "want=5: write a name, or several"),
        (lambda: inputs.names("of", ("word", None)), "of=.'word', None.: write a name"),
        (lambda: inputs.by_stream("given", [1]), "given is a list; write {stream: "),
        (lambda: grid_of(5), "grid=5: write a grid, as Steps.50., or its times"),
        (lambda: grid_of(Steps), "write a grid, as Steps.50., or its times"),
        (lambda: grid_of(np.zeros((2, 2))), "write a grid, as Steps.50., or its times"),
        (lambda: grid_of("ab"), "grid='ab': write a grid"),
        (lambda: conditions.scales("2"), "guidance='2': write finite numbers"),
        (lambda: conditions.scales([1, 2]), r"guidance=int64 \(2,\): write finite"),
        (lambda: conditions.scales(True), "guidance=True: write finite numbers"),
        (lambda: conditions.interval(0.5), "interval=0.5: write .low, high."),
        (
            lambda: conditions.interval((0, 1, 2)),
            "interval=.0, 1, 2.: write .low",
        ),
        (lambda: conditions.interval("ab"), "interval='a': write finite numbers"),
    ],
)
def test_arguments_of_other_kinds_are_refused(refuses, message):
    """As who calls them without types writes them: numpy's words were of its inside."""
    with pytest.raises(ValueError, match=message) as refusal:
        refuses()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samplers_take_finite_numbers(joint, model, value):
    for made in (
        lambda: model.sampler(guidance=value),
        lambda: model.sampler(guidance={"label": value}),
        lambda: model.sampler(guidance=2.0, interval=(0.2, value)),
        lambda: model.sampler(guidance=2.0, interval=(value, 0.8)),
        lambda: model.sampler(guidance=2.0, interval=(0.8, 0.2)),
        lambda: model.sampler(shift=value),
        lambda: model.sampler(grid=(1.0, value, 0.0)),
        lambda: joint.extractor(of="image", time=value),
    ):
        with pytest.raises(ValueError) as refusal:
            made()
        assert "\n" not in str(refusal.value)
    draw = model.sampler(guidance=2.0)
    for how in (
        {"guidance": value},
        {"guidance": jnp.full(8, value)},
        {"interval": (0.2, value)},
        {"interval": (value, 0.8)},
    ):
        with pytest.raises(ValueError, match="guidance|interval") as refusal:
            draw(KEY, IDS, label=LABEL, **how)
        assert "\n" not in str(refusal.value)
    assert draw.compilations() == 0


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"given": {"image": IMAGE, "word": WORD}}, r"\['word'\] is drawn and given"),
        ({"given": {"imgae": IMAGE}}, r"\['imgae'\]: the streams are \['image', 'wor"),
        ({"known": {"image": IDS}}, r"known \['image'\] is of nothing that is given"),
        (
            {"given": {"image": IMAGE}, "known": {"image": IMAGE[..., 0]}},
            r"known 'image' is \(8, 4, 4\); write \(b,\) or \(b, \*\(2, 2\)\)",
        ),
        ({"given": {"image": IMAGE[:3]}}, r"given 'image' is .3, 4, 4, 1.; ids are"),
        ({"given": {"image": IMAGE}, "guidance": 2.0}, "built without guidance"),
        ({"given": {"image": IMAGE}, "interval": (0, 1)}, "built without guidance"),
        ({"noise": {"image": IMAGE[..., 0]}}, r"noise 'image': it is .8, 4, 4."),
        (
            {"noise": {"image": np.ones((8, 2, 2, 2), np.float32)}},
            r"noise of \['image'\]: \('word',\) are drawn",
        ),
        ({"given": {"image": IMAGE}, "label": LABEL}, "no classes"),
        (
            {"given": {"image": IMAGE}, "known": {"image": np.array(["a"] * 8)}},
            "known 'image' is <U1; write 1 where it is, and 0",
        ),
        (
            {"given": {"image": IMAGE}, "known": {"image": IDS * 1j}},
            "known 'image' is complex64; write 1 where it is",
        ),
        ({"params": {}}, "params: block_00/.* is absent, and the generator's .16"),
    ],
)
def test_calls_that_do_not_fit_are_refused(joint, fields, message):
    draw = joint.sampler(want=("word",))
    with pytest.raises(ValueError, match=message) as refusal:
        draw(KEY, IDS, **fields)
    assert "\n" not in str(refusal.value)
    assert draw.compilations() == 0


@pytest.mark.parametrize(
    "scale,message",
    [
        (
            [1.0, 2.0],
            r"guidance=float64 \(2,\): write finite numbers, one or 8 ",
        ),
        (np.ones((8, 1)), r"guidance=float64 \(8, 1\): write finite"),
        (np.ones((8, 8)), r"guidance=float64 \(8, 8\): write finite"),
        ([[1.0], [1.0, 2.0]], "rows of several lengths"),
        (10**400, "guidance=1000.*: write finite numbers"),
        (2 + 1j, "guidance=.2.1j.: write finite numbers"),
        ({"label": "2"}, "guidance of 'label'='2': write finite numbers"),
        ({"label": None}, "guidance of 'label'=None: write finite numbers"),
        ({"label": np.ones(3)}, r"guidance of 'label'=float64 \(3,\): write finite"),
    ],
)
def test_scales_that_are_no_numbers_of_the_batch_are_refused(guided, scale, message):
    """One of rows would scale the rows of a picture, each by another."""
    with pytest.raises(ValueError, match=message) as refusal:
        guided(KEY, IDS, LABEL, guidance=scale)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=r"interval=float64 \(3,\): write finite"):
        guided(KEY, IDS, LABEL, interval=(np.zeros(3), 1.0))


def test_scales_may_be_a_list(guided):
    one = guided(KEY, IDS, LABEL, guidance=jnp.full(8, 1.5))
    listed = guided(KEY, IDS, LABEL, guidance=[1.5] * 8)
    np.testing.assert_array_equal(listed["image"], one["image"])


def test_streams_are_of_one_type_whatever_they_came_in(joint):
    """Noise of half the width ended in a scan's own words, codes of 8 bits too."""
    narrow = {"image": np.ones((8, 2, 2, 2), np.float16)}
    assert conditions.typed(joint, narrow, signals=False)["image"].dtype == jnp.float32
    assert conditions.typed(joint, {"image": IMAGE})["image"] is IMAGE
    assert conditions.typed(joint, {"word": np.uint8(WORD)})["word"].dtype == jnp.int32


def test_lists_of_arrays_are_arrays():
    """Also where JAX made the numbers in them."""
    found = inputs.array([jnp.float32(1.5), 2.0])
    assert isinstance(found, jax.Array) and found.tolist() == [1.5, 2.0]
    assert isinstance(inputs.array([1.5, 2.0]), np.ndarray)


def test_a_generator_says_its_layers(model):
    assert model.layers == ("embedded", "block_00", "final_norm")


@pytest.mark.parametrize("field", ["left_out", "parts"])
def test_streams_that_there_are_not_are_refused(joint, field):
    made = (joint.module, joint.params, joint.processes, joint.tokenizers)
    with pytest.raises(ValueError) as refusal:
        Generator(*made, **{field: ("wrod",)})
    said = f"{field}=('wrod',): the streams are ['image', 'word']"
    assert str(refusal.value) == said
    assert getattr(Generator(*made, **{field: ["word"]}), field) == ("word",)


def test_what_jax_makes_of_a_generator_is_all_of_it(joint):
    made = (joint.module, joint.params, joint.processes, joint.tokenizers)
    own = Generator(*made, ("a", "b"), (1,), ("image",), ("word",), {"word": Plain()})
    again = jax.tree.map(lambda leaf: leaf, own)
    for field in ("class_names", "untrained", "left_out", "parts", "solvers"):
        assert (
            getattr(again, field) == getattr(own, field) != getattr(Generator, field, 0)
        )
    assert (again.module, again.processes) == (own.module, own.processes)
    assert again.codecs.keys() == {"image"} and again.values == {}
    size = sum(leaf.size for leaf in jax.tree.leaves(own.params))
    said = repr(own)
    assert "through its tokenizer, word (3, 1) by Masking(vocab=5" in said
    assert said.endswith(f", {size:,} parameters)") and "classes" not in said


def test_an_interval_without_guidance_is_refused(model):
    with pytest.raises(ValueError, match=r"interval=.0.2, 0.8. is guidance's: write a"):
        model.sampler(interval=(0.2, 0.8))
    assert model.sampler(interval=(0.0, 1.0)).guidance is None


def test_as_it_stands_a_sampler_walks_fifty_even_steps(model):
    draw, score = model.sampler(), model.scorer()
    assert (draw.want, draw.grids) == (("image",), {"image": Steps(50, 1.0)})
    assert (draw.solvers, draw.interval) == ({"image": Plain()}, (0.0, 1.0))
    assert (draw.trajectory, draw.decode, draw.before) == (False, True, ())
    assert draw.guidance is None and (score.of, score.draws) == (("image",), 32)
    some = model.sampler(7, shift=2.0).grids, model.sampler(shift=2.0).grids
    assert some == ({"image": Steps(7, 2.0)}, {"image": Steps(50, 2.0)})
    walked = model.inverter().sampler
    assert walked.grids == {"image": Reversed(Steps(50))} and not walked.decode
    assert walked.solvers == {"image": ImplicitEuler(4)}


def test_what_is_called_may_be_pickled(guided):
    """Without the programs that it has, which are of this process."""
    guided(KEY, IDS, LABEL)
    again = pickle.loads(pickle.dumps(guided))
    assert again.compilations() == 0 and again.grids == guided.grids
    for made in (guided.generator.scorer(draws=2), guided.generator.extractor()):
        vars(made)["_jitted"] = jax.jit(lambda x: x)
        assert type(pickle.loads(pickle.dumps(made))) is type(made)


@pytest.mark.parametrize(
    "label,message",
    [
        (b"1", r"label is \|S1 \(8,\); write integers"),
        ({1, 2}, r"label is object \(8,\); write integers"),
        (10**30, r"label is object \(8,\); write integers"),
        ([[0], [1, 2]], "rows of several lengths"),
        (LABEL - 1, "label -1 is outside the classes: write 0 to 2"),
        (LABEL + 2, "label 4 is outside"),
        (LABEL / 2, r"label is float32 \(8,\); write integers"),
        (LABEL[:3], r"\(3,\); write integers \(8,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(model, label, message):
    with pytest.raises(ValueError, match=message):
        labels.check_label(model, label, IDS)
    np.testing.assert_array_equal(labels.check_label(model, LABEL + 1, IDS), LABEL + 1)
    assert labels.check_label(model, None, IDS) is None
    one = labels.check_label(model, 2, IDS)
    assert (one.shape, one.dtype, set(one.tolist())) == ((8,), jnp.int32, {2})
    # Inside a jit the shape and type alone are known.
    inside = jax.eval_shape(lambda of: labels.check_label(model, of, IDS), LABEL)
    assert (inside.shape, inside.dtype) == ((8,), jnp.int32)
    assert jax.eval_shape(conditions.whole, IDS).dtype == jnp.int32


@pytest.mark.parametrize(
    "stream,process,message",
    [
        (LATENT, {}, "has no process"),
        (LATENT, Plain(), r"Plain\(\) is no process; write one"),
        (LATENT, Gaussian, "is no process; write one, as Gaussian"),
        (LATENT, Masking(9), "holds latents, but its process Masking is for codes"),
        (CODES, Gaussian(), "holds codes, but its process Gaussian is for latents"),
        (LATENT, Gaussian(learned_variance=True), "outputs=2"),
        (CODES, Masking(8), "vocab 8 is not the stream's vocab 9"),
        (Continuous("image", (4, 4), 2), Gaussian(), "its grid is .2, 2., the model's"),
        (
            Continuous("image", (2, 2), 3),
            Gaussian(),
            "its channels is 2, the model's is 3",
        ),
        (Discrete("image", (2, 2), 8), Masking(8), "its vocab is 9, the model's is 8"),
        (Discrete("image", (2, 2), 9, books=2), Masking(9), "its books is 1"),
    ],
)
def test_streams_that_do_not_fit_are_refused(stream, process, message):
    tokenizers = {"image": toys.codec()}
    processes = {"image": process} if process else {}
    with pytest.raises(ValueError, match=message):
        check_stream(stream, processes, tokenizers)


@pytest.mark.parametrize(
    "stream,process",
    [
        (LATENT, Gaussian()),
        (CODES, Masking(9)),
        (
            Continuous("image", (2, 2), 2, outputs=2),
            Gaussian(learned_variance=True),
        ),
    ],
)
def test_streams_that_fit_are_taken(stream, process):
    check_stream(stream, {"image": process}, {"image": toys.codec()})


def test_what_was_never_trained_is_refused(model, tmp_path):
    parts = (model.module, model.params, model.processes, model.tokenizers)
    partly = Generator(*parts, untrained=(0, 3))  # class 0, and no class at all
    vqdit.save(tmp_path / "dit", partly)
    partly = vqdit.load(tmp_path / "dit")
    assert partly.trained_labels.tolist() == [1, 2]
    with pytest.raises(ValueError, match="label 0 had no example in training"):
        labels.check_label(partly, LABEL * 0, IDS)
    with pytest.raises(ValueError, match="always told a class: give a label"):
        labels.check_label(partly, None, IDS)
    for scale in (2.0, {"label": 3.0}, np.array([1.0, 1.5])):
        with pytest.raises(ValueError, match="label_dropout=0 never trained"):
            labels.check_guidance(partly, scale)
    with pytest.raises(ValueError, match="label_dropout=0 never trained"):
        partly.sampler(guidance=4.0)
    partly.sampler(guidance=1.0)
    labels.check_guidance(model, 4.0)
    for none in (None, 1, {"word": 3.0}, {"label": 1.0}, np.ones(8)):
        labels.check_guidance(partly, none)
    np.testing.assert_array_equal(labels.check_label(partly, LABEL * 0 + 2, IDS), 2)
