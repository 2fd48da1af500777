"""Two states in one step: who moves when, and which way."""

import dataclasses
import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import quick
from tests.train import toy
from tests.train.devices import only_one
from tests.train.test_stages import DATA, GRADIENT, ONE, shorter, tokenizer
from train import stage_one
from train.config import AdamW, Adversarial, Mesh, Weights
from train.modalities import Modality
from train.objectives import adversarial, start
from train.objectives.reconstruction import Reconstruction
from train.runtime.checkpoint import Checkpoints
from train.runtime.sharding import (
    TOKENIZER_RULES,
    batch_sharding,
    make_mesh,
    state_sharding,
)
from vqdit.losses import (
    Discriminators,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    PatchDiscriminator,
    Verdict,
)
from vqdit.signal import to_signal
from vqdit.tokenizer import Tokenizer, WaveDecoder, WaveEncoder

one_device = pytest.fixture(only_one)

START = 2
HOW = Adversarial(
    discriminator=PatchDiscriminator(channels=8, layers=1),
    start=START,
    ramp=2,
    features=0.5,
    lecam=0.1,
    optimizer=AdamW(peak_lr=1e-3),
)


def experiment(how=HOW, quantizer=GRADIENT, **changes):
    """Codes die and are revived within a few steps: the window is that short."""
    found = tokenizer(quantizer, adversarial=how, **changes)
    if quantizer is None:
        return found
    quantizer = quantizer.clone(num_codes=12, start="normal", window=120)
    return dataclasses.replace(found, model=found.model.clone(quantizer=quantizer))


def images(seed=0, rows=16):
    draw = np.random.default_rng(seed)
    return {"streams": {"x": draw.integers(0, 256, (rows, 8, 8, 1), np.uint8)}}


def started(chosen, seed=0):
    """(state of drawn parameters, step): an initial discriminator says nothing."""
    init, step = start.build_step(chosen, start.open_start(chosen))
    shapes = jax.eval_shape(init)

    def filled(shapes, seed):
        params = quick.parameters(shapes.params, seed)
        zeros = lambda tree: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), tree)
        ema = jax.tree.map(jnp.copy, params) if shapes.ema else {}
        return shapes.replace(
            step=jnp.zeros((), jnp.int32),
            key=jax.random.key(seed),
            params=params,
            stats=zeros(shapes.stats),
            opt=zeros(shapes.opt),
            ema=ema,
        )

    state = filled(shapes, seed)
    stats = {**state.stats}
    if "codebook" in stats:
        stats["codebook"] = jax.tree.map(jnp.ones_like, stats["codebook"])
    state = state.replace(stats=stats)
    if chosen.adversarial is not None:
        other = filled(shapes.discriminator, seed + 1)
        state = state.replace(discriminator=other)
    return state, step


def decaying(ema):
    chosen = experiment()
    optimizer = dataclasses.replace(chosen.optimizer, ema=ema)
    return dataclasses.replace(chosen, optimizer=optimizer)


@functools.cache
def crossing():
    """(step as one program, states, metrics) of six steps across the start."""
    # A decay that bites within six steps: the first of them have smaller ones.
    state, step = started(decaying(0.3))
    step = jax.jit(step)
    states, rows = [state], []
    for i in range(6):
        state, metrics = step(state, images(i))
        states.append(state)
        rows.append({name: float(value) for name, value in metrics.items()})
    return step, states, rows


@pytest.mark.slow
def test_one_program_serves_every_step_and_metrics_are_finite():
    step, _, rows = crossing()
    assert step._cache_size() == 1
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert {
        "reconstruction",
        "psnr",
        "loss_commit",
        "loss_codebook",
        "adversarial",
        "adversarial_weight",
        "feature_matching",
        "lecam",
        "discriminator_loss",
        "discriminator_real",
        "discriminator_fake",
        "discriminator_accuracy",
        "discriminator_grad_norm",
        "learning_rate",
    } <= set(rows[0])


@pytest.mark.slow
def test_the_moving_average_is_of_the_tokenizer_alone_before_the_start_and_after():
    """By (1 + i) / (10 + i) at first, as beside no discriminator, then by the decay."""
    _, states, _ = crossing()
    decays = [min(0.3, (1 + i) / (10 + i)) for i in range(6)]
    assert decays[2] < decays[3] == decays[-1] == 0.3
    expected = states[0].ema
    for decay, state in zip(decays, states[1:], strict=True):
        blend = lambda old, new, d=decay: d * old + (1 - d) * new
        expected = jax.tree.map(blend, expected, state.params)
        for part in ("encoder", "decoder"):  # revival sets codewords, and their average
            found = state.ema[part], expected[part]
            chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-7)
        assert not jax.tree.leaves(state.discriminator.ema)


