"""What README shows of trained models and of extending runs as it stands there."""

import ast
import contextlib
import pathlib
import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import demo_flow, demo_tokenizer
from tests import toys
from tests.diffusion.toys import best_gaussian, flow_map
from train.config import Run, StageOne
from train.config.override import overrides
from train.config.validate import validate
from train.errors import BadInput
from train.evaluation.evaluator import evaluated
from train.modalities import Images
from train.objectives.reconstruction import Reconstruction
from vqdit import Codec, Continuous, Gaussian, Generator, save
from vqdit.diffusion import Cosine, Plain, Steps, Uniform, example_keys, sample
from vqdit.diffusion.objectives import Denoising
from vqdit.tokenizer import Tokenizer
from vqdit.trained.contract import contract_of

README = pathlib.Path(__file__).parents[1] / "README.md"


def is_python(block):
    """Whether it is that, and no commands."""
    try:
        return bool(ast.parse(block).body)
    except SyntaxError:
        return False


def blocks(section):
    """The Python blocks of a section: indented lines that are no commands."""
    text = README.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", text, re.MULTILINE)
    code = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]
    return list(filter(is_python, code))


@pytest.fixture(scope="module")
def shown():
    """The names that README's blocks define, one after the other."""
    names = {"__name__": __name__}
    for block in blocks("Extend"):
        exec(compile(block, str(README), "exec"), names)
    # Files name classes by their module, where they have to be found.
    ours = {n: x for n, x in names.items() if getattr(x, "__module__", "") == __name__}
    globals().update(ours)
    return names


def test_what_commands_name_of_the_clone_is_in_it():
    """pdoc takes a folder of templates that is not there for one that is empty."""
    root = README.parent
    text = README.read_text() + (root / ".ci/run").read_text()
    named = set(re.findall(r"(?:\.ci|configs|tests)/[\w./]*\w", text))
    listed = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", *named]
    ignored = subprocess.run(listed, cwd=root, capture_output=True, text=True)
    assert ".ci/reference" in named and len(named) > 8
    assert [each for each in sorted(named) if not (root / each).exists()] == []
    assert [x for x in ignored.stdout.split() if "__pycache__" not in x] == []


def test_the_quantizer_and_the_backbone_make_a_tokenizer(shown):
    quantizer = shown["Rounding"](dim=2)
    model = Tokenizer(shown["PieceEncoder"](), shown["PieceDecoder"](), quantizer)
    x = jnp.linspace(-1, 1, 2 * 8 * 12 * 3).reshape(2, 8, 12, 3)
    (x_hat, quantized), variables = model.init_with_output(jax.random.key(0), x)
    assert model.grid((8, 12)) == quantized.codes.shape[1:3] == (2, 3)
    assert x_hat.shape == x.shape and 0 <= quantized.codes.min()
    again = model.apply(variables, quantized.codes, method="decode")
    np.testing.assert_allclose(again, x_hat, atol=1e-6)
    # Straight through the rounding: the encoder learns.
    slope = jax.grad(lambda v: jnp.square(model.apply(v, x, train=True)[0] - x).sum())(
        variables
    )
    assert jnp.abs(slope["params"]["encoder"]["pieces"]["kernel"]).max() > 0


