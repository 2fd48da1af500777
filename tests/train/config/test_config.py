"""Config files: what is found in them, and what is said when it is not."""

import dataclasses

import pytest

from tests.train.experiments import JOINT, TOKENIZER
from train.config import load_config
from train.config.options.paths import diff
from train.config.weights import Weights
from train.errors import BadInput

FILE = '''"""A config file."""

from tests.train.experiments import TOKENIZER
from train.config import replaced

CONFIG = TOKENIZER
VARIANTS = {
    "batch": {"run.batch": 32},
    "whole": replaced(CONFIG, {"run.batch": 32}),
    "misspelt": {"run.bach": 32},
    "wrong": 3,
}
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "digits.py"
    path.write_text(FILE)
    return path


def test_config_and_variants(file):
    assert load_config(file) == TOKENIZER
    for variant in ("batch", "whole"):
        assert diff(load_config(str(file)), load_config(file, variant)) == {
            "run.batch": (16, 32)
        }


@pytest.mark.parametrize(
    "variant, message",
    [
        ("batc", "digits.py has no variant 'batc'; did you mean batch"),
        ("zzz", "no variant 'zzz'; there are batch, whole, misspelt, wrong"),
        ("wrong", r"VARIANTS\['wrong'\] is no StageOne"),
        ("misspelt", r"digits.py: VARIANTS\['misspelt'\]: run.bach does not exist"),
    ],
)
def test_unknown_variants_name_the_known(file, variant, message):
    with pytest.raises(BadInput, match=message):
        load_config(file, variant)


def test_a_missing_file_names_the_nearest(file):
    with pytest.raises(BadInput, match="no config file .*; did you mean .*/digits.py"):
        load_config(file.with_name("digit.py"))
    with pytest.raises(BadInput, match="did you mean .*/digits.py"):
        load_config(file.with_suffix(""))
    # Of a shipped name in another folder, or with another suffix, none is meant.
    for path in ("nowhere/at_all.py", "nowhere/demo_flow.py", "demo_flow.json"):
        with pytest.raises(BadInput, match=f"there is no config file {path}"):
            load_config(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("\nCONFIG = (", "broken.py, line 2: '.' was never closed"),
        (
            "import gone_module",
            "broken.py, line 1: ModuleNotFoundError: .*gone_module.*; if it is your "
            "own, begin the command with PYTHONPATH=FOLDER$",
        ),
        ("\n\nx = 1 / 0", "broken.py, line 3: ZeroDivisionError: division by zero$"),
        (
            "from vqdit.quantizers import FSQ\nFSQ((8, 1))",
            "broken.py, line 2: ValueError: FSQ.levels=.*each at least 2",
        ),
        ("x = 1", r"has no experiment; write CONFIG = "),
        ("CONFIG = {}", r"has no experiment; write CONFIG = "),
    ],
)
def test_a_file_that_fails_names_its_line(tmp_path, monkeypatch, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    for each in (path, path.name):  # Python calls either by its absolute path
        with pytest.raises(BadInput, match=message) as caught:
            load_config(each)
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_written_are_those_of_before():
    usual = {"commit": 0.25, "codebook": 1.0, "kl": 1e-6}
    usual |= {"entropy": 0.1, "orthogonal": 10.0}
    assert Weights().quantizer == usual
    assert Weights(quantizer={"kl": 1.0, "new": 2.0}).quantizer == usual | {
        "kl": 1.0,
        "new": 2.0,
    }


def test_a_weight_that_moved_into_the_quantizers_says_so(tmp_path):
    path = tmp_path / "old.py"
    path.write_text("from train.config import Weights\nWeights(entropy_steps=3)")
    with pytest.raises(BadInput, match="line 2: .*er={'entropy': Ramp.START, END, ST"):
        load_config(path)
    path.write_text("from train.config import Weights\nWeights(commit=0.3)")
    with pytest.raises(
        BadInput, match="line 2: .*write Weights.quantizer={'commit': W"
    ):
        load_config(path)


def test_experiments_are_values():
    assert dataclasses.replace(TOKENIZER) == TOKENIZER
    assert dataclasses.replace(JOINT, label_dropout=0.2) != JOINT
    with pytest.raises(dataclasses.FrozenInstanceError):
        TOKENIZER.run.steps = 3


@pytest.mark.parametrize("where", ["train.data", "train.data.images"])
def test_a_file_of_an_earlier_version_is_told_where_its_names_are(tmp_path, where):
    path = tmp_path / "old.py"
    path.write_text(f"from {where} import Images\nCONFIG = None\n")
    with pytest.raises(BadInput, match="No module named 'train.data'; .*modalities"):
        load_config(path)