@pytest.mark.slow
def test_before_its_start_the_discriminator_rests():
    _, states, rows = crossing()
    toy.same(states[START].discriminator, states[0].discriminator)
    for row in rows[:START]:
        assert row["discriminator_loss"] == row["adversarial_weight"] == 0
        assert row["discriminator_grad_norm"] == row["adversarial"] == 0
    assert rows[START]["discriminator_loss"] > 0
    after = states[-1].discriminator
    assert after.step == len(rows) - START
    assert after.stats["lecam"]["count"] == len(rows) - START
    moved = jax.tree.map(
        lambda a, b: bool(jnp.any(a != b)), after.params, states[0].discriminator.params
    )
    assert all(jax.tree.leaves(moved))


@pytest.mark.slow
def test_before_the_start_the_generator_trains_as_if_alone():
    _, states, rows = crossing()
    state, step = started(experiment(how=None))
    step = jax.jit(step)
    for i in range(START):
        state, metrics = step(state, images(i))
        np.testing.assert_allclose(metrics["loss"], rows[i]["loss"], rtol=1e-5)
    alone, beside = state.params, states[START].params
    chex.assert_trees_all_close(alone, beside, rtol=1e-4, atol=1e-6)


def test_a_new_discriminator_takes_nothing_for_usual():
    """Whatever its first batch's mean logits are, they are the averages so far."""
    chosen = experiment()
    state, _ = started(chosen)
    new = jax.jit(
        lambda: adversarial.with_discriminator(state, chosen, DATA.shape).discriminator
    )()
    real, fake = ([Verdict(jnp.full((4, 2), at), ())] for at in (3.0, -5.0))
    found = adversarial._averages(new.stats["lecam"], real, fake)
    assert (found["real"], found["fake"], found["count"]) == (3, -5, 1)
    assert new.step == 0 and not jax.tree.leaves(new.ema)
    # After a hundred each counts a hundredth, and is not less for those before it.
    for count, share in ((1, 1 / 2), (98, 1 / 99), (99, 1 / 100), (500, 1 / 100)):
        usual = {"real": jnp.zeros(1), "fake": jnp.ones(1), "count": jnp.int32(count)}
        found = adversarial._averages(usual, real, fake)
        np.testing.assert_allclose(found["real"], 3 * share, rtol=1e-5)
        np.testing.assert_allclose(found["fake"], 1 - 6 * share, rtol=1e-5)
        assert found["count"] == count + 1
    slope = jax.grad(
        lambda x: adversarial._averages(usual, [Verdict(x, ())], fake)["real"].sum()
    )
    assert not slope(jnp.ones((4, 2))).any()


def test_an_accelerator_computes_the_game_only_while_it_is_played(monkeypatch):
    """There as on a CPU, which always does."""
    played = lambda: {"loss": jnp.float32(3), "stats": {"count": jnp.int32(4)}}
    idle = {"loss": jnp.float32(0), "stats": {"count": jnp.int32(1)}}
    for kind in ("cpu", "default"):
        chosen = lambda kind=kind, **of: of[kind]()
        monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
        run = jax.jit(lambda active: adversarial._either(active, played, idle))
        toy.same(run(True), played())
        toy.same(run(False), idle)
        text = str(jax.make_jaxpr(run)(True))
        assert ("cond" in text) == (kind == "default")


@pytest.mark.slow
def test_usual_logits_are_averages_from_the_first():
    """Of the first hundred updates all alike: LeCam is not pulled to a zero start."""
    _, states, rows = crossing()
    played = rows[START:]
    for name in ("real", "fake"):
        found = states[-1].discriminator.stats["lecam"][name]
        expected = np.mean([row[f"discriminator_{name}"] for row in played])
        np.testing.assert_allclose(found, [expected], rtol=1e-4)


@pytest.mark.slow
def test_dead_codes_are_revived_beside_a_discriminator():
    _, states, rows = crossing()
    assert sum(row["revived"] for row in rows) > 0
    assert not any(map(jnp.any, jax.tree.leaves(states[-1].stats["revival"])))