def test_a_loss_of_the_quantizer_trains_by_its_weight(shown):
    """Nothing but the experiment knows its name."""
    pieces = shown["PieceEncoder"](), shown["PieceDecoder"](out=1)
    experiment = StageOne(
        name="rounded",
        data=Images(name="digits", size=8, channels=1, threads=0),
        model=Tokenizer(*pieces, shown["Rounding"](dim=2)),
        run=Run(steps=2, batch=8),
    )
    x = jnp.linspace(-1, 1, 512).reshape(8, 8, 8, 1)
    batch = {"streams": {"x": x}}
    params = jax.jit(experiment.model.init)(KEY, x)["params"]
    chosen = [
        overrides(experiment, {"losses.quantizer.rounding": text} if text else {})
        for text in ("0", "", "0.1")
    ]

    def slopes(params):
        for each in chosen:
            validate(each, 8)
            loss = jax.value_and_grad(Reconstruction(each, {}), has_aux=True)
            (value, (_, metrics)), slope = loss(params, {}, batch, KEY, 0)
            yield {"loss": value, **slope["encoder"]["pieces"]}, metrics

    found = jax.jit(lambda v: tuple(slopes(v)))(params)
    (without, once, tenth), metrics = zip(*found, strict=True)
    own = metrics[0]["loss_rounding"]
    np.testing.assert_allclose(once["loss"] - without["loss"], own, rtol=1e-4)
    pull = jax.tree.map(jnp.subtract, once, without)
    assert abs(pull["kernel"]).max() > 1e-3
    jax.tree.map(
        lambda a, b, p: np.testing.assert_allclose(a - b, 0.1 * p, atol=1e-6),
        *(tenth, without, pull),
    )
    with pytest.raises(BadInput, match="rouding=1.0: .* did you mean rounding"):
        validate(overrides(experiment, {"losses.quantizer.rouding": "1"}), 8)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder of models as the demo trains them, smaller."""
    folder = tmp_path_factory.mktemp("demo")
    module = demo_tokenizer.CONFIG.model
    x = jnp.zeros((1, *demo_tokenizer.CONFIG.data.shape))
    variables = toys.drawn(module, x)
    signal = {"kind": "image", "shape": x.shape[1:]}
    contract = contract_of(module, signal, (4, 4), (0.0,) * 4, (1.0,) * 4, variables)
    codec = Codec(module, variables, contract)
    tokens = Continuous("image", (4, 4), 4)
    small = demo_flow.CONFIG.model.clone(streams=(tokens,), width=16, depth=3)
    x, t = {"image": jnp.zeros((1, *tokens.shape))}, {"image": jnp.zeros(1)}
    params = toys.drawn(small, x, t)["params"]
    processes = {"image": demo_flow.CONFIG.streams["image"].process}
    flow = Generator(small, params, processes, {"image": codec})
    save(folder / "runs/demo/tokenizer", codec)
    save(folder / "runs/demo/flow", flow)
    return folder


@pytest.mark.parametrize(
    "run",
    [jax.eval_shape, pytest.param(lambda f: f(), marks=pytest.mark.slow)],
    ids=["traced", "run"],
)
def test_a_trained_model_is_used_as_it_is_shown(demo, run):
    used = {"__name__": __name__}

    def use():
        for block in blocks("Use a trained model"):
            exec(compile(block, str(README), "exec"), used)
        return {n: used[n] for n in ("images", "codes", "layers", "tokens")}

    with contextlib.chdir(demo):
        used |= run(use)
    assert used["images"].shape == (16, 8, 8, 1)
    assert used["codes"].shape == (16, 4, 4, 1) and used["codes"].dtype == jnp.int32
    assert {n: v.shape[0] for n, v in used["layers"].items()} == dict.fromkeys(
        ("encoder/mid_block_1", "latents", "codes"), 16
    )
    assert used["tokens"]["block_02"].shape == (16, 16, 16)
    assert used["small"].module == used["flow"].module.clone(dtype="bfloat16")
    assert used["small"].params["label"]["table"].dtype == jnp.bfloat16


KEY, IDS = jax.random.key(0), jnp.arange(8)


def walk(process, solver, predict, steps, noise):
    """A stream of one place from its noise to data."""
    return sample(
        {"x": process},
        {"x": solver},
        lambda x, t: {"x": predict(x["x"], t["x"])},
        example_keys(KEY, IDS),
        {"x": noise.shape[1:]},
        Steps(steps)(process),
        noise={"x": noise},
    )["x"]


def test_the_process_is_trained(shown):
    """Of a network that is silent the loss is a uniform arc's mean square, 1/3."""
    process = shown["Circular"]()
    model = toys.generator([Continuous("way", (6,), 2)], {"way": process})
    objective = Denoising(model.module, {"way": process}, {"way": Uniform()})
    x = jnp.linspace(-0.9, 0.9, 768).reshape(64, 6, 2)
    batch = {"streams": {"way": x}, "label": jnp.full(64, -1)}

    def loss(params):
        return objective(params, {}, batch, KEY, 0)[0]

    silent = jax.tree.map(jnp.zeros_like, model.params)
    still, slope = jax.jit(jax.value_and_grad(loss))(silent)
    assert abs(still - 1 / 3) < 4 * np.sqrt(4 / 45 / 768)
    assert max(abs(v).max() for v in jax.tree.leaves(slope)) > 1e-3
    t = jnp.linspace(0, 1, 64)
    x_t, arc = process.corrupt(x, t, KEY)
    assert -1 <= x_t.min() and x_t.max() < 1
    np.testing.assert_allclose(process.estimate(arc, x_t, t), x, atol=1e-5)


def test_the_process_walks_over_the_seam(shown):
    """To data that are all 0.9, from every angle."""

    def best(x, t):
        return shown["wrapped"](x - 0.9) / t[:, None]

    noise = jnp.linspace(-1, 0.99, 8)[:, None]
    found = walk(shown["Circular"](), Plain(), best, 5, noise)
    np.testing.assert_allclose(found, 0.9, atol=1e-5)


def test_the_solver_is_of_second_order(shown):
    """Half as long steps err a quarter, of N(0.7, 0.5^2) whose flow is known."""
    process, noise = Gaussian(Cosine()), jnp.full((8, 1), 4.0)

    def errors():
        flow = best_gaussian(process, 0.7, 0.5)
        for steps in (16, 32):
            x = walk(process, shown["Midpoint"](), flow, steps, noise)
            yield abs(x - flow_map(process, 0.7, 0.5, noise)).mean()

    coarse, fine = jax.jit(lambda: tuple(errors()))()
    assert 3.5 < coarse / fine < 4.5


def test_a_sampler_takes_both(shown):
    streams = [Continuous("way", (4,), 2), Continuous("x", (4,), 2)]
    processes = {"way": shown["Circular"](), "x": Gaussian()}
    model = toys.generator(streams, processes)
    draw = model.sampler(steps=2, solver={"x": shown["Midpoint"]()})
    found = draw(KEY, IDS)
    assert found["way"].shape == found["x"].shape == (8, 4, 2)
    assert abs(found["way"]).max() <= 1 and jnp.isfinite(found["x"]).all()


def test_the_modality_reads_what_it_writes(shown, tmp_path):
    ramps = shown["Ramps"](data_dir=str(tmp_path))
    record = shown["Record"](np.arange(16, dtype=np.float32)[:, None], suffix=".ramp")
    (tmp_path / "a.ramp").write_bytes(ramps.write(record))
    back = ramps.read(tmp_path / "a.ramp")
    np.testing.assert_array_equal(back.values, record.values)
    assert back.values.shape == ramps.shape


def test_the_evaluator_counts_over_batches(shown):
    x = np.arange(24.0).reshape(6, 4)
    moved = x + np.array([0, 0, 0.1, 0, 0.5, 0])[:, None]
    batches = [{"x": x[i : i + 4], "x_hat": moved[i : i + 4]} for i in (0, 4)]
    assert evaluated(shown["Exact"](), batches) == {"exact": 4 / 6}
    assert evaluated(shown["Exact"](0.2), batches) == {"exact": 5 / 6}
