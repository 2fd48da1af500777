"""What a tokenizer's reconstruction costs: weights, masks, networks it is seen by."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vqdit
from tests import quick, toys
from tests.train.test_stages import DATA, EMA, tokenizer
from train.config import Ramp, Weights
from train.config.validate import validate
from train.errors import BadInput
from train.modalities import Images
from train.objectives import perceptual, start
from train.objectives.perceptual import networks
from train.objectives.reconstruction import (
    Reconstruction,
    at_step,
    quantizer_loss,
)
from train.runtime.sharding import TOKENIZER_RULES, make_mesh, state_sharding
from train.runtime.step import init_state, make_step
from vqdit.features.classifier import Classifier
from vqdit.tokenizer import LogMel
from vqdit.trained.codec import Codec
from vqdit.trained.contract import contract_of
from vqdit.trained.judge import Judge

PLAIN = dataclasses.replace(tokenizer(EMA), kmeans=None)
PLAIN = dataclasses.replace(PLAIN, model=PLAIN.model.clone(quantizer=None, dim=2))


def test_a_ramp_is_a_line():
    ramp = Ramp(0.2, 0.1, 10)
    found = [float(at_step(ramp, jnp.int32(i))) for i in (0, 5, 10, 99)]
    np.testing.assert_allclose(found, [0.2, 0.15, 0.1, 0.1], rtol=1e-6)


def test_the_quantizers_losses_are_weighted_and_reported_as_they_are():
    weights = Weights(quantizer={"commit": 0.5, "entropy": Ramp(2.0, 4.0, 4)})
    found = {"commit": 3.0, "entropy": -1.0, "orthogonal": 0.25}
    loss, metrics = quantizer_loss(weights, found, jnp.int32(2))
    assert loss == 0.5 * 3 + 3.0 * -1 + 10 * 0.25
    assert metrics.pop("entropy_weight") == 3
    assert metrics == {f"loss_{name}": value for name, value in found.items()}


def test_a_loss_that_nobody_has_heard_of_counts_as_it_is_written_or_once():
    """Also where a field of the weights has its name."""
    found = {"own": 3.0, "perceptual": 5.0}
    assert quantizer_loss(Weights(perceptual=7.0), found, jnp.int32(0))[0] == 8
    weights = Weights(quantizer={"own": 0.5})
    assert quantizer_loss(weights, found, jnp.int32(0))[0] == 6.5


@pytest.mark.slow
def test_what_was_not_observed_moves_nothing():
    """Not the loss, and not the gradient of any parameter, by the compared signal."""
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.uniform(-1, 1, (2, 8, 8, 1)), jnp.float32)
    mask = jnp.asarray(draw.integers(0, 2, x.shape), jnp.float32)
    terms = Reconstruction(PLAIN, {})
    params = toys.drawn(PLAIN.model, x)["params"]

    @jax.jit
    def run(params, x, mask):
        batch = {"streams": {"x": x}, "known": {"x": mask}}
        (x_hat, _), (seen, _, _) = terms.forward(
            params, {}, batch, jax.random.key(0), 0
        )
        loss, _ = terms(params, {}, batch, jax.random.key(0), 0)
        return x_hat, seen, loss

    x_hat, seen, loss = run(params, x, mask)
    whole, _, _ = run(params, x, jnp.ones_like(mask))
    np.testing.assert_array_equal(seen, x)
    np.testing.assert_array_equal(x_hat, np.where(mask > 0, whole, x))
    expected = np.square(whole - x)[mask > 0].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert run(params, x, jnp.zeros_like(mask))[2] == 0


def test_psnr_counts_what_was_observed():
    terms = Reconstruction(PLAIN, {})
    x, mask = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 4, 4, 1)).at[:, :2].set(1)
    x_hat = jnp.where(mask > 0, 0.2, 0.0)
    _, found = terms.compare(x_hat, x, {}, {"known": {"x": mask}})
    np.testing.assert_allclose(found["psnr"], 20.0, rtol=1e-5)
    np.testing.assert_allclose(found["reconstruction"], 0.04, rtol=1e-5)


def test_spectra_are_off_by_a_share_of_the_originals():
    """Of a sound that comes back twice as loud by all of it, and by log 2 in the
    logarithm; half of that would be its share of the louder one."""
    losses = Weights(stft=1.0, reconstruction=0.0, windows=(64,))
    terms = Reconstruction(dataclasses.replace(PLAIN, losses=losses), {})
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (1, 512, 1)), jnp.float32)
    loss, found = terms.compare(2 * x, x, {}, {})
    np.testing.assert_allclose(found["stft"], 1 + np.log(2), rtol=1e-3)
    assert loss == found["stft"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tokenizer of 8 x 8 digits, as one that was trained."""
    folder = tmp_path_factory.mktemp("features") / "bundle"
    module = PLAIN.model
    variables = toys.drawn(module, jnp.zeros((1, *DATA.shape)))
    signal = {"kind": "image", "shape": DATA.shape}
    contract = contract_of(module, signal, (4, 4), (0, 0), (1, 1), variables)
    vqdit.save(folder, Codec(module, variables, contract))
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of 8 x 8 digits, as one that was trained."""
    folder = tmp_path_factory.mktemp("classifier") / "judge"
    vqdit.save(folder, drawn_judge(DATA.shape))
    return folder


def drawn_judge(shape, front=None):
    network = Classifier(10, (4, 6), dim=5)
    params = toys.drawn(network, jnp.zeros((1, *shape)))["params"]
    return Judge(network, params, shape, {"seed": 0}, front)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["bundle", "classifier"])
def test_features_of_a_trained_network(network, request):
    """They are compared, reported, kept beside the state and never trained."""
    folder = request.getfixturevalue(network)
    losses = Weights(features=str(folder), perceptual=3.0)
    chosen = dataclasses.replace(PLAIN, losses=losses)
    validate(chosen, 1)
    init, step = start.build_step(chosen, start.open_start(chosen))
    shapes = jax.eval_shape(init)
    state_sharding(shapes, TOKENIZER_RULES, make_mesh(chosen.mesh))
    variables, _ = networks(losses)
    assert jax.tree.structure(shapes.stats["perceptual"]) == jax.tree.structure(
        variables
    )
    params = quick.parameters(shapes.params)
    state = shapes.replace(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key(0),
        params=params,
        ema=params,
        opt=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes.opt),
        stats={"perceptual": variables},
    )
    image = np.random.default_rng(0).integers(0, 256, (4, *DATA.shape), np.uint8)
    after, metrics = jax.jit(step)(state, {"streams": {"x": image}})
    np.testing.assert_allclose(
        metrics["loss"], metrics["reconstruction"] + 3 * metrics["features"], rtol=1e-5
    )
    assert metrics["features"] > 0
    for a, b in zip(
        jax.tree.leaves(after.stats), jax.tree.leaves(state.stats), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def features_of(folder, front=None):
    variables, distances = networks(Weights(features=str(folder)), front)
    return partial(distances["features"], variables["features"])


@pytest.mark.slow
def test_a_classifier_tells_apart_what_its_layers_do(classifier):
    """0 where its features are equal, the signals equal or not, and only there; they
    are the layers' directions, its logits left out."""
    draw = np.random.default_rng(0)
    x, y = jnp.asarray(draw.uniform(-1, 1, (2, 3, *DATA.shape)), jnp.float32)
    distance = jax.jit(features_of(classifier))
    assert distance(x, y).shape == (3,)
    assert (distance(x, x) == 0).all() and (distance(x, y) > 0).all()

    judge = vqdit.load(classifier)
    _, found = judge.network.apply(
        {"params": judge.params},
        jnp.stack([x, y]).reshape(6, *DATA.shape),
        mutable=["intermediates"],
        capture_intermediates=True,
    )
    expected = 0
    for name in ("conv_0", "conv_1", "features"):
        layer = np.asarray(found["intermediates"][name]["__call__"][0], np.float64)
        layer /= np.linalg.norm(layer, axis=-1, keepdims=True)
        apart = np.square(layer[:3] - layer[3:]).sum(-1)
        expected += apart.reshape(3, -1).mean(-1) / 3
    np.testing.assert_allclose(distance(x, y), expected, rtol=1e-4)


