"""Every experiment file: it loads, varies one thing at a time, and is of its size."""

import dataclasses
import functools
import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet_dit
from configs.imagenet import F16, tokenizer
from tests import quick
from train import config
from train.config import Experiment, Mesh, StageOne, StageTwo, load_config
from train.config.bars import sides
from train.config.network import network
from train.config.options.paths import diff
from train.config.override import replaced
from train.config.validate import validate
from train.errors import BadInput
from train.evaluation.crossings.questions import asked
from train.objectives import denoising, start
from train.runtime.sharding import (
    DIT_RULES,
    TOKENIZER_RULES,
    batch_sharding,
    make_mesh,
    state_sharding,
)
from vqdit.quantizers import VectorQuantizer
from vqdit.tokenizer import Number, Table

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
# Two files hold what others are made with.
NAMES = sorted({p.stem for p in FOLDER.glob("[a-z]*.py")} - {"imagenet", "quantizers"})

FOLLOWS = {"streams", "data", "mixture"}
# Of "long", the recipe of a GPU: how large and how long, not what is learned.
LONGER = {"data.examples", "model.width", "model.depth"}
LONGER |= {"run.batch", "run.steps", "optimizer.ema"}

# field: millions of parameters. The DiTs of patch 2 as published count their fixed
# table of positions, 256 x width; those of patch 4 and 8 do not.
DITS = {
    "s_8": 33.14,
    "s_4": 32.92,
    "s_2": 32.96,
    "b_8": 130.87,
    "b_4": 130.43,
    "b_2": 130.51,
    "l_8": 458.58,
    "l_4": 457.99,
    "l_2": 458.10,
    "xl_8": 675.66,
    "xl_4": 675.00,
    "xl_2": 675.13,
}
TOKENIZERS = {
    "vqgan_f16_16384": 76.07,
    "llamagen_vq16": 71.88,
    "kl_f8": 83.65,
}


def experiment(name) -> Experiment:
    """The CONFIG of a file, or a DiT by its name in the table of DiTs."""
    if name in imagenet_dit.MODELS:
        return imagenet_dit.MODELS[name]
    return importlib.import_module(f"configs.{name}").CONFIG


@functools.cache
def variants(name) -> dict[str, Experiment]:
    """Those of a file, as --variant gives them."""
    file = FOLDER / f"{name}.py"
    return {variant: load_config(file, variant) for variant in config.variants(file)}


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def built(chosen):
    """(init, step) as the programs make them."""
    if isinstance(chosen, StageOne):
        return start.build_step(chosen, start.open_start(chosen))
    return denoising.build_step(chosen, *network(chosen, {}))


@functools.cache
def parameters(name):
    """Shapes of the parameters."""
    chosen = experiment(name)
    init, _ = built(chosen)
    return jax.eval_shape(init).params


def test_every_published_experiment_is_there():
    assert {*DITS, "sit_xl_2"} == set(imagenet_dit.MODELS)
    assert set(TOKENIZERS) <= set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_and_says_what_it_is(name):
    chosen = experiment(name)
    assert chosen.name == ("dit_xl_2" if name == "imagenet_dit" else name)
    if name == "own_flow":  # for any size of one's own; its tokenizer says which
        chosen = replaced(chosen, {"streams.signal.shape": (8, 8, 4)})
    if name == "own_table":  # of any columns; the data say which
        table = Table((Number("age", (40.0,), (30.0, 50.0)),))
        chosen = replaced(chosen, {"streams.record.tokenizer": table})
    validate(chosen, 1, tokenizers=False)
    docstring = importlib.import_module(f"configs.{name}").__doc__
    assert f"--config=configs/{name}.py" in docstring
    assert "xpected" in docstring


@pytest.mark.parametrize("name", [*TOKENIZERS, "imagenet_dit"])
def test_published_files_say_hours_scores_and_run_on_eight_devices(name):
    docstring = importlib.import_module(f"configs.{name}").__doc__
    assert "Hardware, hours:" in docstring and "Expected" in docstring
    sizes = DITS if name == "imagenet_dit" else {"": TOKENIZERS[name]}
    for model, size in sizes.items():
        line = next(line for line in docstring.splitlines() if f" {model} " in line)
        assert f"{size:.2f}M" in (line if model else docstring)
    assert experiment(name).run.batch % 8 == 0