@pytest.mark.slow
def test_adaptive_weight_is_the_ratio_of_gradients_at_the_last_kernel():
    """VQGAN's eq. 7, each gradient taken on its own; half of it in a ramp of two."""
    _, states, rows = crossing()
    state, model = states[START], experiment().model
    x = to_signal(images(START)["streams"]["x"])

    @jax.jit
    def norms(state):
        def both(last):
            decoder = {**state.params["decoder"], "conv_out": last}
            (x_hat, _), _ = model.apply(
                {**state.stats, "params": {**state.params, "decoder": decoder}},
                x,
                train=True,
                key=state.key,  # draws no more than what revives codes
                mutable=list(state.stats),
            )
            judge = {"params": state.discriminator.params}
            (verdict,) = HOW.discriminator.apply(judge, x_hat)
            return jnp.square(x_hat - x).mean(), -verdict.logits.mean()

        slopes = jax.jacrev(both)(state.params["decoder"]["conv_out"])
        return [jnp.linalg.norm(slope["kernel"].ravel()) for slope in slopes]

    reconstruction, adversarial = norms(state)
    expected = 0.8 * 0.5 * reconstruction / adversarial
    np.testing.assert_allclose(rows[START]["adversarial_weight"], expected, rtol=1e-3)


@pytest.mark.slow
def test_both_gradients_are_those_of_their_losses_written_out():
    """Of the second step that is played: LeCam and matched features."""
    _, states, rows = crossing()
    at = START + 1
    state, row, other = states[at], rows[at], states[at].discriminator
    terms, batch = Reconstruction(experiment(), {}), images(at)
    key = jax.random.fold_in(state.key, state.step)
    judge = lambda params, x: HOW.discriminator.apply({"params": params}, x)

    def made(params):
        (x_hat, own), (x, *_) = terms.forward(params, state.stats, batch, key, at)
        return x, x_hat, own + terms.compare(x_hat, x, state.stats, batch)[0]

    def generator(params):
        x, x_hat, loss = made(params)
        (real,), (fake,) = judge(other.params, x), judge(other.params, x_hat)
        pairs = zip(real.features, fake.features, strict=True)
        matched = [jnp.abs(a - b).mean() / jnp.abs(a).mean() for a, b in pairs]
        loss -= row["adversarial_weight"] * fake.logits.mean()
        return loss + HOW.features * sum(matched) / len(matched)

    def discriminator(params):
        x, x_hat, _ = made(state.params)
        (real,), (fake,) = judge(params, x), judge(params, x_hat)
        usual = jax.lax.stop_gradient(
            [
                (other.stats["lecam"][name][0] + now.logits.mean()) / 2
                for name, now in (("real", real), ("fake", fake))
            ]
        )
        hinge = (
            jax.nn.relu(1 - real.logits).mean() + jax.nn.relu(1 + fake.logits).mean()
        )
        lecam = jnp.square(real.logits - usual[1]).mean()
        lecam += jnp.square(fake.logits - usual[0]).mean()
        return hinge / 2 + HOW.lecam * lecam, lecam

    @jax.jit
    def norms(params, others):
        theirs, lecam = jax.grad(discriminator, has_aux=True)(others)
        own = jax.grad(generator)(params)
        return optax.tree.norm(own), optax.tree.norm(theirs), lecam

    found = norms(state.params, other.params)
    names = ("grad_norm", "discriminator_grad_norm", "lecam")
    np.testing.assert_allclose(found, [row[name] for name in names], rtol=1e-3)


def test_the_discriminators_schedule_is_over_its_own_updates():
    """Adam's update of an unchanging gradient is the rate: a cosine of eight."""
    rate = AdamW(peak_lr=0.1, schedule="cosine")
    chosen = experiment(dataclasses.replace(HOW, optimizer=rate))
    tx, slope = adversarial._game(chosen)[1], jnp.full(3, 0.1)
    state, sizes = tx.init(slope), []
    for _ in range(8):
        update, state = tx.update(slope, state, slope)
        sizes.append(-update[0])
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(sizes, expected, rtol=1e-3)


def adversaries():
    """A game about little else."""
    how = dataclasses.replace(
        HOW, start=0, ramp=0, features=0.0, lecam=0.0, adaptive=False, weight=100.0
    )
    chosen = tokenizer(GRADIENT, adversarial=how)
    optimizer = dataclasses.replace(chosen.optimizer, peak_lr=1e-4)
    plain = chosen.model.clone(quantizer=None, dim=2)
    return dataclasses.replace(chosen, model=plain, optimizer=optimizer)


