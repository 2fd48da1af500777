"""An experiment made of a package of the user's own, through all programs."""

import importlib
import json
import sys

import jax
import numpy as np
import pytest

import vqdit
from tests.train.devices import only_one
from tests.train.experiments import TOKENIZER
from train import evaluate, sample, stage_one, stage_two
from train.config import load_config, packages
from train.config.command import parse
from train.config.override import replaced
from train.config.validate import validate
from train.config.workdir import begun, open_workdir, read_config, save_config
from train.errors import BadInput
from train.objectives.bundles import open_bundle
from train.runtime.launch import _check_owner
from vqdit.trained.contract import contract_of
from vqdit.values import describe

OWN = """
import flax.linen as nn
import jax.numpy as jnp

from vqdit.quantizers import Quantized, straight_through


class Rounding(nn.Module):
    dim: int
    levels: int = 8
    code_counts = property(lambda self: (self.levels,) * self.dim)

    def decode(self, codes):
        return codes / (self.levels - 1) * 2.0 - 1.0

    def __call__(self, z, *, train=False, key=None):
        scaled = (jnp.tanh(z) + 1) / 2 * (self.levels - 1)
        codes = jnp.round(scaled).astype(jnp.int32)
        q = self.decode(codes)
        latents = straight_through(jnp.tanh(z), q) if train else q
        return Quantized(latents, codes, {}, {})
"""
FIRST = """
from mine.q import Rounding
from tests.train.test_stages import tokenizer

CONFIG = tokenizer(Rounding(4))
"""
SECOND = """
from train.config import Run, StageTwo, Stream
from train.modalities import Images
from vqdit.diffusion import Gaussian
from vqdit.dit import DiT
from vqdit.nn import Block

CONFIG = StageTwo(
    name="second",
    data=Images(name="digits", size=8, channels=1, threads=0),
    model=DiT(width=16, depth=1, classes=10, block=Block(2)),
    streams={"image": Stream(Gaussian(), "tok")},
    run=Run(steps=2, batch=16),
)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with package `mine`, in which the process has not named it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "q.py").write_text(OWN)
    (tmp_path / "first.py").write_text(FIRST)
    (tmp_path / "second.py").write_text(SECOND)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packages, "_trusted", set())
    yield tmp_path
    forget(monkeypatch)


one_device = pytest.fixture(only_one)


def forget(monkeypatch):
    """As a new process is, which has imported and trusted nothing."""
    monkeypatch.setattr(packages, "_trusted", set())
    for name in [n for n in sys.modules if n.partition(".")[0] == "mine"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def own_experiment():
    quantizer = importlib.import_module("mine.q").Rounding(4)
    return replaced(TOKENIZER, {"model.quantizer": quantizer})


def test_a_run_of_ones_own_class_is_resumed_by_the_same_experiment(mine):
    experiment = own_experiment()
    open_workdir(mine / "run", experiment)
    (mine / "run" / "checkpoints" / "3").mkdir(parents=True)
    open_workdir(mine / "run", experiment)
    assert begun(mine / "run", experiment, False) == 3
    _check_owner(mine / "run", describe(experiment), experiment, False, ())
    with pytest.raises(BadInput, match="--packages=mine; write --force to replace"):
        open_workdir(mine / "run", TOKENIZER)


def test_no_file_imports_a_package_that_the_user_has_not_named(mine, monkeypatch):
    save_config(own_experiment(), mine / "config.json")
    forget(monkeypatch)
    with pytest.raises(BadInput, match="if it is your own, write --packages=mine$"):
        read_config(mine / "config.json")
    assert "mine.q" not in sys.modules
    with pytest.raises(BadInput, match="--packages: 'shutil' is Python's own"):
        parse(["--packages=shutil"], None, {})
    parse(["--packages=mine"], None, {})
    assert read_config(mine / "config.json") == own_experiment()


def test_a_config_file_says_whose_classes_are_read(mine, monkeypatch):
    save_config(own_experiment(), mine / "config.json")
    forget(monkeypatch)
    (mine / "exp.py").write_text(
        "from tests.train.test_own_packages import own_experiment\n"
        "CONFIG = own_experiment()\n"
    )
    assert load_config(mine / "exp.py") == read_config(mine / "config.json")


def test_a_bundle_of_ones_own_class_opens_where_it_is_named(mine, monkeypatch):
    small = {"model.encoder.channels": 4, "model.decoder.channels": 4}
    small |= {"model.encoder.multipliers": (1,), "model.decoder.multipliers": (1,)}
    module = replaced(own_experiment(), small).model
    x = np.zeros((1, *TOKENIZER.data.shape))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), dict(shapes))
    signal = {"kind": "image", "shape": TOKENIZER.data.shape}
    grid = module.grid(TOKENIZER.data.shape[:-1])
    contract = contract_of(module, signal, grid, (0,) * 4, (1,) * 4, variables)
    vqdit.save(mine / "tok", vqdit.Codec(module, variables, contract))
    forget(monkeypatch)
    with pytest.raises(BadInput, match="^--bundle: .*write --packages=mine$"):
        open_bundle(mine / "tok", vqdit.Codec, "--bundle")
    assert "mine.q" not in sys.modules
    parse(["--packages=mine"], None, {})
    assert open_bundle(mine / "tok", vqdit.Codec, "--bundle").contract == contract


@pytest.mark.parametrize("name", ["mein", "mine.q", "__main__", "a b"])
def test_a_package_that_is_not_there_is_refused(name, mine):
    with pytest.raises(BadInput, match="--packages: Python finds no package"):
        parse([f"--packages={name}"], None, {})


def test_a_class_in_a_config_file_is_refused_before_anything_compiles(mine):
    (mine / "exp.py").write_text(f"{OWN}\n{FIRST.replace('from mine.q', '# ')}")
    with pytest.raises(BadInput, match="config_exp.Rounding.*top of a module"):
        validate(load_config(mine / "exp.py"), 1)


@pytest.mark.slow
def test_programs_train_draw_and_score_a_class_of_ones_own(
    mine, one_device, monkeypatch, capsys
):
    def program(main, *argv):
        forget(monkeypatch)
        main(argv)

    one = ("--config=first.py", "--workdir=tok")
    program(stage_one.main, *one)
    program(stage_one.main, *one, "--config.run.steps=12", "--reschedule")
    assert "continuing from step 10" in capsys.readouterr().err
    few = ("--most=16", "--baseline=False")
    program(evaluate.main, "--workdir=tok", "--packages=mine", *few)
    assert json.loads((mine / "tok" / "evaluation.json").read_text())["psnr_db"]
    two = ("--config=second.py", "--workdir=dit")
    with pytest.raises(BadInput, match="streams.image.tokenizer: .*--packages=mine$"):
        program(stage_two.main, *two)
    program(stage_two.main, *two, "--packages=mine")
    out = ("--workdir=dit", "--num=2", "--steps=2", "--out=x.npz", "--packages=mine")
    program(sample.main, *out)
    assert (mine / "x.npz").exists()