@pytest.mark.parametrize("name", [n for n in NAMES if n != "imagenet_dit"])
def test_every_variant_changes_one_thing(name):
    chosen = experiment(name)
    for variant, other in variants(name).items():
        changed = diff(chosen, other)
        if variant == "long":
            assert {*changed} <= LONGER and other.run.steps > chosen.run.steps / 2
            assert (
                other.run.steps * other.run.batch > chosen.run.steps * chosen.run.batch
            )
            continue
        # Which streams a model has is one thing; their data and the mixture follow.
        if len(changed) > 1:
            assert {path.split(".")[0] for path in changed} <= FOLLOWS, variant
            assert other.streams.items() < chosen.streams.items(), variant


def test_bars_are_of_crossings_that_their_command_asks_for():
    """By the name that it gives them: a bar of another name is never measured."""
    crossings = 0
    for name in NAMES:
        chosen = experiment(name)
        bars = chosen.bars if isinstance(chosen, StageTwo) else ()
        streams = tuple(chosen.streams) if bars else ()
        every = {each.name for each in asked(streams, True)} if len(streams) > 1 else {}
        docstring = importlib.import_module(f"configs.{name}").__doc__
        said = {*every, *re.findall(r"[\w+]+_to_\w+", docstring)}
        for left, _, right in map(sides, bars):
            for figure in (left.split()[0], right.split()[0]):
                if "_to_" in figure:
                    assert figure in said, f"{name}: {figure}"
                    crossings += 1
    assert crossings > 20


def test_a_discriminator_plays_for_half_of_its_run():
    games = 0
    for name in set(NAMES) - {"imagenet_dit"}:
        for chosen in (experiment(name), *variants(name).values()):
            if (game := getattr(chosen, "adversarial", None)) is not None:
                assert game.start + game.ramp <= chosen.run.steps / 2, name
                games += 1
    assert games > 3


def test_every_variant_of_a_dit_changes_one_thing():
    changed = 0
    for name, model in imagenet_dit.MODELS.items():
        for variant, other in imagenet_dit.VARIANTS.items():
            if variant.startswith(f"{name}_"):
                assert len(diff(model, other)) == 1, variant
                changed += 1
    assert changed + len(imagenet_dit.MODELS) == len(imagenet_dit.VARIANTS)


def test_a_file_of_old_says_which_variant_it_is_now():
    for old, new in (("dit_b_2", "b_2"), ("sit_xl_2", "sit_xl_2")):
        with pytest.raises(BadInput, match=f"imagenet_dit.py --variant={new}$"):
            load_config(f"configs/{old}.py")
        assert new in imagenet_dit.VARIANTS
    with pytest.raises(BadInput, match="vqgan_f16_16384.py --variant=codes_1024$"):
        load_config("configs/vqgan_f16_1024.py")
    assert "codes_1024" in variants("vqgan_f16_16384")


@pytest.mark.parametrize("name", [*TOKENIZERS, "s_2", "sit_xl_2"])
def test_every_variant_can_be_built(name):
    whole = imagenet_dit.VARIANTS if name in imagenet_dit.MODELS else variants(name)
    for variant, other in whole.items():
        if isinstance(other, StageTwo):
            if variant.startswith(name):
                validate(other, 8, tokenizers=False)
        elif other.model.quantizer is not None:  # all that differs, and quick to trace
            z = jnp.zeros((1, other.model.latent_dim))
            jax.eval_shape(other.model.quantizer.init, jax.random.key(0), z)


@pytest.mark.parametrize("name", DITS)
def test_dit_parameter_counts_are_the_published_ones(name):
    model = experiment(name).model
    total = count(parameters(name))
    if experiment(name).streams["image"].patch == 2:
        total += 256 * model.width
    assert round(total / 1e6, 2) == DITS[name]


def test_sit_is_dit_without_the_dead_half_of_its_head():
    dead = 4 * 4 * (1152 + 1)  # 2 x 2 x 4 channels of a token, with their biases
    assert count(parameters("xl_2")) - count(parameters("sit_xl_2")) == dead
    assert "18,448" in imagenet_dit.__doc__ and dead == 18_448


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizer_parameter_counts_are_the_published_ones(name):
    assert round(count(parameters(name)) / 1e6, 2) == TOKENIZERS[name]