@pytest.mark.slow
def test_each_side_improves_at_its_own_game():
    """On the same batch, with the other side held still."""
    state, step = started(adversaries())
    step = jax.jit(step)
    after, before = step(state, images())
    _, wiser = step(state.replace(discriminator=after.discriminator), images())
    assert wiser["discriminator_loss"] < before["discriminator_loss"]
    _, closer = step(state.replace(params=after.params), images())
    assert closer["discriminator_fake"] > before["discriminator_fake"]
    assert closer["adversarial"] < before["adversarial"]


@pytest.mark.slow
def test_resuming_equals_never_stopping(tmp_path):
    """Bit for bit, both states, through a checkpoint before the start."""
    step, states, _ = crossing()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, states[1], position=1)
        checkpoints.wait()
        state, position, _ = checkpoints.restore_latest(states[0])
    toy.same(state, states[1])
    for i in range(position, 6):
        state, _ = step(state, images(i))
    toy.same(state, states[-1])


def leaves(workdir, step=10):
    """Name -> fingerprint of every array of a checkpoint."""
    manifest = workdir / "checkpoints" / str(step) / "manifest" / "metadata"
    return json.loads(manifest.read_text())["leaves"]


@pytest.mark.slow
def test_a_resumed_run_equals_one_never_stopped(tmp_path, one_device):
    """The whole program: k-means and the start before the stop, and a step of both."""
    how = dataclasses.replace(HOW, start=4)
    chosen = tokenizer(GRADIENT, adversarial=how, mesh=ONE)
    stage_one.train(chosen, tmp_path / "a")
    stage_one.train(shorter(chosen, 5), tmp_path / "b")
    stage_one.train(chosen, tmp_path / "b")
    found = leaves(tmp_path / "a")
    assert any(name.startswith("discriminator/opt") for name in found)
    assert found == leaves(tmp_path / "b")


@pytest.mark.slow
def test_step_is_the_same_on_any_mesh():
    _, states, rows = crossing()
    _, step = started(experiment())
    mesh = make_mesh(Mesh(2, 4), jax.devices()[:8])
    layout = state_sharding(states[1], TOKENIZER_RULES, mesh)
    many = jax.device_put(jax.tree.map(jnp.copy, states[1]), layout)
    step = jax.jit(step, out_shardings=(layout, None))
    for i in range(1, 4):
        batch = jax.device_put(images(i), batch_sharding(mesh))
        many, found = step(many, batch)
    for name, value in rows[3].items():
        np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=1e-4)
    for a, b in [(many, states[4]), (many.discriminator, states[4].discriminator)]:
        chex.assert_trees_all_close(
            jax.device_get(a.params), jax.device_get(b.params), atol=1e-3
        )
    kernel = many.discriminator.params["conv_1"]["kernel"]
    assert "fsdp" in kernel.sharding.spec


@dataclasses.dataclass(frozen=True)
class Waves(Modality):
    """Stands for audio, of which only the shape and the rate are asked."""

    kind = "audio"
    rate = 8000
    shape = (320, 1)


@pytest.mark.slow
def test_silence_trains():
    """An all-zero batch, every loss of waveforms on: finite, and it moves both."""
    part = {"channels": 4, "strides": (8,), "dilations": (1,)}
    members = (
        MultiPeriodDiscriminator((2,), channels=2),
        MultiResolutionDiscriminator((64,), channels=4),
    )
    how = dataclasses.replace(
        HOW, discriminator=Discriminators(members), start=0, ramp=0
    )
    chosen = dataclasses.replace(
        adversaries(),
        data=Waves(),
        model=Tokenizer(WaveEncoder(**part, out=4), WaveDecoder(**part), dim=2),
        losses=Weights(pixel="l1", stft=1.0, mel=1.0, windows=(64,)),
        adversarial=how,
    )
    state, step = started(chosen)
    step = jax.jit(step)
    first, rows = state, []
    for _ in range(2):
        state, metrics = step(
            state, {"streams": {"x": np.zeros((2, 320, 1), np.float32)}}
        )
        rows.append(metrics)
        assert all(np.isfinite(value) for value in metrics.values())
    assert rows[0]["grad_norm"] > 0 and rows[0]["discriminator_grad_norm"] > 0
    assert rows[1]["reconstruction"] != rows[0]["reconstruction"]
    for name in ("stft", "mel", "feature_matching"):
        assert rows[0][name] > 0
    kernel = lambda state: state.discriminator.params["members_0"]["period_2"]["conv_0"]
    assert np.any(kernel(state)["kernel"] != kernel(first)["kernel"])