@pytest.mark.slow
def test_a_classifier_that_does_not_look_sees_no_difference(tmp_path):
    """Blind to the second channel, it moves nothing there, and the first as ever."""
    judge = drawn_judge((8, 8, 3))
    kernel = judge.params["conv_0"]["kernel"].at[:, :, 1].set(0)
    params = {**judge.params, "conv_0": {**judge.params["conv_0"], "kernel": kernel}}
    vqdit.save(tmp_path / "judge", dataclasses.replace(judge, params=params))
    distance = features_of(tmp_path / "judge")
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)), jnp.float32)
    assert (distance(x, x.at[..., 1].set(0)) == 0).all()
    slope = jax.jit(jax.grad(lambda y: distance(x, y).sum()))(x.at[..., 0].add(0.1))
    assert (slope[..., 1] == 0).all() and (slope[..., 0] != 0).any()
    assert np.isfinite(slope).all()


def test_a_perceptual_network_gets_no_gradient(classifier):
    losses = Weights(features=str(classifier))
    variables, distances = networks(losses)
    terms = Reconstruction(dataclasses.replace(PLAIN, losses=losses), distances)
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, *DATA.shape)), "f4")

    def features(x_hat, frozen):
        _, found = terms.compare(x_hat, x, {"perceptual": frozen}, {})
        return found["features"]

    slopes = jax.jit(jax.grad(features, argnums=(0, 1)))(0.5 * x, variables)
    assert (slopes[0] != 0).any()
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(slopes[1]))