@pytest.mark.slow
def test_halves_of_the_f16_tokenizer():
    shapes = parameters("vqgan_f16_16384")
    assert round(count(shapes["encoder"]) / 1e6, 2) == 29.30
    assert round(count(shapes["decoder"]) / 1e6, 2) == 42.45


@pytest.mark.slow
@pytest.mark.parametrize(
    "codes,dim,out,millions",
    [(256, 4, 4, 67.65), (16_384, 4, 4, 67.72), (16_384, 8, 256, 70.11)],
)
def test_f8_relatives_have_their_published_counts(codes, dim, out, millions):
    """VQGAN f8 with 256 and 16,384 codes, and LlamaGen's VQ-8."""
    model = tokenizer((1, 2, 2, 4), VectorQuantizer(codes, dim, revive="none"), out=out)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert round(count(shapes["params"]) / 1e6, 2) == millions
    assert len(F16) == 5


def reduced(chosen: Experiment) -> Experiment:
    """The same recipe, small: every field that is not a size is as in the file."""
    run = dataclasses.replace(chosen.run, batch=4, steps=100)
    data = dataclasses.replace(chosen.data, size=4)
    model = chosen.model
    if isinstance(chosen, StageTwo):
        chosen = replaced(chosen, {"streams.image.shape": (8, 8, 4)})
        block = model.block.clone(heads=2)
        model = model.clone(width=32, depth=2, block=block, classes=10)
    else:
        small = {
            "channels": 8,
            "groups": None,
            "multipliers": model.encoder.multipliers[-1:],
            "blocks": 0,
            "attention": model.encoder.attention[-1:],
        }
        quantizer = model.quantizer
        if quantizer is not None:
            quantizer = quantizer.clone(num_codes=16, window=160)
        model = model.clone(
            encoder=model.encoder.clone(**small),
            decoder=model.decoder.clone(**small),
            quantizer=quantizer,
        )
        if chosen.adversarial is not None:  # it plays from the first step
            how = chosen.adversarial
            small = how.discriminator.clone(channels=8, layers=1)
            how = dataclasses.replace(how, discriminator=small, start=0)
            chosen = dataclasses.replace(chosen, adversarial=how)
    return dataclasses.replace(chosen, run=run, data=data, model=model)


def drawn(shapes):
    """The program's first state, but for its parameters' values: they take long."""
    return shapes.replace(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key(0),
        params=quick.parameters(shapes.params),
        ema=quick.parameters(shapes.ema),
        opt=jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes.opt),
        stats=jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes.stats),
    )


@pytest.mark.parametrize(
    "name",
    [
        "s_8",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("kl_f8", "sit_xl_2", "vqgan_f16_16384", "llamagen_vq16")
        ),
    ],
)
def test_a_step_at_reduced_size_is_finite(name):
    """One of each family through the program's own build; the DiTs on two devices."""
    chosen = reduced(experiment(name))
    devices = jax.devices()[: 2 if isinstance(chosen, StageTwo) else 1]
    validate(chosen, len(devices), tokenizers=False)
    draw = np.random.default_rng(0)
    if isinstance(chosen, StageTwo):
        rules = DIT_RULES
        latents = draw.normal(size=(4, 8, 8, 4)).astype(np.float32)
        batch = {"streams": {"image": latents}, "label": np.arange(4, dtype=np.int32)}
    else:
        rules = TOKENIZER_RULES
        batch = {"streams": {"x": draw.integers(0, 256, (4, 4, 4, 3), np.uint8)}}
    init, step = built(chosen)
    mesh = make_mesh(Mesh(), devices)
    shapes = jax.eval_shape(init)
    layout = state_sharding(shapes, rules, mesh)
    state = drawn(shapes)
    if hasattr(shapes, "discriminator"):
        state = state.replace(discriminator=drawn(shapes.discriminator))
    state = jax.device_put(state, layout)
    step = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
    before = jax.device_get(state.params)
    state, metrics = step(state, jax.device_put(batch, batch_sharding(mesh)))
    for metric, value in metrics.items():
        assert np.isfinite(value), metric
    assert metrics["loss"] > 0 and metrics["grad_norm"] > 0
    assert state.step == 1
    moved = jax.tree.map(
        lambda a, b: np.any(a != b), before, jax.device_get(state.params)
    )
    assert np.mean(jax.tree.leaves(moved)) > 0.9
