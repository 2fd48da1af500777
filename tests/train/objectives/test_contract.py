"""What a tokenizer's contract says of its latents, and of the data that it is of."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np

from tests import quick, toys
from tests.train.experiments import TOKENIZER
from tests.train.objectives.test_keys import Decoder, Encoder
from train.config.override import replaced
from train.modalities import Audio, Images, Ranges, Series
from train.objectives import contract as contracts
from train.objectives.contract import averaged, finished, summary, unfinished
from train.pipeline import open_examples, whole
from vqdit.quantizers import MultiScaleQuantizer, VectorQuantizer
from vqdit.tokenizer import Tokenizer
from vqdit.trained.contract import refuse_mismatch

DIGITS = Images(name="digits", size=8, channels=1, threads=0)
PLAIN = dataclasses.replace(
    TOKENIZER, data=DIGITS, kmeans=None, model=Tokenizer(Encoder(), Decoder(), None, 2)
)
ONE_ROW = {"length": 16, "channels": 1, "threads": 0}


def drawn(experiment):
    return toys.drawn(experiment.model, jnp.zeros((1, *experiment.data.shape)))


def test_the_moments_are_those_of_the_training_set_or_of_some_of_it():
    variables = drawn(PLAIN)
    x = whole(DIGITS, train=True)["x"] / np.float32(127.5) - 1
    z = quick.apply(PLAIN.model, variables, jnp.asarray(x), method="latents")
    z = np.asarray(z, np.float64)
    some = open_examples(DIGITS, True).spaced(100)
    for most, part in ((None, z), (100, z[some])):
        contract = finished(PLAIN, variables, most).contract
        np.testing.assert_allclose(contract.mean, part.mean((0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(contract.std, part.std((0, 1, 2)), rtol=1e-5)
    # What never varies is divided by next to nothing, and not by 0.
    still = finished(PLAIN, jax.tree.map(jnp.zeros_like, variables), 1).contract
    assert still.mean == (0, 0)
    np.testing.assert_allclose(still.std, 1e-6, rtol=1e-6)


def test_the_contract_states_the_data_as_they_are_trained_on(tmp_path):
    data = Ranges(name="scenes", rows=8, azimuth=16, examples=16, threads=0)
    channels = data.shape[-1]
    model = PLAIN.model.clone(decoder=Decoder(out=channels))
    ranges = dataclasses.replace(PLAIN, data=data, model=model)
    contract = finished(ranges, drawn(ranges), 1).contract
    held = open_examples(data, True)
    assert held.offset and held.offset == contract.offset != contract.scale
    assert held.scale == contract.scale and data.preparation == contract.preparation
    assert (contract.kind, contract.shape) == (data.kind, data.shape)
    assert contract.grid == contract.code_grid == (4, 8) and contract.channels == 2
    assert not contract.codes
    codec = toys.sound()
    sounds = dataclasses.replace(
        PLAIN, data=Audio(rate=2000, length=16, threads=0), model=codec.module
    )
    contract = unfinished(sounds, codec.variables).contract
    assert contract.rate == 2000 and contract.code_grid == (8,)
    (tmp_path / "a.csv").write_text("hot\n" + "1\n2\n" * 50)
    rows = Series(name="folder", data_dir=str(tmp_path / "a.csv"), **ONE_ROW)
    sensed = unfinished(
        dataclasses.replace(sounds, data=rows), codec.variables
    ).contract
    assert sensed.names == ("hot",) and not contract.names
    refuse_mismatch(sensed, dataclasses.replace(sensed, names=()), "a cache of before")


def test_while_training_goes_on_nothing_is_known_of_latents():
    """And a program for one set of weights serves all others."""
    variables = drawn(PLAIN)
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    one, two = (unfinished(PLAIN, each) for each in (variables, other))
    assert one.contract == two.contract
    assert one.contract.mean == (0, 0) and one.contract.std == (1, 1)
    kernel = lambda codec: codec.variables["params"]["encoder"]["conv_out"]["kernel"]
    np.testing.assert_array_equal(kernel(two), kernel(one) + 1)
    first, second = (finished(PLAIN, each, 1) for each in (variables, other))
    assert first.contract.fingerprint != second.contract.fingerprint
    assert first.contract.fingerprint != one.contract.fingerprint


def test_weights_are_on_the_device_before_the_first_batch(monkeypatch):
    """As arrays of NumPy they would go there with every one."""
    latents, seen = contracts.latents_of, []

    def noted(model, variables, x):
        seen.extend(jax.tree.leaves(variables))
        return latents(model, variables, x)

    monkeypatch.setattr(contracts, "latents_of", noted)
    finished(PLAIN, jax.device_get(drawn(PLAIN)), 1)
    assert seen and all(isinstance(leaf, jax.Array) for leaf in seen)


def test_what_is_used_are_averaged_weights_and_codes():
    stats = {"codebook": "codes", "usage": "counts", "perceptual": "frozen"}
    state = types.SimpleNamespace(params="raw", ema="averaged", stats=stats)
    assert averaged(state) == {"params": "averaged", "codebook": "codes"}


def test_a_run_says_how_many_latents_and_bits_an_example_has():
    """Of 4 bits a latent, or of those of three scales, 1 + 4 + 16; without a quantizer
    bits are not spoken of."""
    scales = MultiScaleQuantizer(VectorQuantizer(8, 2), ((1, 1), (2, 2), (4, 4)))
    for model, said in (
        (TOKENIZER.model, "16 latents of 4 an example, 64 bits"),
        (PLAIN.model, "16 latents of 2 an example"),
        (
            PLAIN.model.clone(quantizer=scales, dim=None),
            "16 latents of 2 an example, 63 bits",
        ),
    ):
        experiment = replaced(TOKENIZER, {"data": DIGITS, "model": model})
        x = jnp.zeros((1, *DIGITS.shape))
        stats = dict(jax.eval_shape(model.init, jax.random.key(0), x))
        state = types.SimpleNamespace(params=stats.pop("params"), stats=stats)
        assert summary(experiment, state) == f"{said}; 1,437 examples"