def test_signals_of_another_shape_are_refused(bundle, classifier):
    wide = Images(name="digits", size=16, channels=1, threads=0)
    for data, folder, message in (
        (wide, classifier, r"pictures \(8, 8, 1\), here they are \(16, 16, 1\)"),
        (colour(DATA), classifier, r"here they are \(8, 8, 3\); write one"),
        (colour(DATA), bundle, r"takes signals \(8, 8, 1\), here they are \(8, 8, 3\)"),
    ):
        model = PLAIN.model.clone(decoder=PLAIN.model.decoder.clone(out=data.channels))
        chosen = dataclasses.replace(
            PLAIN, data=data, model=model, losses=Weights(features=str(folder))
        )
        with pytest.raises(BadInput, match=f"losses.features=.*{message}"):
            start.open_start(chosen)


def colour(data):
    return dataclasses.replace(data, channels=3)


@pytest.mark.slow
def test_a_video_is_seen_frame_by_frame(classifier):
    draw = np.random.default_rng(0)
    x, y = jnp.asarray(draw.uniform(-1, 1, (2, 3, 4, *DATA.shape)), jnp.float32)
    distance = features_of(classifier)
    each = [distance(x[:, i], y[:, i]) for i in range(4)]
    np.testing.assert_allclose(distance(x, y), np.mean(each, 0), rtol=1e-5)


