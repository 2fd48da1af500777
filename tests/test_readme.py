"""What README shows of extending runs as it stands there."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.evaluation.evaluator import evaluated
from vqdit.tokenizer import Tokenizer

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(section):
    """The Python blocks of a section: indented lines that are no commands."""
    text = README.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^    .*\n|^\n(?=\n*    ))+", text, re.MULTILINE)
    code = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]
    return [block for block in code if re.search(r"^(import|from|class)", block, re.M)]


@pytest.fixture(scope="module")
def shown():
    """The names that README's blocks define, one after the other."""
    names = {"__name__": __name__}
    for block in blocks("Extend"):
        exec(compile(block, str(README), "exec"), names)
    return names


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
