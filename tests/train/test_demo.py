"""train.demo without its trainings."""

import dataclasses

import numpy as np
import pytest

from tests import toys
from train import demo
from train.config import load_config
from train.pipeline.cache import write_cache
from train.report.demo_pages import SETTINGS
from vqdit.values import describe

RECORD = [{"codes": np.zeros((2, 2, 1), int), "label": 0}]


@pytest.mark.parametrize("name", ["tokenizer", *SETTINGS])
def test_every_model_has_the_seed_that_is_written(name):
    own = load_config(f"demo_{name}").run
    assert demo._experiment(name, 7).run == dataclasses.replace(own, seed=7)
    assert demo._experiment(name, 0).run == own


def test_a_cache_of_another_tokenizer_is_made_anew(tmp_path):
    codec = toys.codec()
    assert not demo._fits(tmp_path / "cache", codec)
    held = {"tokenizer": describe(codec.contract)}
    write_cache(tmp_path / "cache", RECORD, held, 1)
    assert demo._fits(tmp_path / "cache", codec)
    contract = dataclasses.replace(codec.contract, fingerprint="f" * 64)
    other = dataclasses.replace(codec, contract=contract)
    assert not demo._fits(tmp_path / "cache", other)
    write_cache(tmp_path / "bare", RECORD, {}, 1)
    assert not demo._fits(tmp_path / "bare", codec)