def test_what_is_compared_has_been_through_one_front_end(monkeypatch):
    front = LogMel(2000, 64, 32, bands=8)
    plain = drawn_judge((4, 8, 1))
    judges = {"seen": plain, "heard": dataclasses.replace(plain, front=front)}
    monkeypatch.setattr(perceptual, "open_bundle", lambda path, *of: judges[path])
    sound, picture = jnp.zeros((2, 100, 1)), jnp.zeros((2, 4, 8, 1))
    for path, model, x, other in (
        ("heard", None, sound, sound[:, :60]),
        ("heard", None, picture, picture[:, :3]),
        ("heard", LogMel(2000, 64, 32, bands=8), picture, sound),
        ("seen", None, picture, sound),
    ):
        distance = features_of(path, model)
        assert jax.eval_shape(distance, x, x).shape == (2,)
        with pytest.raises(ValueError, match=r"pictures \(4, 8, 1\), here they are"):
            jax.eval_shape(distance, other, other)
    with pytest.raises(BadInput, match=r"different front ends; .*LogMel\(.*bands=8"):
        features_of("heard", LogMel(2000, 64, 32, bands=4))
    with pytest.raises(BadInput, match="ends; write a model without one$"):
        features_of("seen", front)


@pytest.mark.slow
def test_sound_is_seen_through_the_classifiers_front_end_or_the_models(tmp_path):
    front = LogMel(2000, 64, 32, bands=8)
    vqdit.save(tmp_path / "judge", drawn_judge((4, 8, 1), front))
    x, y = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 2, 100, 1)), "f4")
    heard = features_of(tmp_path / "judge")
    # A last part of a hop is filled up with silence.
    full = [jnp.pad(s, ((0, 0), (0, 28), (0, 0))) for s in (x, y)]
    found = heard(x, y)
    assert (found > 0).all() and (heard(x, x) == 0).all()
    np.testing.assert_allclose(heard(*full), found, rtol=1e-6)
    slope = jax.jit(jax.grad(lambda y: heard(x, y).sum()))(y)
    assert np.isfinite(slope).all() and (slope != 0).any()
    # Behind the same front end, what is compared is what it makes.
    behind = features_of(tmp_path / "judge", LogMel(2000, 64, 32, bands=8))
    np.testing.assert_allclose(
        behind(*(front.apply({}, s) for s in full)), found, rtol=1e-5
    )
    with pytest.raises(BadInput, match="different front ends; .*bands=8"):
        features_of(tmp_path / "judge", LogMel(2000, 64, 32, bands=4))
    with pytest.raises(ValueError, match=r"here they are \(5, 8, 1\)"):
        heard(*(jnp.pad(s, ((0, 0), (0, 60), (0, 0))) for s in (x, y)))


def test_networks_that_are_not_there_are_refused_in_one_line(bundle, tmp_path):
    with pytest.raises(BadInput, match="losses.lpips=.* is no file.*lpips.LPIPS"):
        networks(Weights(lpips=str(tmp_path / "absent.safetensors")))
    other = tmp_path / "other.safetensors"
    other.write_bytes((bundle / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match="no tensor 'net.slice1.0.weight'.*python -c"):
        networks(Weights(lpips=str(other)))
    other.write_bytes(b"not at all")
    with pytest.raises(BadInput, match="losses.lpips=.*python -c"):
        networks(Weights(lpips=str(other)))
    with pytest.raises(BadInput, match="losses.features=.*no bundle"):
        networks(Weights(features=str(tmp_path)))
    vqdit.save(tmp_path / "dit", toys.labelled())
    with pytest.raises(BadInput, match="generator; .* a tokenizer or a classifier"):
        networks(Weights(features=str(tmp_path / "dit")))


def test_the_weight_moves_with_the_step():
    """The objective is told how many updates are done, inside one program."""
    weights = Weights(quantizer={"entropy": Ramp(1.0, 0.0, 4)})

    def objective(params, stats, batch, key, step):
        loss, metrics = quantizer_loss(weights, {"entropy": params}, step)
        return loss, (stats, metrics)

    variables = {"params": jnp.float32(10.0)}
    state = init_state(jax.random.key(0), variables, optax.sgd(1.0))
    step = jax.jit(make_step(objective, optax.sgd(1.0)))
    for expected in (9.0, 8.25, 7.75, 7.5, 7.5):
        state, _ = step(state, {})
        assert float(state.params) == expected
    assert step._cache_size() == 1
